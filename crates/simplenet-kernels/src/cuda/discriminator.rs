//! A discriminator's scores behind its first layer, and their loss, on the GPU, for
//! [`crate::candle_ops::discriminator_scores`] and [`crate::candle_ops::truncated_l1`].

use candle_core::{Result, bail};

use super::gpu::{Argument, Buffer, Gpu, Grid, Span, int};
use super::hidden::{UNITS_PER_BLOCK, channel_partials, merge_grid, rows_per_block};

/// Mean and `1 / √(biased variance + epsilon)` of the columns of `z` `[rows, hidden]` into `out` `[2, hidden]`.
///
/// # Errors
/// Where a span has another size.
pub(crate) fn statistics(gpu: &Gpu, z: Span<'_, f32>, epsilon: f64, out: Span<'_, f32>) -> Result<()> {
    let hidden = out.len() / 2;
    let (partials, blocks) = channel_partials(gpu, z, hidden)?;
    let rows = int("rows", z.len() / hidden)?;
    let (count, units) = (int("partial sums", blocks)?, int("hidden units", hidden)?);
    let partials = partials.all();
    let arguments: [&dyn Argument; 7] = [&partials, &count, &z, &out, &epsilon, &rows, &units];
    gpu.launch(
        "discriminator",
        "discriminator_statistics",
        merge_grid(hidden),
        &arguments,
    )
}

/// Scores `[rows]` of `z` `[rows, hidden]`, by `units` `[5, hidden]`: γ, β, the last layer, mean and inverse deviation.
///
/// # Errors
/// Where a span has another size.
pub(crate) fn scores(
    gpu: &Gpu,
    z: Span<'_, f32>,
    units: Span<'_, f32>,
    slope: f32,
    scores: Span<'_, f32>,
) -> Result<()> {
    let (rows, hidden) = shape(z, units, scores)?;
    let grid = Grid::over(32 * rows);
    let (rows, hidden) = (int("rows", rows)?, int("hidden units", hidden)?);
    let arguments: [&dyn Argument; 6] = [&z, &units, &scores, &slope, &rows, &hidden];
    gpu.launch("discriminator", "discriminator_scores", grid, &arguments)
}

/// From the `gradient` `[rows]` of the scores to those of `z` and, below it, of `units`: `out` `[rows + 5, hidden]`.
///
/// # Errors
/// Where a span has another size.
pub(crate) fn back(
    gpu: &Gpu,
    z: Span<'_, f32>,
    units: Span<'_, f32>,
    gradient: Span<'_, f32>,
    slope: f32,
    out: Span<'_, f32>,
) -> Result<()> {
    let (rows, hidden) = shape(z, units, gradient)?;
    out.expect("the gradients", z.len() + units.len())?;
    int("pre-activations", z.len())?;
    let (of_z, of_units) = (out.range(0..z.len()), out.range(z.len()..out.len()));
    let per_block = rows_per_block(rows);
    let blocks = rows.div_ceil(per_block);
    let partials: Buffer<f64> = gpu.zeros(blocks * 2 * hidden)?;
    let coefficients: Buffer<f32> = gpu.zeros(3 * hidden)?;
    let (partials, coefficients) = (partials.all(), coefficients.all());
    let sums = Grid::blocks([hidden.div_ceil(UNITS_PER_BLOCK), blocks, 1], UNITS_PER_BLOCK);
    let merge = merge_grid(hidden);
    let (rows, hidden) = (int("rows", rows)?, int("hidden units", hidden)?);
    let (per_block, blocks) = (int("rows", per_block)?, int("partial sums", blocks)?);

    let module = "discriminator";
    let arguments: [&dyn Argument; 8] = [&z, &units, &gradient, &partials, &slope, &rows, &per_block, &hidden];
    gpu.launch(module, "discriminator_back_sums", sums, &arguments)?;
    let arguments: [&dyn Argument; 7] = [&partials, &blocks, &units, &of_units, &coefficients, &rows, &hidden];
    gpu.launch(module, "discriminator_gradients", merge, &arguments)?;
    let arguments: [&dyn Argument; 8] = [&z, &units, &gradient, &coefficients, &of_z, &slope, &rows, &hidden];
    gpu.launch(module, "discriminator_back", Grid::over(z.len()), &arguments)
}

/// Rows and hidden units.
fn shape(z: Span<'_, f32>, units: Span<'_, f32>, per_row: Span<'_, f32>) -> Result<(usize, usize)> {
    let hidden = units.len() / 5;
    let rows = per_row.len();
    if units.len() != 5 * hidden || z.len() != rows * hidden {
        bail!(
            "{} pre-activations, {} values of their units and {rows} of their rows do not fit together",
            z.len(),
            units.len()
        );
    }
    Ok((rows, hidden))
}

/// The truncated L1 loss of scores `[rows]` each, with margins th⁺ and th⁻, into `loss` `[1]`.
///
/// # Errors
/// Where a span has another size.
pub(crate) fn truncated_l1(
    gpu: &Gpu,
    [normal, noised]: [Span<'_, f32>; 2],
    [positive, negative]: [f32; 2],
    loss: Span<'_, f32>,
) -> Result<()> {
    noised.expect("the noised scores", normal.len())?;
    loss.expect("the loss", 1)?;
    let rows = int("rows", normal.len())?;
    let arguments: [&dyn Argument; 6] = [&normal, &noised, &loss, &positive, &negative, &rows];
    gpu.launch(
        "discriminator",
        "truncated_l1",
        Grid::blocks([1, 1, 1], 256),
        &arguments,
    )
}

/// From the `gradient` `[1]` of the loss to those of the scores: `out` `[2, rows]`.
///
/// # Errors
/// Where a span has another size.
pub(crate) fn truncated_l1_back(
    gpu: &Gpu,
    [normal, noised]: [Span<'_, f32>; 2],
    gradient: Span<'_, f32>,
    [positive, negative]: [f32; 2],
    out: Span<'_, f32>,
) -> Result<()> {
    let rows = normal.len();
    noised.expect("the noised scores", rows)?;
    gradient.expect("the loss's gradient", 1)?;
    out.expect("the gradients", 2 * rows)?;
    let (grid, share) = (Grid::over(rows), (1.0 / rows as f64) as f32);
    let rows = int("rows", rows)?;
    let arguments: [&dyn Argument; 8] = [&normal, &noised, &gradient, &out, &positive, &negative, &share, &rows];
    gpu.launch("discriminator", "truncated_l1_back", grid, &arguments)
}
