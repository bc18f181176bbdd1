//! The discriminator's hidden layer in training: batch norm over normal and noised rows together, LeakyReLU, the row
//! product with the last layer, the loss, and the way back. Three sweeps over the pre-activations do all of it.
//!
//! Pre-activations come as two matrices `[rows, hidden]`: `z` of the normal features and `e`, what the noise adds to
//! it, so those of the noised features are `z + e` and are never stored. The first layer's bias is in neither: batch
//! norm removes whatever a column has in common, so it only shifts the running mean.

use rayon::prelude::*;

use crate::head::{BATCH_NORM_EPSILON, LEAKY_SLOPE, leaky};
use crate::loss::LossGradient;
use crate::scalar::Scalar;
use crate::sums::{ROWS_PER_PARTIAL, merge, partial_count, sum_lanes};

/// Buffers for up to a number of rows, and what the sweeps find per hidden unit.
#[derive(Debug)]
pub(crate) struct HiddenSweeps<T> {
    hidden: usize,
    partials: Vec<T>,
    totals: Vec<f64>,
    shift: Vec<T>,
    /// Mean of a pre-activation over both halves of the batch.
    mean: Vec<T>,
    /// 1/√(variance + ε).
    inverse_deviation: Vec<T>,
    /// γ · inverse deviation.
    scale: Vec<T>,
    back_weight: Vec<T>,
    back_offset: Vec<T>,
    back_slope: Vec<T>,
}

/// The discriminator's parameters behind its first layer.
#[derive(Clone, Copy)]
pub(crate) struct HiddenParameters<'a, T> {
    /// γ of batch norm.
    pub(crate) gamma: &'a [T],
    /// β of batch norm.
    pub(crate) beta: &'a [T],
    /// The last layer.
    pub(crate) output: &'a [T],
}

/// Where their gradients go.
pub(crate) struct HiddenGradients<'a, T> {
    pub(crate) gamma: &'a mut [T],
    pub(crate) beta: &'a mut [T],
    pub(crate) output: &'a mut [T],
}

impl<T: Scalar> HiddenSweeps<T> {
    pub(crate) fn new(max_rows: usize, hidden: usize) -> HiddenSweeps<T> {
        let column = || vec![T::ZERO; hidden];
        HiddenSweeps {
            hidden,
            partials: vec![T::ZERO; partial_count(max_rows) * 2 * hidden],
            totals: vec![0.0; 2 * hidden],
            shift: column(),
            mean: column(),
            inverse_deviation: column(),
            scale: column(),
            back_weight: column(),
            back_offset: column(),
            back_slope: column(),
        }
    }

