//! Pixels to patches: pretrained backbones, their checkpoints, patch features.
//!
//! An [`Arch`] names a network and [`Arch::describe`] says what images it expects. A [`Checkpoint`] is a file of weights.
//! Together they make a [`Backbone`]: the network up to some [`Stage`], batch normalisation folded away, identified by the
//! SHA-256 of its weights. An [`Extractor`] turns images into one row of features per patch, as a [`FeatureConfig`] says;
//! [`DeviceExtractor`] does the same through candle, `GpuExtractor` with our own kernels on a GPU.
//!
//! The backbone is frozen. This crate knows nothing of training, data sets or the network.
//!
//! ```
//! use simplenet_backbone::{Arch, Backbone, Embedding, Extractor, FeatureConfig, Precision, Stage};
//!
//! let backbone = Backbone::embedded(Arch::EfficientNetLite0, Stage::Layer3)?;
//! let config = FeatureConfig { stages: vec![Stage::Layer2, Stage::Layer3], patch: 3, embedding: Embedding::Mean };
//! let extractor = Extractor::new(&backbone, config, Precision::F32)?;
//! assert_eq!(extractor.dim(), 40 + 112);
//!
//! let images = vec![0.0; 2 * 3 * 64 * 48];
//! let rows = extractor.extract(&images, [2, 3, 64, 48])?;
//! assert_eq!((rows.n, rows.h, rows.w, rows.dim), (2, 8, 6, 152));
//! # Ok::<(), simplenet_backbone::BackboneError>(())
//! ```

mod arch;
mod backbone;
mod checkpoint;
mod efficientnet;
mod error;
mod extractor;
#[cfg(feature = "cuda")]
mod gpu;
mod network;
mod pth;
mod resnet;

pub use arch::{Arch, Description, Stage};
pub use backbone::Backbone;
pub use checkpoint::Checkpoint;
pub use error::BackboneError;
pub use extractor::{DeviceExtractor, Embedding, Extractor, FeatureConfig};
#[cfg(feature = "cuda")]
pub use gpu::GpuExtractor;
pub use simplenet_kernels::engine::Precision;
pub use simplenet_kernels::patch::{Layer, Rows, join};
