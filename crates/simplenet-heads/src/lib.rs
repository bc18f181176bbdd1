//! Patches to scores: the trainable part of SimpleNet.
//!
//! A [`Bank`] holds the patch features of an image set, extracted once because the backbone is frozen. A [`Head`] is a
//! feature adaptor and a discriminator; [`train`] teaches it, on a bank of normal images, to tell their features from the
//! same features with Gaussian noise. A [`Scorer`] is a trained head folded for inference: patch features in, one score
//! per patch out, higher for the more anomalous. A [`Standardizer`] may stand before all of it.
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use simplenet_heads::{
//!     Adaptor, BankBuilder, Error, Head, HeadConfig, Loss, Optimizer, Precision, Rule, TrainConfig, train,
//! };
//!
//! // Eight images of 20 patches with 6 channels, all near (1, 1, 1, 1, 1, 1).
//! let mut bank = BankBuilder::new(6, 20, 1 << 20, &std::env::temp_dir())?;
//! for image in 0..8 {
//!     let rows: Vec<f32> = (0..120).map(|i| 1.0 + 0.01 * ((i * 7 + image * 3) % 11) as f32).collect();
//!     bank.push(&rows)?;
//! }
//! let bank = bank.finish()?;
//!
//! let adam = |learning_rate| Optimizer { rule: Rule::Adam, learning_rate, weight_decay: 1e-5 };
//! let config = TrainConfig {
//!     epochs: 60,
//!     batch_images: 4,
//!     noise: 0.2,
//!     loss: Loss::TruncatedL1 { positive_margin: 0.5, negative_margin: -0.5 },
//!     adaptor_optimizer: adam(1e-3),
//!     discriminator_optimizer: adam(2e-3),
//!     precision: Precision::F32,
//! };
//! let mut head = Head::new(HeadConfig { dim: 6, hidden: 32, adaptor: Adaptor::Linear { bias: false } }, 0)?;
//! train(&mut head, &bank, &config, 0, |_, _| Ok::<_, Error>(ControlFlow::Continue(())))?;
//!
//! let normal = head.score(bank.image(0))?;
//! let anomalous = head.score(&[1.0, 1.0, 2.0, 0.0, 1.0, 2.0])?;
//! assert!(normal.iter().all(|&score| score < anomalous[0]));
//! # Ok::<(), Error>(())
//! ```
//!
//! This crate knows nothing of images, backbones, metrics or files on disk other than a bank's temporary one.
//!
//! [`Step`] is one training step on the CPU, with the noise as an argument; the loop around it does no arithmetic of its
//! own, so another device needs another step and nothing else: `cuda` has the one for GPUs.

mod bank;
mod config;
#[cfg(feature = "cuda")]
pub mod cuda;
mod error;
mod file;
mod head;
mod hidden;
mod layered;
mod layout;
mod loss;
mod optimizer;
pub mod padim;
pub mod patchcore;
mod random;
mod scalar;
mod scorer;
mod scores;
mod standardize;
mod step;
mod sums;
mod train;

pub use crate::bank::{Bank, BankBuilder};
pub use crate::config::{Adaptor, HeadConfig, Loss, Optimizer, PrecisionName, Rule, TrainConfig};
pub use crate::error::{Error, Result};
pub use crate::file::StoredTensor;
pub use crate::head::{Head, NamedTensor};
pub use crate::layered::LayeredScorer;
pub use crate::loss::StepReport;
pub use crate::random::fill_noise;
pub use crate::scalar::Scalar;
pub use crate::scorer::Scorer;
pub use crate::scores::ImageScores;
pub use crate::standardize::Standardizer;
pub use crate::step::Step;
pub use crate::train::{EpochReport, train};
pub use simplenet_kernels::engine::Precision;
