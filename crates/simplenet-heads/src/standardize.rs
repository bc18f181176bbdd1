//! Standardisation of features: every channel to mean 0 and deviation 1 over the training bank.

use rayon::prelude::*;

use crate::bank::Bank;
use crate::error::{Error, Result};
use crate::head::count_rows;
use crate::scalar::Scalar;

/// Mean and scale of every channel; a feature x becomes (x − mean) · scale.
///
/// The paper trains on the features as they are. Backbones whose channels differ in scale by orders of magnitude want
/// this, because the noise has one σ for all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Standardizer {
    mean: Vec<f32>,
    scale: Vec<f32>,
}

/// Images that one task sums up.
const IMAGES_PER_TASK: usize = 4;

impl Standardizer {
    /// Mean and 1/deviation (biased) of every channel over all rows of the bank, summed in f64.
    ///
    /// A channel that is constant, up to f32 rounding, gets scale 1: it is centred, and a deviation met later stays of
    /// its own size.
    pub fn fit(bank: &Bank) -> Standardizer {
        let dim = bank.dim();
        let shift = &bank.image(0)[..dim];
        let images: Vec<usize> = (0..bank.images()).collect();
        // Sums of differences from the first row, which no large common value can swamp.
        let partials: Vec<(Vec<f64>, Vec<f64>)> = images
            .par_chunks(IMAGES_PER_TASK)
            .map(|images| {
                let (mut first, mut second) = (vec![0.0; dim], vec![0.0; dim]);
                for row in images.iter().flat_map(|&image| bank.image(image).chunks_exact(dim)) {
                    for channel in 0..dim {
                        let difference = f64::from(row[channel]) - f64::from(shift[channel]);
                        first[channel] += difference;
                        second[channel] += difference * difference;
                    }
                }
                (first, second)
            })
            .collect();
        let channels = 0..dim;
        let first = |channel: usize| partials.iter().map(|(first, _)| first[channel]).sum();
        let second = |channel: usize| partials.iter().map(|(_, second)| second[channel]).sum();
        let first: Vec<f64> = channels.clone().map(first).collect();
        let second: Vec<f64> = channels.map(second).collect();
        Standardizer::from_moments(shift, (&first, &second), bank.rows() as f64)
    }

    /// From sums over `rows` rows of a channel's differences from `shift`, and of their squares.
    pub(crate) fn from_moments(shift: &[f32], (first, second): (&[f64], &[f64]), rows: f64) -> Standardizer {
        let (mut mean, mut scale) = (Vec::with_capacity(shift.len()), Vec::with_capacity(shift.len()));
        for ((&shift, first), second) in shift.iter().zip(first).zip(second) {
            let offset = first / rows;
            let center = f64::from(shift) + offset;
            let deviation = (second / rows - offset * offset).max(0.0).sqrt();
            let rounding = f64::from(f32::EPSILON) * center.abs() + f64::from(f32::MIN_POSITIVE);
            mean.push(center as f32);
            scale.push(if deviation > rounding {
                (1.0 / deviation) as f32
            } else {
                1.0
            });
        }
        Standardizer { mean, scale }
    }

    /// From its two vectors, as a file has them.
    ///
    /// # Errors
    /// [`Error::Shape`] where their lengths differ or are 0, [`Error::NotAHead`] where a value is not finite or a scale
    /// not positive.
    pub fn from_parts(mean: Vec<f32>, scale: Vec<f32>) -> Result<Standardizer> {
        if mean.is_empty() || mean.len() != scale.len() {
            return Err(Error::Shape {
                what: "standardize.scale".into(),
                found: scale.len(),
                expected: format!("{} and more than 0, as standardize.mean", mean.len()),
            });
        }
        let sound = mean.iter().all(|mean| mean.is_finite()) && scale.iter().all(|&s| s.is_finite() && s > 0.0);
        if !sound {
            return Err(Error::NotAHead(
                "standardize.mean or standardize.scale has unusable values".into(),
            ));
        }
        Ok(Standardizer { mean, scale })
    }

    /// Number of channels.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Per channel.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Per channel; finite and positive.
    pub fn scale(&self) -> &[f32] {
        &self.scale
    }

    /// Standardises rows `[rows, dim]` in place.
    ///
    /// # Errors
    /// [`Error::Shape`] where `rows` is not a whole number of rows.
    pub fn apply<T: Scalar>(&self, rows: &mut [T]) -> Result<()> {
        count_rows("rows", rows, self.dim())?;
        for row in rows.chunks_exact_mut(self.dim()) {
            for (value, (&mean, &scale)) in row.iter_mut().zip(self.mean.iter().zip(&self.scale)) {
                *value = (*value - T::from_f32(mean)) * T::from_f32(scale);
            }
        }
        Ok(())
    }

    /// Standardises rows into another place; both are whole rows of `dim`.
    pub(crate) fn copy(&self, rows: &[f32], out: &mut [f32]) {
        let rows = rows.chunks_exact(self.dim()).zip(out.chunks_exact_mut(self.dim()));
        for (row, out) in rows {
            for (channel, out) in out.iter_mut().enumerate() {
                *out = (row[channel] - self.mean[channel]) * self.scale[channel];
            }
        }
    }
}
