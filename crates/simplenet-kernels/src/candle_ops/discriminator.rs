//! A discriminator behind its first layer.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, backend::BackendStorage};
use rayon::prelude::*;

use super::{expect_shape, values};

/// Rows of a task, and partial sums of a column side by side.
const ROWS_PER_TASK: usize = 64;
const LANES: usize = 16;

/// γ, β, the last layer; mean, inverse deviation.
const UNITS: usize = 5;

/// Scores D `[rows]` of pre-activations `z` `[rows, hidden]`, the output of the discriminator's first layer (the two-layer
/// perceptron of Liu et al. 2023, section 3.4): batch norm by `gamma` and `beta` `[hidden]` with the mean and the biased
/// variance of the rows themselves, LeakyReLU with `slope` below zero, and the product with `output` `[hidden]`.
///
/// It has a gradient with respect to `z`, `gamma`, `beta` and `output`, that of `z` through mean and variance too. Results
/// are the same for any number of threads. The first layer's bias can be left out, as the mean takes it away again. The
/// authors' code has `epsilon` 1e-5 and `slope` 0.2, and the normal and the noised rows together in `z`.
///
/// # Errors
/// Where shapes do not fit, there are no rows or hidden units, `epsilon` is negative or not a number, a tensor is not f32, or
/// `z` is not contiguous.
pub fn discriminator_scores(
    z: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    output: &Tensor,
    epsilon: f64,
    slope: f64,
) -> Result<Tensor> {
    let (rows, hidden) = z.dims2()?;
    if rows == 0 || hidden == 0 {
        bail!("{rows} rows of {hidden} pre-activations have no mean\n\nhint: `z` is [rows, hidden], at least [1, 1]");
    }
    for (what, parameter) in [("γ", gamma), ("β", beta), ("the last layer", output)] {
        expect_shape(what, parameter, "a row of `z`", &[hidden])?;
    }
    if !epsilon.is_finite() || epsilon < 0.0 {
        bail!("epsilon is {epsilon}, and a variance and it are to have a root\n\nhint: the authors' code has 1e-5");
    }
    let statistics = z.apply_op1_no_bwd(&Statistics { epsilon })?;
    let parameters = Tensor::stack(&[gamma, beta, output], 0)?;
    let units = Tensor::cat(&[&parameters, &statistics], 0)?;
    let slope = slope as f32;
    z.apply_op2(&units, Scores { slope })
}

/// Of `z` `[rows, hidden]` to `[2, hidden]`: mean and `1 / √(variance + epsilon)` of every column.
struct Statistics {
    epsilon: f64,
}

/// Of `z` `[rows, hidden]` and `[UNITS, hidden]` to `[rows]`.
struct Scores {
    slope: f32,
}

/// Of the same and the gradient of the scores, `[rows]`, to the gradients of both, one below the other:
/// `[rows + UNITS, hidden]`. That of `z` takes the statistics as functions of `z`, so they get none themselves.
struct Back {
    slope: f32,
}

impl CustomOp1 for Statistics {
    fn name(&self) -> &'static str {
        "discriminator-statistics"
    }

    fn cpu_fwd(&self, z: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, hidden) = layout.shape().dims2()?;
        let statistics = statistics(values(z, layout)?, hidden, self.epsilon);
        Ok((CpuStorage::F32(statistics), (2, hidden).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, z: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        use super::device;
        use crate::cuda::{Gpu, discriminator};

        let gpu = Gpu::of(z.device())?;
        let (_, hidden) = layout.shape().dims2()?;
        let out = gpu.zeros(2 * hidden)?;
        discriminator::statistics(&gpu, device::values(z, layout)?, self.epsilon, out.all())?;
        Ok((device::storage(&gpu, out), (2, hidden).into()))
    }
}

impl CustomOp2 for Scores {
    fn name(&self) -> &'static str {
        "discriminator-scores"
    }

    fn cpu_fwd(&self, z: &CpuStorage, l1: &Layout, units: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, hidden) = l1.shape().dims2()?;
        let scores = scores(values(z, l1)?, values(units, l2)?, hidden, self.slope);
        Ok((CpuStorage::F32(scores), rows.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, z: &CudaStorage, l1: &Layout, units: &CudaStorage, l2: &Layout) -> Result<(CudaStorage, Shape)> {
        use super::device;
        use crate::cuda::{Gpu, discriminator};

        let gpu = Gpu::of(z.device())?;
        let (rows, _) = l1.shape().dims2()?;
        let out = gpu.zeros(rows)?;
        let (z, units) = (device::values(z, l1)?, device::values(units, l2)?);
        discriminator::scores(&gpu, z, units, self.slope, out.all())?;
        Ok((device::storage(&gpu, out), rows.into()))
    }

    fn bwd(
        &self,
        z: &Tensor,
        units: &Tensor,
        _scores: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let back = Back { slope: self.slope };
        let both = z.apply_op3_no_bwd(units, &gradient.contiguous()?, &back)?;
        let rows = z.dim(0)?;
        Ok((Some(both.narrow(0, 0, rows)?), Some(both.narrow(0, rows, UNITS)?)))
    }
}

