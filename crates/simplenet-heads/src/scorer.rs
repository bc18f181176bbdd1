//! A head folded for inference.

use rayon::prelude::*;
use simplenet_kernels::engine::Precision;
use simplenet_kernels::gemm::{Accumulate, MatMut, MatRef, PackedB, gemm, gemm_packed};

use crate::error::{Error, Result};
use crate::head::{BATCH_NORM_EPSILON, Head, count_rows, leaky};
use crate::scalar::Scalar;
use crate::sums;

/// Rows that are scored at once: with 1024 hidden channels their activations take 8 MiB.
pub(crate) const ROWS_AT_ONCE: usize = 2048;

/// A head folded for inference, to score any number of images with.
///
/// In evaluation mode everything from the raw feature to the hidden activation is linear: standardisation, the
/// adaptor's last layer, the discriminator's first layer and batch norm become one matrix and one bias. Scores differ
/// from those of the unfolded chain by rounding only; a 1536-channel patch costs 40 % of the multiplications. In bf16 the
/// folded matrices and what they are multiplied with are rounded, and sums stay as they are.
#[derive(Debug)]
pub struct Scorer<T: Scalar = f32> {
    dim: usize,
    hidden: usize,
    /// The first of two adaptor layers, where LeakyReLU stands in the way of folding: weight and bias.
    first: Option<(PackedB<T>, Vec<T>)>,
    /// `[dim, hidden]`: everything linear, from the feature to the hidden unit.
    matrix: PackedB<T>,
    /// `[hidden]`.
    bias: Vec<T>,
    /// `[hidden]`.
    output: Vec<T>,
}

/// What a head is at inference, before it is packed.
pub(crate) struct Folded<T> {
    /// The first of two adaptor layers: weight `[dim, dim]` and bias.
    pub(crate) first: Option<(Vec<T>, Vec<T>)>,
    /// `[hidden, dim]`.
    pub(crate) matrix: Vec<T>,
    /// `[hidden]`.
    pub(crate) bias: Vec<T>,
    /// `[hidden]`.
    pub(crate) output: Vec<T>,
}

impl<T: Scalar> Folded<T> {
    pub(crate) fn new(head: &Head<T>) -> Result<Folded<T>> {
        let (dim, hidden) = (head.config.dim, head.config.hidden);
        let values = |place: &std::ops::Range<usize>| &head.parameters[place.clone()];
        let fc1 = values(&head.layout.fc1_weight);
        let mut matrix = fc1.to_vec();
        let mut bias = values(&head.layout.fc1_bias).to_vec();
        if let Some(last) = head.layout.adaptor.last() {
            let weight = MatRef::new(values(&last.weight), dim, dim)?;
            let left = MatRef::new(fc1, hidden, dim)?;
            gemm(
                left,
                weight,
                MatMut::new(&mut matrix, hidden, dim)?,
                Accumulate::Overwrite,
            )?;
            if let Some(last_bias) = &last.bias {
                add_product(&mut bias, fc1, values(last_bias), T::ONE);
            }
        }
        let (gamma, beta) = (values(&head.layout.bn_weight), values(&head.layout.bn_bias));
        for (unit, row) in matrix.chunks_exact_mut(dim).enumerate() {
            let deviation = (head.running_var[unit] + T::from_f64(BATCH_NORM_EPSILON)).sqrt();
            let scale = gamma[unit] / deviation;
            row.iter_mut().for_each(|value| *value = *value * scale);
            bias[unit] = (bias[unit] - head.running_mean[unit]) * scale + beta[unit];
        }
        let mut first = (head.layout.adaptor.len() == 2).then(|| {
            let linear = &head.layout.adaptor[0];
            let bias = linear
                .bias
                .as_ref()
                .map_or(vec![T::ZERO; dim], |bias| values(bias).to_vec());
            (values(&linear.weight).to_vec(), bias)
        });
        if let Some(standardizer) = &head.standardizer {
            // W((x − mean)·scale) + b = (W·scale) x + (b − (W·scale) mean)
            let (weight, bias) = first
                .as_mut()
                .map_or((&mut matrix, &mut bias), |(weight, bias)| (weight, bias));
            for row in weight.chunks_exact_mut(dim) {
                for (value, &scale) in row.iter_mut().zip(standardizer.scale()) {
                    *value = *value * T::from_f32(scale);
                }
            }
            let mean: Vec<T> = standardizer.mean().iter().map(|&mean| T::from_f32(mean)).collect();
            add_product(bias, weight, &mean, -T::ONE);
        }
        Ok(Folded {
            first,
            matrix,
            bias,
            output: values(&head.layout.fc2_weight).to_vec(),
        })
    }
}

