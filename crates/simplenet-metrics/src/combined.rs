use crate::ranking::Ranking;
use crate::{MapShape, Regions, Result, precision_recall, pro, roc};

/// What a table says about image scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageMetrics {
    /// [`crate::auroc`] over images.
    pub auroc: f64,
    /// [`crate::average_precision`] over images.
    pub average_precision: f64,
    /// [`crate::f1_max`] over images.
    pub f1_max: f64,
    /// The threshold of [`Self::f1_max`]: `score >= f1_threshold` is anomalous.
    pub f1_threshold: f32,
}

/// What a table says about anomaly maps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PixelMetrics {
    /// [`crate::auroc`] over the pixels of all images together, also of those without a defect.
    pub auroc: f64,
    /// [`crate::average_precision`] over the same pixels.
    pub average_precision: f64,
    /// [`crate::f1_max`] over the same pixels.
    pub f1_max: f64,
    /// The threshold of [`Self::f1_max`]: `score >= f1_threshold` is anomalous.
    pub f1_threshold: f32,
    /// [`crate::aupro`] up to the limit that was asked for.
    pub aupro: f64,
}

/// All image metrics from one sort. `scores` and `anomalous` have one element per image.
///
/// # Errors
/// Lengths that differ, no scores, a NaN, or one class only.
pub fn image_metrics(scores: &[f32], anomalous: &[bool]) -> Result<ImageMetrics> {
    let ranking = Ranking::new(scores, anomalous, std::iter::empty())?;
    let best = precision_recall::best_f1(&ranking);
    Ok(ImageMetrics {
        auroc: roc::area_under_roc(&ranking),
        average_precision: precision_recall::step_area(&ranking),
        f1_max: best.f1,
        f1_threshold: best.threshold,
    })
}

/// All pixel metrics from one sort. `maps` and `masks` (`true` = defect) are of `shape`; `limit` is that of
/// [`crate::aupro`].
///
/// # Errors
/// Slices that do not fill `shape`, a NaN, no defect or no defect-free pixel, or a limit outside (0, 1].
pub fn pixel_metrics(maps: &[f32], masks: &[bool], shape: MapShape, limit: f64) -> Result<PixelMetrics> {
    combine(limit, || pro::rank_pixels(maps, masks, shape))
}

/// The same where only some pixels count, as with a region of interest: those in `within`, of `shape` too. All others are
/// neither found nor missed nor false positives, and a defect is what of it lies inside, so that it may be several
/// [`crate::Regions`] there.
///
/// # Errors
/// As [`pixel_metrics`], for the pixels that count.
pub fn pixel_metrics_within(
    maps: &[f32],
    masks: &[bool],
    within: &[bool],
    shape: MapShape,
    limit: f64,
) -> Result<PixelMetrics> {
    combine(limit, || pro::rank_pixels_within(maps, masks, within, shape))
}

fn combine(limit: f64, rank: impl FnOnce() -> Result<(Ranking, Regions)>) -> Result<PixelMetrics> {
    pro::check_limit(limit)?;
    let (ranking, regions) = rank()?;
    let best = precision_recall::best_f1(&ranking);
    Ok(PixelMetrics {
        auroc: roc::area_under_roc(&ranking),
        average_precision: precision_recall::step_area(&ranking),
        f1_max: best.f1,
        f1_threshold: best.threshold,
        aupro: pro::area_under_pro(&ranking, &regions, limit),
    })
}
