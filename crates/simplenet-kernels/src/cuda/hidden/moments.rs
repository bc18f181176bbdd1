//! What is asked of features before a training: their moments, and whether they are finite.

use candle_core::{Result, bail};

use super::UNITS_PER_BLOCK;
use crate::cuda::gpu::{Buffer, Gpu, Grid, Span, int};

/// Sums of `x − first row` and of its square per channel over rows `[count, dim]`, in f64: `[2, dim]`.
///
/// # Errors
/// Where `rows` is no whole number of rows, or the device fails.
pub fn channel_sums(gpu: &Gpu, rows: Span<'_, f32>, dim: usize) -> Result<Vec<f64>> {
    let (partials, _) = channel_partials(gpu, rows, dim)?;
    let partials = gpu.download(partials.all())?;
    let mut sums = vec![0.0; 2 * dim];
    for partial in partials.chunks_exact(2 * dim) {
        sums.iter_mut().zip(partial).for_each(|(sum, value)| *sum += value);
    }
    Ok(sums)
}

/// Partial sums `[blocks, 2, dim]` of what [`channel_sums`] adds up, and how many blocks they are.
///
/// # Errors
/// Where `rows` is no whole number of rows, or the device fails.
pub(in crate::cuda) fn channel_partials(gpu: &Gpu, rows: Span<'_, f32>, dim: usize) -> Result<(Buffer<f64>, usize)> {
    if rows.is_empty() || !rows.len().is_multiple_of(dim) {
        bail!("{} values are no rows of {dim} channels", rows.len());
    }
    let count = rows.len() / dim;
    let rows_per_block = rows_per_block(count);
    let blocks = count.div_ceil(rows_per_block);
    let partials: Buffer<f64> = gpu.zeros(blocks * 2 * dim)?;
    let grid = Grid::blocks([dim.div_ceil(UNITS_PER_BLOCK), blocks, 1], UNITS_PER_BLOCK);
    let (count, per_block, channels) = (count as i64, int("rows", rows_per_block)?, int("channels", dim)?);
    gpu.launch(
        "head",
        "channel_sums",
        grid,
        &[&rows, &partials.all(), &count, &per_block, &channels],
    )?;
    Ok((partials, blocks))
}

/// Rows whose sums one block makes, so that there are blocks for every processor whatever the number of rows.
pub(in crate::cuda) fn rows_per_block(rows: usize) -> usize {
    rows.div_ceil(1024).max(64)
}

/// Whether every value is finite; waits for the device.
///
/// # Errors
/// Where the device fails.
pub fn all_finite(gpu: &Gpu, values: Span<'_, f32>) -> Result<bool> {
    let flag: Buffer<i32> = gpu.zeros(1)?;
    let count = values.len() as i64;
    let blocks = values.len().div_ceil(256).min(8 * gpu.processors());
    gpu.launch(
        "head",
        "find_not_finite",
        Grid::blocks([blocks, 1, 1], 256),
        &[&values, &count, &flag.all()],
    )?;
    Ok(gpu.download(flag.all())? == [0])
}
