//! The hidden layer of a two-layer adaptor in a training step.

use candle_core::{Result, bail};

use super::{ROWS_PER_PARTIAL, UNITS_PER_BLOCK, merge_grid};
use crate::cuda::gemm::Factor;
use crate::cuda::gpu::{Buffer, Gpu, Grid, NULL, Span, int};

/// The hidden activation of a two-layer adaptor in place, `values = LeakyReLU(values + bias)` over rows `[n, dim]`, and a
/// copy of it in the products' type (in f32 it may be `values`).
///
/// # Errors
/// Where a span has another size.
pub fn inner_forward<T: Factor>(
    gpu: &Gpu,
    values: Span<'_, f32>,
    bias: Option<Span<'_, f32>>,
    copy: Span<'_, T>,
    dim: usize,
) -> Result<()> {
    copy.expect("the copy", values.len())?;
    let bias = match bias {
        Some(bias) => bias.expect("the bias", dim)?.address(),
        None => NULL,
    };
    let (count, dim) = (int("values", values.len())?, int("channels", dim)?);
    let name = T::named("inner_forward_f32", "inner_forward_bf16");
    gpu.launch(
        "head",
        name,
        Grid::over(values.len()),
        &[&values, &bias, &copy, &count, &dim],
    )
}

/// Its way back: `gradient` `[n, dim]` of its output through LeakyReLU into `copy` (in f32 it may be `gradient`), and the
/// column sums of that, the bias's gradient, into `bias_gradient` where it is given.
///
/// # Errors
/// Where a span has another size.
pub fn inner_back<T: Factor>(
    gpu: &Gpu,
    gradient: Span<'_, f32>,
    values: Span<'_, f32>,
    copy: Span<'_, T>,
    partials: &Buffer<f32>,
    bias_gradient: Option<Span<'_, f32>>,
    dim: usize,
) -> Result<()> {
    copy.expect("the copy", gradient.len())?;
    values.expect("the activations", gradient.len())?;
    if dim == 0 || !gradient.len().is_multiple_of(dim) {
        bail!("{} gradients are no rows of {dim} channels", gradient.len());
    }
    let rows = gradient.len() / dim;
    let blocks = rows.div_ceil(ROWS_PER_PARTIAL);
    let partials = partials.range(0..blocks * 2 * dim);
    let grid = Grid::blocks([dim.div_ceil(UNITS_PER_BLOCK) * blocks, 1, 1], UNITS_PER_BLOCK);
    let (rows, width) = (int("rows", rows)?, int("channels", dim)?);
    let name = T::named("inner_back_f32", "inner_back_bf16");
    gpu.launch(
        "head",
        name,
        grid,
        &[&gradient, &values, &copy, &partials, &rows, &width],
    )?;
    let Some(bias_gradient) = bias_gradient else {
        return Ok(());
    };
    let into = bias_gradient.expect("the bias's gradient", dim)?;
    let count = int("partial sums", blocks)?;
    gpu.launch(
        "head",
        "merge_columns",
        merge_grid(dim),
        &[&partials, &count, &into, &width],
    )
}

/// Values that [`inner_back`] needs room for, with `rows` rows of `dim`.
pub fn inner_partials(rows: usize, dim: usize) -> usize {
    rows.div_ceil(ROWS_PER_PARTIAL) * 2 * dim
}