    /// First sweep: mean and biased variance of every hidden unit over both halves, and PyTorch's update of the running
    /// statistics (momentum 0.1; the running variance takes the unbiased one). `bias` is the first layer's, folded.
    ///
    /// One pass in f32 is safe because it sums differences from the first row, which lies within a few deviations of the
    /// mean; sums of 128 such differences are merged in f64.
    pub(crate) fn statistics(&mut self, z: &[T], e: &[T], gamma: &[T], bias: &[f64], running: [&mut [T]; 2]) {
        const MOMENTUM: f64 = 0.1;
        let hidden = self.hidden;
        let rows = z.len() / hidden;
        self.shift.copy_from_slice(&z[..hidden]);
        let shift = &self.shift[..hidden];
        let partials = &mut self.partials[..partial_count(rows) * 2 * hidden];
        let chunk = ROWS_PER_PARTIAL * hidden;
        let work = partials
            .par_chunks_exact_mut(2 * hidden)
            .zip(z.par_chunks(chunk).zip(e.par_chunks(chunk)));
        work.for_each(|(sums, (z, e))| {
            sums.fill(T::ZERO);
            let (first, second) = sums.split_at_mut(hidden);
            for (z, e) in z.chunks_exact(hidden).zip(e.chunks_exact(hidden)) {
                for unit in 0..hidden {
                    let normal = z[unit] - shift[unit];
                    let noised = normal + e[unit];
                    first[unit] += normal + noised;
                    second[unit] += normal * normal + noised * noised;
                }
            }
        });
        merge(partials, &mut self.totals);
        let count = (2 * rows) as f64;
        let [running_mean, running_var] = running;
        for unit in 0..hidden {
            let offset = self.totals[unit] / count;
            let variance = self.totals[hidden + unit] / count - offset * offset;
            let variance = if variance < 0.0 { 0.0 } else { variance };
            let mean = self.shift[unit].to_f64() + offset;
            // An infinite variance would silence the unit; the loss must show it instead.
            let inverse = if variance.is_finite() {
                1.0 / (variance + BATCH_NORM_EPSILON).sqrt()
            } else {
                f64::NAN
            };
            self.mean[unit] = T::from_f64(mean);
            self.inverse_deviation[unit] = T::from_f64(inverse);
            self.scale[unit] = T::from_f64(inverse * gamma[unit].to_f64());
            let unbiased = variance * count / (count - 1.0);
            let blend = |old: T, new: f64| T::from_f64((1.0 - MOMENTUM) * old.to_f64() + MOMENTUM * new);
            running_mean[unit] = blend(running_mean[unit], mean + bias[unit]);
            running_var[unit] = blend(running_var[unit], unbiased);
        }
    }

    /// Second sweep: D of every row into `normal` and `noised`, and, because the loss's gradient at a row needs that row's
    /// score only, the gradients of batch norm and of the last layer in the same go. Rows past their margin add nothing
    /// and are skipped.
    pub(crate) fn scores(
        &mut self,
        [z, e]: [&[T]; 2],
        parameters: HiddenParameters<'_, T>,
        loss: &LossGradient<T>,
        [normal, noised]: [&mut [T]; 2],
        gradients: HiddenGradients<'_, T>,
    ) {
        let hidden = self.hidden;
        let rows = normal.len();
        let (mean, scale) = (&self.mean[..hidden], &self.scale[..hidden]);
        let (beta, output) = (&parameters.beta[..hidden], &parameters.output[..hidden]);
        let score = |centred: &[T]| {
            let columns = [centred, scale, beta, output];
            sum_lanes(columns, |[x, scale, beta, output]| leaky(x * scale + beta) * output)
        };
        let partials = &mut self.partials[..partial_count(rows) * 2 * hidden];
        let chunk = ROWS_PER_PARTIAL * hidden;
        let scores = normal
            .par_chunks_mut(ROWS_PER_PARTIAL)
            .zip(noised.par_chunks_mut(ROWS_PER_PARTIAL));
        let work = partials
            .par_chunks_exact_mut(2 * hidden)
            .zip(z.par_chunks(chunk).zip(e.par_chunks(chunk)));
        let row = || vec![T::ZERO; hidden];
        work.zip(scores)
            .for_each_init(row, |centred, ((sums, (z, e)), (normal, noised))| {
                sums.fill(T::ZERO);
                let rows = z.chunks_exact(hidden).zip(e.chunks_exact(hidden));
                for ((z, e), (normal, noised)) in rows.zip(normal.iter_mut().zip(noised)) {
                    (0..hidden).for_each(|unit| centred[unit] = z[unit] - mean[unit]);
                    *normal = score(centred);
                    add_row(sums, centred, scale, beta, loss.at_normal(*normal));
                    (0..hidden).for_each(|unit| centred[unit] += e[unit]);
                    *noised = score(centred);
                    add_row(sums, centred, scale, beta, loss.at_noised(*noised));
                }
            });
        merge(partials, &mut self.totals);
        let count = (2 * rows) as f64;
        for unit in 0..hidden {
            let inverse = self.inverse_deviation[unit].to_f64();
            let weight = output[unit].to_f64();
            let (plain, normalised) = (self.totals[unit], self.totals[hidden + unit] * inverse);
            let (gamma, beta) = (parameters.gamma[unit].to_f64(), beta[unit].to_f64());
            gradients.output[unit] = T::from_f64(gamma * normalised + beta * plain);
            gradients.beta[unit] = T::from_f64(weight * plain);
            gradients.gamma[unit] = T::from_f64(weight * normalised);
            // dz = scale · (dy − mean(dy) − x̂ · mean(dy·x̂)), written for the third sweep.
            self.back_weight[unit] = T::from_f64(gamma * inverse * weight);
            self.back_offset[unit] = T::from_f64(gamma * inverse * weight * plain / count);
            self.back_slope[unit] = T::from_f64(gamma * inverse * inverse * weight * normalised / count);
        }
    }

