//! From the scores of patches to the score of an image and to an anomaly map of its size.
//!
//! [`image_scores`] is the largest patch score of each image. [`anomaly_maps`] enlarges the grid of patch scores to the
//! size of the image, bilinearly, and smooths it with a Gaussian: the authors' `RescaleSegmentor` (`common.py`), which
//! calls torch and then `scipy.ndimage.gaussian_filter`.
//!
//! Both steps are linear and treat rows and columns alike, so for each axis they are one matrix, and the matrix has few
//! entries per row: from 28 to 224 pixels an output depends on 7 scores, where the two steps one after the other read 33.
//! [`upsample_bilinear`] and [`gaussian_blur`] are the same machine with one of the steps.
//!
//! ```
//! use simplenet_kernels::maps::{anomaly_maps, image_scores};
//!
//! let scores = [0.0, 0.0, 0.0, 0.0, 9.0, 0.0]; // one image of 2 by 3 patches
//! assert_eq!(image_scores(&scores, [1, 2, 3])?, [9.0]);
//! let map = anomaly_maps(&scores, [1, 2, 3], [16, 24], 4.0)?;
//! assert!(map[15 * 24 + 12] > map[0]);
//! # Ok::<(), simplenet_kernels::maps::MapError>(())
//! ```
//!
//! NaN and infinities are numbers like others here: a patch that is NaN makes its image NaN, and every pixel of the map
//! that depends on it.

use std::ops::Range;

use rayon::prelude::*;
use thiserror::Error;

use crate::isa::Isa;
use crate::vectors::on_vectors;

/// The authors' standard deviation of the smoothing, in pixels.
pub const SIGMA: f32 = 4.0;

/// Largest standard deviation that is taken: beyond it every map is flat, and the time to find that out grows.
const MAX_SIGMA: f32 = 10_000.0;

/// The Gaussian ends after this many standard deviations (scipy's default).
const TRUNCATE: f64 = 4.0;

/// Scores that cannot be made into maps.
#[derive(Debug, Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum MapError {
    /// The slice and the shape disagree.
    #[error("{len} values are not {n} maps of {height}x{width}")]
    Length {
        /// Length of the slice.
        len: usize,
        /// Number of maps.
        n: usize,
        /// Their height.
        height: usize,
        /// Their width.
        width: usize,
    },
    /// A map without pixels.
    #[error("cannot make a {}x{} map from {}x{} scores: a side is 0", to[0], to[1], from[0], from[1])]
    Empty {
        /// Height and width of the source.
        from: [usize; 2],
        /// Height and width of the target.
        to: [usize; 2],
    },
    /// A standard deviation that is none.
    #[error("a standard deviation of {0} pixels\n\nhint: the paper uses 4; 0 leaves the map as it is; at most 10000")]
    Sigma(f32),
}

/// The largest of the raw patch scores of each image (`PatchMaker.score` in the authors' `simplenet.py`), for
/// scores `[n, h, w]`. NaN where one of them is NaN: an image whose score is unknown must not pass as normal.
///
/// # Errors
/// [`MapError::Length`], or [`MapError::Empty`] where images have no patches.
pub fn image_scores(scores: &[f32], [n, h, w]: [usize; 3]) -> Result<Vec<f32>, MapError> {
    check(scores.len(), [n, h, w], [h, w])?;
    let highest = |image: &[f32]| {
        image.iter().copied().fold(f32::NEG_INFINITY, |highest, score| {
            if score > highest || score.is_nan() {
                score
            } else {
                highest
            }
        })
    };
    Ok(images(scores, h * w).map(highest).collect())
}

/// Anomaly maps `[n, height, width]` of patch scores `[n, h, w]`: bilinear, then smoothed with `sigma` pixels
/// ([`SIGMA`] in the paper). The images are shared out over the threads; the bytes do not depend on them.
///
/// # Errors
/// [`MapError::Length`], [`MapError::Empty`] or [`MapError::Sigma`].
pub fn anomaly_maps(
    scores: &[f32],
    [n, h, w]: [usize; 3],
    [height, width]: [usize; 2],
    sigma: f32,
) -> Result<Vec<f32>, MapError> {
    check(scores.len(), [n, h, w], [height, width])?;
    let taps = gaussian(sigma)?;
    if n == 0 {
        return Ok(Vec::new());
    }
    let down = Band::new(h, height, &taps);
    // Of a square image both are the same; making one takes about as long as using both.
    let across = ((w, width) != (h, height)).then(|| Band::new(w, width, &taps));
    Ok(transform(scores, n, &down, across.as_ref().unwrap_or(&down)))
}