impl<T: Scalar> Scorer<T> {
    pub(crate) fn new(head: &Head<T>, precision: Precision) -> Result<Scorer<T>> {
        let (dim, hidden) = (head.config.dim, head.config.hidden);
        let Folded {
            first,
            matrix,
            bias,
            output,
        } = Folded::new(head)?;
        let packed = |matrix: &[T], rows: usize| PackedB::in_precision(precision, MatRef::new(matrix, rows, dim)?.t());
        let matrix = packed(&matrix, hidden)?;
        let first = match first {
            Some((weight, bias)) => Some((packed(&weight, dim)?, bias)),
            None => None,
        };
        Ok(Scorer {
            dim,
            hidden,
            first,
            matrix,
            bias,
            output,
        })
    }

    /// Channels of a feature row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Anomaly scores −D of feature rows `[rows, dim]`, one per row; higher is more anomalous. The score of a row does
    /// not depend on its neighbours.
    ///
    /// # Errors
    /// [`Error::Shape`] where `rows` is not a whole number of rows, [`Error::ScoreNotFinite`] where a row holds NaN.
    pub fn score(&self, rows: &[T]) -> Result<Vec<T>> {
        let count = count_rows("rows", rows, self.dim)?;
        let at_once = count.min(ROWS_AT_ONCE);
        let mut scores = vec![T::ZERO; count];
        let mut hidden = vec![T::ZERO; at_once * self.hidden];
        let mut adapted = vec![T::ZERO; if self.first.is_some() { at_once * self.dim } else { 0 }];
        let blocks = rows
            .chunks(ROWS_AT_ONCE * self.dim)
            .zip(scores.chunks_mut(ROWS_AT_ONCE));
        for (block, scores) in blocks {
            let count = scores.len();
            let mut input = block;
            if let Some((weight, bias)) = &self.first {
                let adapted = &mut adapted[..count * self.dim];
                let out = MatMut::new(adapted, count, self.dim)?;
                gemm_packed(MatRef::new(block, count, self.dim)?, weight, out, Accumulate::Overwrite)?;
                adapted.par_chunks_exact_mut(self.dim).for_each(|row| {
                    row.iter_mut().zip(bias).for_each(|(x, &bias)| *x = leaky(*x + bias));
                });
                input = adapted;
            }
            let hidden = &mut hidden[..count * self.hidden];
            let (input, out) = (
                MatRef::new(input, count, self.dim)?,
                MatMut::new(hidden, count, self.hidden)?,
            );
            gemm_packed(input, &self.matrix, out, Accumulate::Overwrite)?;
            scores
                .par_iter_mut()
                .zip(hidden.par_chunks_exact(self.hidden))
                .with_min_len(16)
                .for_each(|(score, row)| {
                    let columns = [row, &self.bias, &self.output];
                    *score = -sums::sum_lanes(columns, |[x, bias, output]| leaky(x + bias) * output);
                });
        }
        match scores.iter().position(|score| !score.to_f64().is_finite()) {
            Some(row) => Err(Error::ScoreNotFinite { row }),
            None => Ok(scores),
        }
    }
}

/// `out += sign · matrix · vector`, summed in f64.
fn add_product<T: Scalar>(out: &mut [T], matrix: &[T], vector: &[T], sign: T) {
    for (out, row) in out.iter_mut().zip(matrix.chunks_exact(vector.len())) {
        let product: f64 = row.iter().zip(vector).map(|(a, b)| a.to_f64() * b.to_f64()).sum();
        *out = T::from_f64(out.to_f64() + sign.to_f64() * product);
    }
}
