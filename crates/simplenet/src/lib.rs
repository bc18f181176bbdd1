//! An image anomaly detector: learns from images of good parts, then says of others whether and where they differ.
//!
//! A [`Detector`] is trained on good images as a [`DetectorConfig`] says, and kept in one file. It makes a [`Prediction`]
//! of an image: a score, a [`Verdict`] by a threshold that was calibrated on held-out good images, and the [`Region`]s where
//! the defect is. Its [`Card`] says what it was made of and what can be expected of it, a [`TestReport`] how good it is on
//! labelled images.
//!
//! Below it are the parts that experiments use as well: a [`Pipeline`] turns image files into a bank of patch features, a
//! head from `simplenet-heads` is trained on it, [`Scores`] come out, and an [`Evaluation`] says how good they are.
//! Everything that decides a number is in one [`config::Config`].
//!
//! ```
//! use simplenet::{Detector, DetectorConfig, LoadOptions, Rgb8, Source, Verdict};
//! use simplenet_data::toy::{CATEGORIES, Shot, render};
//!
//! // Twelve photographs of a good material, as a camera would leave them in a folder.
//! let folder = tempfile::tempdir()?;
//! let mut images = Vec::new();
//! for index in 0..12 {
//!     let path = folder.path().join(format!("{index}.png"));
//!     render(0, &CATEGORIES[0], Shot::Train { index }).image.save(&path)?;
//!     images.push(Source::File(path));
//! }
//!
//! let quick = DetectorConfig { steps: Some(30), folds: 2, ..DetectorConfig::default() };
//! let detector = Detector::train(&images, &quick, |_| {})?;
//! let file = folder.path().join("weave.simplenet");
//! detector.save(&file)?;
//!
//! let loaded = Detector::load(&file, &LoadOptions::default())?;
//! let torn = render(0, &CATEGORIES[0], Shot::Defective { defect: 0, index: 4 }).image;
//! let torn = Rgb8::new(256, 256, torn.into_raw())?;
//! let prediction = loaded.predict(&torn)?;
//! assert_eq!(prediction.verdict, Verdict::Defect);
//! assert!(prediction.regions[0].area > 0);
//! assert_eq!(prediction, detector.predict(&torn)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod atomic;
pub mod config;
pub mod detector;
pub mod device;
mod error;
mod evaluation;
mod method;
mod photo;
mod pipeline;

pub use atomic::write_atomic;
pub use detector::{
    AnomalyMap, Card, Detector, DetectorConfig, LoadOptions, Peak, Prediction, Progress, Region, TestReport, Verdict,
};
pub use error::Error;
pub use evaluation::{Evaluation, Scores, Truth};
pub use method::{Method, Model, Network};
pub use photo::{Photo, is_upright, open_upright};
pub use pipeline::{BankMemory, Features, Pipeline};
pub use simplenet_data::{Rgb8, Source};