impl CustomOp3 for Back {
    fn name(&self) -> &'static str {
        "discriminator-back"
    }

    fn cpu_fwd(
        &self,
        z: &CpuStorage,
        l1: &Layout,
        units: &CpuStorage,
        l2: &Layout,
        gradient: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, hidden) = l1.shape().dims2()?;
        let (z, units, gradient) = (values(z, l1)?, values(units, l2)?, values(gradient, l3)?);
        let gradients = back(z, units, gradient, hidden, self.slope);
        Ok((CpuStorage::F32(gradients), (rows + UNITS, hidden).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        z: &CudaStorage,
        l1: &Layout,
        units: &CudaStorage,
        l2: &Layout,
        gradient: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        use super::device;
        use crate::cuda::{Gpu, discriminator};

        let gpu = Gpu::of(z.device())?;
        let (rows, hidden) = l1.shape().dims2()?;
        let out = gpu.zeros((rows + UNITS) * hidden)?;
        let (z, units) = (device::values(z, l1)?, device::values(units, l2)?);
        let gradient = device::values(gradient, l3)?;
        discriminator::back(&gpu, z, units, gradient, self.slope, out.all())?;
        Ok((device::storage(&gpu, out), (rows + UNITS, hidden).into()))
    }
}

/// The rows of `[UNITS, hidden]`.
struct Units<'a> {
    gamma: &'a [f32],
    beta: &'a [f32],
    output: &'a [f32],
    mean: &'a [f32],
    inverse: &'a [f32],
    /// γ · inverse deviation.
    scale: Vec<f32>,
}

