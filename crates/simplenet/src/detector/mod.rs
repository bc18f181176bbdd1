//! The detector: trained once, then one verdict per image.

pub mod calibration;
pub mod card;
mod file;
mod geometry;
mod hygiene;
mod prediction;
mod reference;
mod roi;
mod settings;
mod training;

use std::borrow::Borrow;
use std::path::Path;

use rayon::prelude::*;
use simplenet_data::Rgb8;
use simplenet_heads::{Head, Scorer};
use simplenet_kernels::maps;

pub use self::card::Card;
pub use self::file::LoadOptions;
pub use self::geometry::{Geometry, PixelBox};
pub use self::prediction::{AnomalyMap, Peak, Prediction, Region, Verdict};
pub use self::settings::DetectorConfig;
pub use self::training::Progress;

use self::calibration::Contract;
use self::card::ThresholdCard;
use self::prediction::Decision;
use self::reference::Reference;
use self::roi::Roi;
use crate::error::Error;
use crate::photo::open_upright;
use crate::pipeline::Pipeline;

/// A trained detector: backbone, head, threshold, and the card that says where they come from.
///
/// The way from pixels to scores is that of [`crate::Scores`] and [`crate::Evaluation`], so a table, a prediction and a
/// threshold speak of the same numbers. They do not depend on the number of threads, nor on what else is in a batch.
pub struct Detector {
    config: DetectorConfig,
    card: Card,
    pipeline: Pipeline,
    head: Head,
    scorer: Scorer,
    /// `None` where the whole crop is judged.
    roi: Option<Roi>,
    references: Vec<Reference>,
}

/// What turns a network input into a score.
#[derive(Clone, Copy)]
struct Parts<'a> {
    pipeline: &'a Pipeline,
    scorer: &'a Scorer,
    roi: Option<&'a Roi>,
    blur_sigma: f32,
}

/// Patch scores and anomaly map of one image.
struct Scored {
    score: f32,
    /// `[side, side]`.
    map: Vec<f32>,
}

impl Detector {
    /// Judges an upright image.
    ///
    /// # Errors
    /// Where the image is too small for the network or a score is not a number.
    pub fn predict(&self, image: &Rgb8) -> Result<Prediction, Error> {
        let input = self.pipeline.preprocess().apply(image);
        let mut predictions = self.predict_prepared(&input, &[self.geometry(image)])?;
        predictions
            .pop()
            .ok_or_else(|| Error::Internal("one image gave no prediction"))
    }

    /// Decodes a file, turns it upright as EXIF says and judges it.
    ///
    /// # Errors
    /// As [`open_upright`] and [`Detector::predict`].
    pub fn predict_file(&self, path: impl AsRef<Path>) -> Result<Prediction, Error> {
        self.predict(&open_upright(path)?)
    }

    /// Judges several images at once; the same predictions as one by one.
    ///
    /// # Errors
    /// As [`Detector::predict`].
    pub fn predict_batch<I: Borrow<Rgb8> + Sync>(&self, images: &[I]) -> Result<Vec<Prediction>, Error> {
        let geometries: Vec<Geometry> = images.iter().map(|image| self.geometry(image.borrow())).collect();
        let preprocess = self.pipeline.preprocess();
        let inputs: Vec<Vec<f32>> = images
            .par_iter()
            .map(|image| preprocess.apply(image.borrow()))
            .collect();
        self.predict_prepared(&inputs.concat(), &geometries)
    }

    /// Judges network inputs `[images, 3, crop, crop]`, as [`Pipeline::preprocess`] makes them, of images with these
    /// geometries.
    ///
    /// # Errors
    /// As [`Detector::predict`].
    pub fn predict_prepared(&self, inputs: &[f32], geometries: &[Geometry]) -> Result<Vec<Prediction>, Error> {
        let scored = self.parts().score_prepared(inputs)?;
        let decision = self.decision();
        let judged = scored.into_iter().zip(geometries);
        judged
            .map(|(scored, geometry)| decision.judge(scored.score, scored.map, *geometry))
            .collect()
    }

    /// Where the crop of an image of this size lies.
    pub fn geometry(&self, image: &Rgb8) -> Geometry {
        let sizes = self.config.model.preprocess;
        Geometry::new(image.width(), image.height(), sizes.resize, sizes.crop)
    }

    /// What it was trained with.
    pub fn config(&self) -> &DetectorConfig {
        &self.config
    }

    /// Where it comes from and what can be expected of it.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// From pixels to patch features.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The trained part.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// From which image score on a part is a defect.
    pub fn threshold(&self) -> f32 {
        self.card.calibration.threshold.value()
    }

    /// Chooses thresholds for a false-reject rate from the held-out scores in the card, for images and for pixels.
    ///
    /// # Errors
    /// [`Error::Calibration`] for a rate that is none.
    pub fn set_max_false_reject(&mut self, rate: f64) -> Result<Contract, Error> {
        let calibration = &mut self.card.calibration;
        let scores: Vec<f32> = calibration.held_out.iter().map(|image| image.score).collect();
        let peaks: Vec<f32> = calibration.held_out.iter().map(|image| image.peak).collect();
        let contract = Contract::new(&scores, rate)?;
        calibration.pixel_threshold = Contract::new(&peaks, rate)?.threshold;
        calibration.threshold = ThresholdCard::Contract(contract);
        Ok(contract)
    }

    /// Sets the threshold, and where it comes from. The pixel threshold stays.
    ///
    /// # Errors
    /// [`Error::Calibration`] where it is not finite.
    pub fn set_threshold(&mut self, threshold: ThresholdCard) -> Result<(), Error> {
        if !threshold.value().is_finite() {
            return Err(Error::Calibration(format!(
                "{} is no threshold\n\nhint: a threshold is a finite number on the scale of the scores",
                threshold.value()
            )));
        }
        self.card.calibration.threshold = threshold;
        Ok(())
    }

    /// Sets how many source pixels a region must have to be a defect.
    pub fn set_min_defect_area(&mut self, pixels: u64) {
        self.card.calibration.min_defect_area = pixels;
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            pipeline: &self.pipeline,
            scorer: &self.scorer,
            roi: self.roi.as_ref(),
            blur_sigma: self.config.model.evaluate.blur_sigma,
        }
    }

    fn decision(&self) -> Decision {
        let calibration = &self.card.calibration;
        Decision {
            threshold: calibration.threshold.value(),
            pixel_threshold: calibration.pixel_threshold,
            min_area: calibration.min_defect_area,
        }
    }
}

impl Parts<'_> {
    /// The one way from network inputs to scores and maps.
    fn score_prepared(&self, inputs: &[f32]) -> Result<Vec<Scored>, Error> {
        if inputs.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.pipeline.features(inputs)?;
        let [height, width] = self.pipeline.grid();
        let per_image = height * width * self.pipeline.dim();
        rows.chunks_exact(per_image).map(|rows| self.score_rows(rows)).collect()
    }

    /// Scores the patch rows of one image.
    fn score_rows(&self, rows: &[f32]) -> Result<Scored, Error> {
        let [height, width] = self.pipeline.grid();
        let side = self.pipeline.preprocess().crop();
        let patches = self.scorer.score(rows)?;
        let shape = [1, height, width];
        let mut map = maps::anomaly_maps(&patches, shape, [side, side], self.blur_sigma)?;
        let score = match self.roi {
            None => maps::image_scores(&patches, shape)?,
            Some(roi) => {
                roi.flatten_outside(&mut map);
                let judged = roi.judged(&patches);
                maps::image_scores(&judged, [1, 1, judged.len()])?
            }
        };
        Ok(Scored { score: score[0], map })
    }
}
