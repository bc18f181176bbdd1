use crate::curve::{self, CurvePoint};
use crate::ranking::Ranking;
use crate::{Error, MapShape, Regions, Result};

/// AUPRO, the area under the per-region overlap curve: how much of each *defect* is found at tolerable false-positive
/// rates, a small defect counting as much as a large one.
///
/// 1 means that every defect is covered before the first false positive; all-equal maps give half the limit. `limit` is
/// the largest false-positive rate to consider, 0.3 by custom (0.05 for MVTec AD 2); values for different limits are not
/// comparable.
///
/// Computed as in MVTec's evaluation code (Bergmann et al. 2021, "The MVTec Anomaly Detection Dataset"; `pro_curve_util.py`
/// and `trapezoid`): defects are the 8-connected [`Regions`] of the masks, every distinct score is a threshold, overlap is
/// the mean over all regions of the share with scores at or above it, false-positive rate is over the defect-free pixels
/// of all images together; from (0, 0) to (1, 1), trapezoids up to the limit with the curve interpolated there, divided
/// by the limit. MVTec keeps the rates in `float32`; here they are `f64`; the two agree to 2e-6.
///
/// `maps` and `masks` (`true` = defect) are of `shape`. Images without a defect belong in: their pixels are false
/// positives like others.
///
/// # Errors
/// Slices that do not fill `shape`, a NaN, no defect or no defect-free pixel, or a limit outside (0, 1].
pub fn aupro(maps: &[f32], masks: &[bool], shape: MapShape, limit: f64) -> Result<f64> {
    check_limit(limit)?;
    let (ranking, regions) = rank_pixels(maps, masks, shape)?;
    Ok(area_under_pro(&ranking, &regions, limit))
}

/// The curve under [`aupro`]: false-positive rate (`x`) and per-region overlap (`y`) from (0, 0) to (1, 1), to be joined
/// by lines.
///
/// Where there are more than `max_points`, stretches of the curve are replaced by two lines each that enclose the same
/// area.
///
/// # Errors
/// As [`aupro`]; also fewer than 3 points asked for.
pub fn pro_curve(maps: &[f32], masks: &[bool], shape: MapShape, max_points: usize) -> Result<Vec<CurvePoint>> {
    thin(rank_pixels(maps, masks, shape), max_points)
}

/// The same as [`pro_curve`] where only the pixels in `within` count, as in [`crate::pixel_metrics_within`].
///
/// # Errors
/// As [`pro_curve`], for the pixels that count.
pub fn pro_curve_within(
    maps: &[f32],
    masks: &[bool],
    within: &[bool],
    shape: MapShape,
    max_points: usize,
) -> Result<Vec<CurvePoint>> {
    thin(rank_pixels_within(maps, masks, within, shape), max_points)
}

fn thin(ranked: Result<(Ranking, Regions)>, max_points: usize) -> Result<Vec<CurvePoint>> {
    curve::check_points(max_points)?;
    let (ranking, regions) = ranked?;
    Ok(curve::thin_keeping_area(corners(&ranking, &regions), max_points))
}

pub(crate) fn check_limit(limit: f64) -> Result<()> {
    if limit > 0.0 && limit <= 1.0 {
        Ok(())
    } else {
        Err(Error::Limit { limit })
    }
}

pub(crate) fn rank_pixels(maps: &[f32], masks: &[bool], shape: MapShape) -> Result<(Ranking, Regions)> {
    check_lengths(maps, masks)?;
    let regions = Regions::find(masks, shape)?;
    let ranking = Ranking::new(maps, masks, regions.of_each_pixel())?;
    Ok((ranking, regions))
}

/// The pixels outside are neither found nor missed, and a defect is what of it lies inside.
pub(crate) fn rank_pixels_within(
    maps: &[f32],
    masks: &[bool],
    within: &[bool],
    shape: MapShape,
) -> Result<(Ranking, Regions)> {
    check_lengths(maps, masks)?;
    shape.check(masks.len())?;
    shape.check(within.len())?;
    let visible: Vec<bool> = masks.iter().zip(within).map(|(mask, within)| mask & within).collect();
    let regions = Regions::find(&visible, shape)?;
    // Every anomalous pixel that is left lies in a region, in the same order.
    let ranking = Ranking::new(&only(maps, within), &only(masks, within), regions.of_each_pixel())?;
    Ok((ranking, regions))
}

fn only<T: Copy>(pixels: &[T], within: &[bool]) -> Vec<T> {
    let inside = pixels.iter().zip(within).filter(|(_, within)| **within);
    inside.map(|(pixel, _)| *pixel).collect()
}

fn check_lengths(maps: &[f32], masks: &[bool]) -> Result<()> {
    match maps.len() == masks.len() {
        true => Ok(()),
        false => Err(Error::LengthMismatch {
            scores: maps.len(),
            truths: masks.len(),
        }),
    }
}

pub(crate) fn area_under_pro(ranking: &Ranking, regions: &Regions, limit: f64) -> f64 {
    curve::area(&corners(ranking, regions), limit) / limit
}

fn corners(ranking: &Ranking, regions: &Regions) -> Vec<CurvePoint> {
    let count = regions.areas.len() as f64;
    let gains: Vec<f64> = regions.areas.iter().map(|&area| 1.0 / (area as f64 * count)).collect();
    let mut overlap = 0.0;
    curve::corners(ranking, |level| {
        overlap += level.regions().map(|region| gains[region as usize]).sum::<f64>();
        // Rounding must neither pass 1 nor stop short of it.
        if level.true_positives == ranking.anomalous_count() {
            1.0
        } else {
            overlap.min(1.0)
        }
    })
}