impl<'a> Units<'a> {
    fn new(units: &'a [f32], hidden: usize) -> Units<'a> {
        let row = |at: usize| &units[at * hidden..][..hidden];
        let (gamma, inverse) = (row(0), row(4));
        Units {
            gamma,
            beta: row(1),
            output: row(2),
            mean: row(3),
            inverse,
            scale: gamma
                .iter()
                .zip(inverse)
                .map(|(gamma, inverse)| gamma * inverse)
                .collect(),
        }
    }
}

/// Column sums of two quantities over all rows, in f64: `[2, hidden]`. `add` adds a block of rows, whose first one it gets
/// the number of; blocks depend on the number of rows alone, and are added up in their order.
fn column_sums(
    rows: usize,
    hidden: usize,
    add: impl Fn(std::ops::Range<usize>, &mut [f64], &mut [f64]) + Sync,
) -> Vec<f64> {
    let per_block = rows.div_ceil(1024).max(ROWS_PER_TASK);
    let blocks = rows.div_ceil(per_block);
    let mut partials = vec![0.0; blocks * 2 * hidden];
    partials
        .par_chunks_exact_mut(2 * hidden)
        .enumerate()
        .for_each(|(block, sums)| {
            let (first, second) = sums.split_at_mut(hidden);
            let begin = block * per_block;
            add(begin..(begin + per_block).min(rows), first, second);
        });
    let (totals, others) = partials.split_at_mut(2 * hidden);
    for partial in others.chunks_exact(2 * hidden) {
        totals
            .iter_mut()
            .zip(partial)
            .for_each(|(total, value)| *total += value);
    }
    partials.truncate(2 * hidden);
    partials
}

fn statistics(z: &[f32], hidden: usize, epsilon: f64) -> Vec<f32> {
    let rows = z.len() / hidden;
    // Differences from the first row, so that columns with a large mean lose no digits of their variance.
    let shift = &z[..hidden];
    let sums = column_sums(rows, hidden, |block, first, second| {
        for row in z[block.start * hidden..block.end * hidden].chunks_exact(hidden) {
            let columns = row.iter().zip(shift).zip(first.iter_mut().zip(second.iter_mut()));
            for ((&value, &shift), (first, second)) in columns {
                let difference = f64::from(value) - f64::from(shift);
                *first += difference;
                *second += difference * difference;
            }
        }
    });
    let mut out = vec![0.0; 2 * hidden];
    let (means, inverses) = out.split_at_mut(hidden);
    for unit in 0..hidden {
        let offset = sums[unit] / rows as f64;
        let variance = sums[hidden + unit] / rows as f64 - offset * offset;
        let variance = if variance < 0.0 { 0.0 } else { variance };
        means[unit] = (f64::from(shift[unit]) + offset) as f32;
        // An infinite variance would silence the unit; the loss must show it instead.
        inverses[unit] = if variance.is_finite() {
            (1.0 / (variance + epsilon).sqrt()) as f32
        } else {
            f32::NAN
        };
    }
    out
}

fn scores(z: &[f32], units: &[f32], hidden: usize, slope: f32) -> Vec<f32> {
    let Units {
        beta,
        output,
        mean,
        scale,
        ..
    } = Units::new(units, hidden);
    let term = |[z, mean, scale, beta, output]: [f32; 5]| {
        let normalised = (z - mean) * scale + beta;
        (if normalised > 0.0 {
            normalised
        } else {
            normalised * slope
        }) * output
    };
    let mut scores = vec![0.0; z.len() / hidden];
    let tasks = scores.par_chunks_mut(ROWS_PER_TASK);
    tasks.zip(z.par_chunks(ROWS_PER_TASK * hidden)).for_each(|(scores, z)| {
        for (score, z) in scores.iter_mut().zip(z.chunks_exact(hidden)) {
            *score = sum_lanes([z, mean, &scale, beta, output], term);
        }
    });
    scores
}

/// The sum of `term` over columns of equal length in [`LANES`] interleaved parts, which the processor's vector units add up
/// side by side.
#[inline(always)]
fn sum_lanes<const N: usize>(columns: [&[f32]; N], term: impl Fn([f32; N]) -> f32) -> f32 {
    let parts = columns.map(|column| column.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for block in 0..parts[0].0.len() {
        let blocks = parts.map(|(blocks, _)| &blocks[block]);
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(blocks.map(|block| block[lane]));
        }
    }
    let rest = (0..parts[0].1.len()).map(|index| term(parts.map(|(_, rest)| rest[index])));
    rest.sum::<f32>() + lanes.iter().sum::<f32>()
}

fn back(z: &[f32], units: &[f32], gradient: &[f32], hidden: usize, slope: f32) -> Vec<f32> {
    let rows = gradient.len();
    let units = Units::new(units, hidden);
    let (mean, scale, beta) = (units.mean, &units.scale[..hidden], units.beta);
    // With g, the gradient of a row's score, times LeakyReLU's slope: sums of g and of g (z − mean).
    let sums = column_sums(rows, hidden, |block, first, second| {
        let z = z[block.start * hidden..block.end * hidden].chunks_exact(hidden);
        for (z, &above) in z.zip(&gradient[block]) {
            let below = above * slope;
            let (first, second) = (&mut first[..hidden], &mut second[..hidden]);
            for unit in 0..hidden {
                let centred = z[unit] - mean[unit];
                let back = if centred * scale[unit] + beta[unit] > 0.0 {
                    above
                } else {
                    below
                };
                first[unit] += f64::from(back);
                second[unit] += f64::from(back * centred);
            }
        }
    });
    let mut out = vec![0.0; (rows + UNITS) * hidden];
    let (of_z, of_units) = out.split_at_mut(rows * hidden);
    let mut coefficients = [vec![0.0; hidden], vec![0.0; hidden], vec![0.0; hidden]];
    for unit in 0..hidden {
        let at = |row: &[f32]| f64::from(row[unit]);
        let (gamma, beta, weight, inverse) = (at(units.gamma), at(beta), at(units.output), at(units.inverse));
        let (plain, normalised) = (sums[unit], sums[hidden + unit] * inverse);
        of_units[unit] = (weight * normalised) as f32;
        of_units[hidden + unit] = (weight * plain) as f32;
        of_units[2 * hidden + unit] = (gamma * normalised + beta * plain) as f32;
        // dz = γ · inverse · (dy − mean(dy) − x̂ · mean(dy · x̂)).
        let factor = gamma * inverse * weight;
        coefficients[0][unit] = factor as f32;
        coefficients[1][unit] = (factor * plain / rows as f64) as f32;
        coefficients[2][unit] = (factor * inverse * normalised / rows as f64) as f32;
    }
    let [factor, offset, tilt] = coefficients.each_ref().map(|column| &column[..hidden]);
    let tasks = of_z.par_chunks_mut(ROWS_PER_TASK * hidden);
    let tasks = tasks.zip(z.par_chunks(ROWS_PER_TASK * hidden));
    tasks
        .zip(gradient.par_chunks(ROWS_PER_TASK))
        .for_each(|((out, z), gradient)| {
            let rows = out.chunks_exact_mut(hidden).zip(z.chunks_exact(hidden));
            for ((out, z), &above) in rows.zip(gradient) {
                let below = above * slope;
                for unit in 0..hidden {
                    let centred = z[unit] - mean[unit];
                    let back = if centred * scale[unit] + beta[unit] > 0.0 {
                        above
                    } else {
                        below
                    };
                    out[unit] = back * factor[unit] - offset[unit] - centred * tilt[unit];
                }
            }
        });
    out
}
