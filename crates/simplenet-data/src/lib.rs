//! Data sets on disk to pixels.
//!
//! A [`Dataset`] is two lists of [`Sample`]s: normal ones to learn from, and normal and anomalous ones to judge by. A
//! sample says where its pixels lie ([`Source`]), which defect it shows, and which file marks that defect. Listing
//! decodes nothing: [`mvtec`], [`folder`] and [`cifar10`] know only layouts. Pixels come later, a batch at a time:
//! [`load_images`] turns samples into a network's input and [`load_masks`] into its truth, both as one [`Preprocess`]
//! says.
//!
//! Images are 8-bit and interleaved ([`Rgb8`], [`Gray8`]) until [`Preprocess::apply`] makes them `f32` in the order
//! channel, row, column. Every step is the one that the authors' code takes with Pillow and torchvision, bit for bit;
//! where a decoder leaves room (JPEG), [`Rgb8::open`] says so.
//!
//! This crate knows nothing of tensors, networks or experiments.
//!
//! ```
//! use simplenet_data::{Preprocess, Rgb8, folder, load_images};
//!
//! # let camera = tempfile::tempdir()?;
//! # for name in ["0001.png", "0002.png"] {
//! #     image::RgbImage::from_pixel(40, 30, image::Rgb([255, 0, 51])).save(camera.path().join(name))?;
//! # }
//! let dataset = folder::load(camera.path())?;
//! assert_eq!(dataset.train.len(), 2);
//!
//! // Shorter side to 32, the middle 28 x 28 of it, mean 0.5 and deviation 0.5.
//! let preprocess = Preprocess::new(32, 28, [0.5; 3], [0.5; 3])?;
//! let batch = load_images(&dataset.train, &preprocess)?;
//! assert_eq!(batch.len(), 2 * 3 * 28 * 28);
//!
//! // The same from pixels that are already in memory.
//! let frame = Rgb8::new(40, 30, [255, 0, 51].repeat(40 * 30))?;
//! assert_eq!(preprocess.apply(&frame), batch[..preprocess.input_len()]);
//! assert_eq!(batch[0], 1.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod cifar10;
mod decode;
mod error;
pub mod fetch;
mod files;
pub mod folder;
mod labelled;
mod mask;
pub mod mvtec;
mod pixels;
mod preprocess;
mod resize;
mod sample;
pub mod toy;

pub use decode::{MAX_FILE_BYTES, MAX_PIXELS, read_image_file};
pub use error::{Error, Result};
pub use files::is_image;
pub use mask::{MaskRule, open_mask};
pub use pixels::{Gray8, Image8, Rgb8};
pub use preprocess::{Preprocess, centre_offset, load_images, load_masks, resized_size};
pub use resize::Window;
pub use sample::{Dataset, GOOD, Sample, Source};