/// Maps `[n, h, w]` enlarged or reduced to `[n, height, width]` as `torch.nn.functional.interpolate(mode="bilinear",
/// align_corners=False)` does: pixels are areas, and the edges repeat.
///
/// # Errors
/// [`MapError::Length`] or [`MapError::Empty`].
pub fn upsample_bilinear(
    maps: &[f32],
    [n, h, w]: [usize; 3],
    [height, width]: [usize; 2],
) -> Result<Vec<f32>, MapError> {
    check(maps.len(), [n, h, w], [height, width])?;
    if n == 0 {
        return Ok(Vec::new());
    }
    let down = Band::new(h, height, &[1.0]);
    let across = Band::new(w, width, &[1.0]);
    Ok(transform(maps, n, &down, &across))
}

/// Maps `[n, h, w]` smoothed with a Gaussian of `sigma` pixels as `scipy.ndimage.gaussian_filter` does: cut off after 4
/// standard deviations and normalised, edges reflected (`d c b a | a b c d | d c b a`), again and again where the map is
/// smaller than the Gaussian.
///
/// # Errors
/// [`MapError::Length`], [`MapError::Empty`] or [`MapError::Sigma`].
pub fn gaussian_blur(maps: &[f32], [n, h, w]: [usize; 3], sigma: f32) -> Result<Vec<f32>, MapError> {
    check(maps.len(), [n, h, w], [h, w])?;
    let taps = gaussian(sigma)?;
    if n == 0 {
        return Ok(Vec::new());
    }
    let down = Band::new(h, h, &taps);
    let across = Band::new(w, w, &taps);
    Ok(transform(maps, n, &down, &across))
}

fn check(len: usize, [n, h, w]: [usize; 3], to: [usize; 2]) -> Result<(), MapError> {
    let expected = h.checked_mul(w).and_then(|area| area.checked_mul(n));
    if expected != Some(len) {
        let (height, width) = (h, w);
        return Err(MapError::Length { len, n, height, width });
    }
    if n > 0 && (h == 0 || w == 0 || to[0] == 0 || to[1] == 0) {
        return Err(MapError::Empty { from: [h, w], to });
    }
    Ok(())
}

/// The images of a slice; none where they have no pixels, which [`check`] allows only where there are none.
fn images(data: &[f32], area: usize) -> std::slice::Chunks<'_, f32> {
    data.chunks(area.max(1))
}

/// Weights of the truncated Gaussian, `2 radius + 1` of them.
fn gaussian(sigma: f32) -> Result<Vec<f64>, MapError> {
    if !(0.0..=MAX_SIGMA).contains(&sigma) {
        return Err(MapError::Sigma(sigma));
    }
    if sigma == 0.0 {
        return Ok(vec![1.0]);
    }
    let sigma = f64::from(sigma);
    let radius = (TRUNCATE * sigma + 0.5) as i64;
    let bell = |x: i64| (-0.5 * (x as f64 / sigma).powi(2)).exp();
    let sum: f64 = (-radius..=radius).map(bell).sum();
    Ok((-radius..=radius).map(|x| bell(x) / sum).collect())
}

/// A linear map of one axis: output `o` is the sum of `weights` times inputs, both from `rows[o]`. Only inputs it depends
/// on take part, so a NaN goes no further than it must.
struct Band {
    inputs: usize,
    rows: Vec<BandRow>,
    weights: Vec<f32>,
}

struct BandRow {
    first_input: usize,
    weights: Range<usize>,
}

impl Band {
    /// Bilinear from `inputs` to `outputs`, then a filter of `taps` (an odd number) over the outputs.
    fn new(inputs: usize, outputs: usize, taps: &[f64]) -> Self {
        let radius = (taps.len() / 2) as i64;
        let shares: Vec<_> = (0..outputs).map(|output| bilinear(output, inputs, outputs)).collect();
        let mut sums = vec![0.0_f64; inputs];
        let mut band = Band {
            inputs,
            rows: Vec::with_capacity(outputs),
            weights: Vec::new(),
        };
        for output in 0..outputs {
            let mut touched = inputs..0;
            for (tap, offset) in taps.iter().zip(-radius..) {
                let pixel = reflect(output as i64 + offset, outputs);
                for (input, share) in shares[pixel] {
                    sums[input] += tap * share;
                    touched = touched.start.min(input)..touched.end.max(input + 1);
                }
            }
            let start = band.weights.len();
            band.weights.extend(sums[touched.clone()].iter().map(|&sum| sum as f32));
            sums[touched.clone()].fill(0.0);
            band.rows.push(BandRow {
                first_input: touched.start,
                weights: start..band.weights.len(),
            });
        }
        band
    }
}

/// The pixel that stands at `place` when a line of `length` pixels is mirrored at its edges without end.
fn reflect(place: i64, length: usize) -> usize {
    let length = length as i64;
    if (0..length).contains(&place) {
        return place as usize;
    }
    let place = place.rem_euclid(2 * length);
    place.min(2 * length - 1 - place) as usize
}

