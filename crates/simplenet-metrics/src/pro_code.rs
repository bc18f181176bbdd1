use rayon::prelude::*;

use crate::ranking::refuse_nan;
use crate::{Error, MapShape, Regions, Result};

/// Thresholds between the lowest and the highest score (`num_th` of the authors).
const STEPS: usize = 200;

/// How far the authors' 5 x 5 dilation reaches in each direction.
const REACH: usize = 2;

/// The authors' cut on the false-positive rate.
const LIMIT: f64 = 0.3;

/// The per-region overlap score of the SimpleNet authors' code (`compute_pro` in `metrics.py`). **Not MVTec's AUPRO**:
/// use [`crate::aupro`] for any comparison with other work, and this only beside numbers from the authors' program.
///
/// Between 0 and 1, higher is better. It differs from AUPRO, mostly upwards, in that
/// - thresholds are some 200 evenly spaced values from the lowest score to the highest, not the scores themselves, and
///   `score > threshold` counts;
/// - predictions are dilated by a 5 x 5 square before the overlap with the defects is measured, but not before false
///   positives are counted;
/// - the rates below 0.3 are divided by the largest of them, whatever that is, with nothing added at either end;
/// - masks stay fractional, as resizing leaves them: a region is made of pixels equal to 1 (8-connected), and a pixel
///   with mask `m` below 1 counts once among the false positives but `1 - m` among the pixels that could be.
///
/// `maps` and `masks` (0 = normal, 1 = defect) are of `shape`. Scores are widened to `f64` first; thresholds are those of
/// numpy's `arange` bit for bit.
///
/// # Errors
/// Slices that do not fill `shape`, a score that is NaN or infinite, scores that are all equal, a mask outside 0 to 1, no
/// region or no defect-free pixel, or no area because fewer than two thresholds have a rate below 0.3 or all of those
/// have rate 0.
pub fn pro_code(maps: &[f32], masks: &[f32], shape: MapShape) -> Result<f64> {
    if maps.len() != masks.len() {
        return Err(Error::LengthMismatch {
            scores: maps.len(),
            truths: masks.len(),
        });
    }
    shape.check(maps.len())?;
    let thresholds = Thresholds::between_extremes(maps)?;
    if let Some(index) = masks.par_iter().position_first(|mask| !(0.0..=1.0).contains(mask)) {
        return Err(Error::MaskFraction {
            index,
            value: masks[index],
        });
    }
    let whole: Vec<bool> = masks.par_iter().map(|&mask| mask == 1.0).collect();
    let regions = Regions::find(&whole, shape)?;
    let defect_free: f64 = masks.iter().map(|&mask| 1.0 - f64::from(mask)).sum();
    if regions.areas.is_empty() || defect_free == 0.0 {
        let anomalous = regions.areas.iter().sum::<u64>() as usize;
        return Err(Error::OneClass {
            normal: masks.len() - anomalous,
            anomalous,
        });
    }

    let false_positives = false_positives(maps, masks, &thresholds);
    let overlaps = overlaps(maps, &regions, shape, &thresholds);
    let kept: Vec<(f64, f64)> = false_positives
        .iter()
        .map(|&count| count as f64 / defect_free)
        .zip(overlaps)
        .filter(|(rate, _)| *rate < LIMIT)
        .collect();
    let largest = kept.iter().map(|(rate, _)| *rate).fold(0.0, f64::max);
    if kept.len() < 2 || largest == 0.0 {
        return Err(Error::NoArea {
            kept: kept.len(),
            limit: LIMIT,
            largest,
        });
    }
    // Thresholds rise, so the rates fall.
    Ok(kept
        .windows(2)
        .map(|pair| (pair[0].0 - pair[1].0) / largest * (pair[0].1 + pair[1].1) / 2.0)
        .sum())
}

/// Ascending thresholds.
struct Thresholds {
    values: Vec<f64>,
    per_score: f64,
}

