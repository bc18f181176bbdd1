//! Scores and truth to numbers: how well do anomaly scores separate defects from what is normal?
//!
//! Everything here compares *scores* (`&[f32]`, higher = more anomalous) with the *truth* (`&[bool]`, `true` = anomalous).
//! A score belongs to an image or to a pixel; the definitions are the same. Pixels also have a [`MapShape`], which says
//! where one image ends, and their anomalous pixels form [`Regions`]: the separate defects that AUPRO weighs equally.
//!
//! | number | what it says | range | chance level |
//! |---|---|---|---|
//! | [`auroc`] | how often an anomalous score exceeds a normal one | 0 to 1 | 0.5 |
//! | [`average_precision`] | precision, averaged over all recalls | 0 to 1 | share of anomalous |
//! | [`f1_max`] | the best F1 that any one threshold reaches, and that threshold | 0 to 1 | depends on the share |
//! | [`aupro`] | share of each defect found, averaged over false-positive rates up to a limit | 0 to 1 | half the limit |
//! | [`pro_code`] | the SimpleNet authors' own variant of it; not comparable with AUPRO | 0 to 1 | none |
//!
//! [`image_metrics`] and [`pixel_metrics`] give those a table needs from one sort; [`roc_curve`], [`precision_recall_curve`]
//! and [`pro_curve`] give the points to draw; [`pixel_metrics_within`] and [`pro_curve_within`] leave out pixels that are not
//! judged; [`Confusion`] counts errors at a threshold that is already chosen.
//!
//! ```
//! use simplenet_metrics::{MapShape, auroc, f1_max, pixel_metrics};
//!
//! let scores = [0.1, 0.4, 0.35, 0.8];
//! let anomalous = [false, false, true, true];
//! assert_eq!(auroc(&scores, &anomalous)?, 0.75); // 3 of the 4 pairs are in the right order
//! assert_eq!(f1_max(&scores, &anomalous)?.threshold, 0.35); // `score >= 0.35` is wrong once
//!
//! // One map of 2 x 3 pixels with two defects; both are found before the first false positive.
//! let shape = MapShape { images: 1, height: 2, width: 3 };
//! let map = [0.9, 0.1, 0.8, 0.9, 0.2, 0.3];
//! let mask = [true, false, true, true, false, false];
//! assert_eq!(pixel_metrics(&map, &mask, shape, 0.3)?.aupro, 1.0);
//! # Ok::<(), simplenet_metrics::Error>(())
//! ```
//!
//! What all functions share:
//! - A number that is not defined is an [`Error`], never 0.5: one class only, no scores, a NaN, lengths that differ.
//! - `-0.0` equals `0.0`; infinities are scores like any other; equal scores are never separated by a threshold.
//! - Results have the same bits for any number of threads.
//! - Masks arrive as `bool`. Resizing a mask makes it fractional, and where the line is drawn changes the pixel metrics
//!   (`> 0.5`, `> 0`, or the authors' `== 1`); that choice is the caller's, and its name belongs beside the number.

mod combined;
mod confusion;
mod curve;
mod error;
mod precision_recall;
mod pro;
mod pro_code;
mod radix;
mod ranking;
mod regions;
mod roc;

pub use combined::{ImageMetrics, PixelMetrics, image_metrics, pixel_metrics, pixel_metrics_within};
pub use confusion::Confusion;
pub use curve::CurvePoint;
pub use error::Error;
pub use precision_recall::{F1Max, average_precision, f1_max, precision_recall_curve};
pub use pro::{aupro, pro_curve, pro_curve_within};
pub use pro_code::pro_code;
pub use regions::{MapShape, Regions, Run};
pub use roc::{auroc, roc_curve};

/// What every function here returns.
pub type Result<T> = std::result::Result<T, Error>;