/// The two inputs that an output lies between, and their shares; twice the same where it lies beyond the last.
fn bilinear(output: usize, inputs: usize, outputs: usize) -> [(usize, f64); 2] {
    if inputs == outputs {
        return [(output, 1.0), (output, 0.0)];
    }
    // In f32, as torch computes its shares.
    let scale = inputs as f32 / outputs as f32;
    let place = (scale * (output as f32 + 0.5) - 0.5).max(0.0);
    let low = (place as usize).min(inputs - 1);
    let high = (low + 1).min(inputs - 1);
    let share = (place - low as f32).clamp(0.0, 1.0);
    [(low, f64::from(1.0 - share)), (high, f64::from(share))]
}

/// Applies `down` to the columns and `across` to the rows of `n` images.
fn transform(maps: &[f32], n: usize, down: &Band, across: &Band) -> Vec<f32> {
    let (h, w, height, width) = (down.inputs, across.inputs, down.rows.len(), across.rows.len());
    let mut out = vec![0.0; n * height * width];
    if n == 0 {
        return out;
    }
    // It changes no bit here, so a wrong `SIMPLENET_ISA` is left to those whose numbers depend on it.
    let isa = Isa::detect().unwrap_or(Isa::Portable);
    let arena = || (vec![0.0; w * h], vec![0.0; width * h], vec![0.0; h * width]);
    let pairs = out.par_chunks_mut(height * width).zip(maps.par_chunks(h * w));
    pairs.for_each_init(arena, |(columns, stretched, rows), (out, map)| {
        // Along the rows first, while there are few of them; transposed, so that both passes run over whole lines.
        transpose(map, w, columns);
        apply(isa, across, columns, h, stretched);
        transpose(stretched, h, rows);
        apply(isa, down, rows, width, out);
    });
    out
}

/// Transposes `[rows, cols]`, in squares that fit the first cache.
fn transpose(from: &[f32], cols: usize, to: &mut [f32]) {
    const SQUARE: usize = 32;
    let rows = from.len() / cols;
    for top in (0..rows).step_by(SQUARE) {
        for left in (0..cols).step_by(SQUARE) {
            for col in left..(left + SQUARE).min(cols) {
                for row in top..(top + SQUARE).min(rows) {
                    to[col * rows + row] = from[row * cols + col];
                }
            }
        }
    }
}

/// `to[o] = sum of weight * from[i]` over lines of `length` values. Sums run in the order of the inputs, unfused: the
/// bits are the same on every instruction set.
fn apply(isa: Isa, band: &Band, from: &[f32], length: usize, to: &mut [f32]) {
    on_vectors(
        isa,
        #[inline(always)]
        || apply_lines(band, from, length, to),
    );
}

#[inline(always)]
fn apply_lines(band: &Band, from: &[f32], length: usize, to: &mut [f32]) {
    for (row, line) in band.rows.iter().zip(to.chunks_exact_mut(length)) {
        let weights = &band.weights[row.weights.clone()];
        let lines = from[row.first_input * length..].chunks_exact(length);
        let (chunks, rest) = line.as_chunks_mut::<64>();
        let done = length - rest.len();
        for (index, chunk) in chunks.iter_mut().enumerate() {
            let mut sums = [0.0; 64];
            for (&weight, source) in weights.iter().zip(lines.clone()) {
                for (sum, value) in sums.iter_mut().zip(&source[index * 64..index * 64 + 64]) {
                    *sum += weight * value;
                }
            }
            *chunk = sums;
        }
        rest.fill(0.0);
        for (&weight, source) in weights.iter().zip(lines) {
            for (sum, value) in rest.iter_mut().zip(&source[done..]) {
                *sum += weight * value;
            }
        }
    }
}

/// Both linear maps of [`anomaly_maps`], row by row: the first input of an output, and the weights of it and those after it.
#[cfg(feature = "cuda")]
pub(crate) struct Bands {
    pub(crate) down: Vec<(usize, Vec<f32>)>,
    pub(crate) across: Vec<(usize, Vec<f32>)>,
}

#[cfg(feature = "cuda")]
impl Bands {
    pub(crate) fn new(from: [usize; 2], to: [usize; 2], sigma: f32) -> Result<Bands, MapError> {
        check(from[0] * from[1], [1, from[0], from[1]], to)?;
        let taps = gaussian(sigma)?;
        let rows = |band: Band| {
            let row = |row: &BandRow| (row.first_input, band.weights[row.weights.clone()].to_vec());
            band.rows.iter().map(row).collect()
        };
        Ok(Bands {
            down: rows(Band::new(from[0], to[0], &taps)),
            across: rows(Band::new(from[1], to[1], &taps)),
        })
    }
}