impl Thresholds {
    /// `numpy.arange(lowest, highest, (highest - lowest) / 200)`: numpy multiplies the *rounded* difference of the first
    /// two elements, and rounding may make the list one longer than 200.
    fn between_extremes(maps: &[f32]) -> Result<Self> {
        refuse_nan(maps)?;
        if let Some(index) = maps.par_iter().position_first(|score| score.is_infinite()) {
            return Err(Error::Infinite {
                index,
                value: maps[index],
            });
        }
        let lowest = maps.iter().copied().fold(f32::INFINITY, f32::min);
        let highest = maps.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if lowest == highest {
            return Err(Error::Constant {
                scores: maps.len(),
                value: lowest,
            });
        }
        let (start, stop) = (f64::from(lowest), f64::from(highest));
        let step = (stop - start) / STEPS as f64;
        let count = ((stop - start) / step).ceil() as usize;
        let rounded_step = (start + step) - start;
        let values = (0..count).map(|index| start + index as f64 * rounded_step).collect();
        Ok(Self {
            values,
            per_score: 1.0 / step,
        })
    }

    /// How many thresholds `score` exceeds.
    fn exceeded_by(&self, score: f64) -> usize {
        // A guess that is off by rounding only, so that the search ends after a step or two.
        let mut count = (((score - self.values[0]) * self.per_score) as usize).min(self.values.len());
        while count > 0 && self.values[count - 1] >= score {
            count -= 1;
        }
        while count < self.values.len() && self.values[count] < score {
            count += 1;
        }
        count
    }
}

/// For every threshold, the pixels that are not wholly defect and whose score exceeds it.
fn false_positives(maps: &[f32], masks: &[f32], thresholds: &Thresholds) -> Vec<u64> {
    const BLOCK: usize = 1 << 16;
    let bins = thresholds.values.len() + 1;
    let counts = maps
        .par_chunks(BLOCK)
        .zip(masks.par_chunks(BLOCK))
        .map(|(scores, masks)| {
            let mut counts = vec![0_u64; bins];
            for (&score, &mask) in scores.iter().zip(masks) {
                if mask != 1.0 {
                    counts[thresholds.exceeded_by(f64::from(score))] += 1;
                }
            }
            counts
        })
        .reduce(
            || vec![0; bins],
            |one, other| one.iter().zip(&other).map(|(a, b)| a + b).collect(),
        );
    at_least_next_bin(&counts, 0, |sum, count| sum + count)
}

/// For every threshold, the mean over regions of the share that the dilated prediction covers.
///
/// A pixel of a dilated prediction is set where the highest score in the square around it exceeds the threshold.
fn overlaps(maps: &[f32], regions: &Regions, shape: MapShape, thresholds: &Thresholds) -> Vec<f64> {
    let highest_near: Vec<f32> = regions
        .runs
        .par_iter()
        .flat_map_iter(|run| (run.start..run.end).map(|pixel| highest_in_square(maps, pixel, shape)))
        .collect();
    let mut shares = vec![0.0; thresholds.values.len() + 1];
    for (region, highest) in regions.of_each_pixel().zip(highest_near) {
        shares[thresholds.exceeded_by(f64::from(highest))] += 1.0 / regions.areas[region as usize] as f64;
    }
    let count = regions.areas.len() as f64;
    at_least_next_bin(&shares, 0.0, |sum, share| sum + share)
        .iter()
        .map(|sum| sum / count)
        .collect()
}

/// The highest score within [`REACH`] of a pixel; what lies outside the image does not count, as in OpenCV's `dilate`.
fn highest_in_square(maps: &[f32], pixel: usize, shape: MapShape) -> f32 {
    let (row, column) = (pixel / shape.width, pixel % shape.width);
    let image_top = row / shape.height * shape.height;
    let rows = row.saturating_sub(REACH).max(image_top)..(row + REACH + 1).min(image_top + shape.height);
    let columns = column.saturating_sub(REACH)..(column + REACH + 1).min(shape.width);
    rows.flat_map(|row| &maps[row * shape.width..][columns.clone()])
        .copied()
        .fold(f32::NEG_INFINITY, f32::max)
}

/// Entry `i`: the sum of bins `i + 1` and on, where bin `k` holds what exceeds exactly `k` thresholds.
fn at_least_next_bin<T: Copy>(bins: &[T], zero: T, add: impl Fn(T, T) -> T) -> Vec<T> {
    let mut sums: Vec<T> = bins[1..]
        .iter()
        .rev()
        .scan(zero, |sum, &bin| {
            *sum = add(*sum, bin);
            Some(*sum)
        })
        .collect();
    sums.reverse();
    sums
}
