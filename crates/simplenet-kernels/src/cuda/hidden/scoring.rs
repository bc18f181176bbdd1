//! The head in evaluation mode.

use candle_core::{Result, bail};

use crate::cuda::gpu::{Argument, Gpu, Grid, NULL, Span, int};

/// `out[h] = own[h] + Σ_i weight[h, i] bias[i]` for `weight` `[hidden, dim]`: a bias that has gone through a layer.
///
/// # Errors
/// Where a span has another size.
pub fn fold_bias(
    gpu: &Gpu,
    own: Span<'_, f32>,
    weight: Span<'_, f32>,
    bias: Option<Span<'_, f32>>,
    out: Span<'_, f32>,
) -> Result<()> {
    let hidden = own.expect("the bias", out.len())?.len();
    if hidden == 0 {
        bail!("there are no hidden units to fold a bias into");
    }
    let dim = weight.len() / hidden;
    weight.expect("the weight", hidden * dim)?;
    let bias = match bias {
        Some(bias) => bias.expect("the bias before", dim)?.address(),
        None => NULL,
    };
    let (units, dim) = (int("hidden units", hidden)?, int("channels", dim)?);
    gpu.launch(
        "head",
        "fold_bias",
        Grid::over(32 * hidden),
        &[&own, &weight, &bias, &out, &units, &dim],
    )
}

/// Batch norm in evaluation mode, with the bias of the layer before it, as `scale · x + shift`.
///
/// # Errors
/// Where a span has another size.
pub fn fold_batch_norm(
    gpu: &Gpu,
    gamma: Span<'_, f32>,
    beta: Span<'_, f32>,
    bias: Span<'_, f32>,
    [running_mean, running_var]: [Span<'_, f32>; 2],
    [scale, shift]: [Span<'_, f32>; 2],
) -> Result<()> {
    let hidden = gamma.len();
    for span in [beta, bias, running_mean, running_var, scale, shift] {
        span.expect("a parameter of the hidden layer", hidden)?;
    }
    let units = int("hidden units", hidden)?;
    let arguments: [&dyn Argument; 8] = [
        &gamma,
        &beta,
        &bias,
        &running_mean,
        &running_var,
        &scale,
        &shift,
        &units,
    ];
    gpu.launch("head", "fold_batch_norm", Grid::over(hidden), &arguments)
}

/// Anomaly scores `−Σ LeakyReLU(scale · z + shift) output` of pre-activations `[rows, hidden]` (Eq. 9).
///
/// # Errors
/// Where a span has another size.
pub fn score_rows(
    gpu: &Gpu,
    z: Span<'_, f32>,
    [scale, shift]: [Span<'_, f32>; 2],
    output: Span<'_, f32>,
    scores: Span<'_, f32>,
) -> Result<()> {
    let (rows, hidden) = (scores.len(), output.len());
    z.expect("the pre-activations", rows * hidden)?;
    scale.expect("the scales", hidden)?;
    shift.expect("the shifts", hidden)?;
    let (row_count, hidden) = (int("rows", rows)?, int("hidden units", hidden)?);
    let arguments: [&dyn Argument; 7] = [&z, &scale, &shift, &output, &scores, &row_count, &hidden];
    gpu.launch("head", "score_rows", Grid::over(32 * rows), &arguments)
}