    /// Third sweep, in place: gradients of the pre-activations. `e` becomes that of the noised rows, `z` the sum of both
    /// (the adaptor and the first layer's share of the normal features need no more than the sum).
    pub(crate) fn back(&self, [z, e]: [&mut [T]; 2], beta: &[T], loss: &LossGradient<T>, [normal, noised]: [&[T]; 2]) {
        let hidden = self.hidden;
        let (mean, scale, beta) = (&self.mean[..hidden], &self.scale[..hidden], &beta[..hidden]);
        let (weight, offset) = (&self.back_weight[..hidden], &self.back_offset[..hidden]);
        let slope = &self.back_slope[..hidden];
        let slope_below = T::from_f64(LEAKY_SLOPE);
        let chunk = ROWS_PER_PARTIAL * hidden;
        let scores = normal
            .par_chunks(ROWS_PER_PARTIAL)
            .zip(noised.par_chunks(ROWS_PER_PARTIAL));
        z.par_chunks_mut(chunk)
            .zip(e.par_chunks_mut(chunk))
            .zip(scores)
            .for_each(|((z, e), (normal, noised))| {
                let rows = z.chunks_exact_mut(hidden).zip(e.chunks_exact_mut(hidden));
                for ((z, e), (&normal, &noised)) in rows.zip(normal.iter().zip(noised)) {
                    let (at_normal, at_noised) = (loss.at_normal(normal), loss.at_noised(noised));
                    let (below_normal, below_noised) = (at_normal * slope_below, at_noised * slope_below);
                    for unit in 0..hidden {
                        let normal = z[unit] - mean[unit];
                        let noised = z[unit] + e[unit] - mean[unit];
                        let above = normal * scale[unit] + beta[unit] > T::ZERO;
                        let at_normal = if above { at_normal } else { below_normal };
                        let above = noised * scale[unit] + beta[unit] > T::ZERO;
                        let at_noised = if above { at_noised } else { below_noised };
                        let back_normal = at_normal * weight[unit] - offset[unit] - normal * slope[unit];
                        let back_noised = at_noised * weight[unit] - offset[unit] - noised * slope[unit];
                        z[unit] = back_normal + back_noised;
                        e[unit] = back_noised;
                    }
                }
            });
    }
}

/// For a row whose score has the gradient g: adds g·slope to the first half of `sums`, one per unit, and
/// g·slope·(pre-activation − mean) to the second, where slope is LeakyReLU's.
fn add_row<T: Scalar>(sums: &mut [T], centred: &[T], scale: &[T], beta: &[T], gradient: T) {
    if gradient == T::ZERO {
        return;
    }
    let below = gradient * T::from_f64(LEAKY_SLOPE);
    let (first, second) = sums.split_at_mut(centred.len());
    let columns = centred.iter().zip(scale.iter().zip(beta));
    for ((first, second), (&x, (&scale, &beta))) in first.iter_mut().zip(second).zip(columns) {
        let slope = if x * scale + beta > T::ZERO { gradient } else { below };
        *first += slope;
        *second += slope * x;
    }
}
