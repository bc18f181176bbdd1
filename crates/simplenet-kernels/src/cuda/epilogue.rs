//! What follows a convolution, on the GPU, for [`crate::candle_ops::bias_residual_activation`].

use candle_core::Result;

use super::gpu::{Argument, Gpu, Grid, NULL, Span, int};
use crate::graph::Activation;

/// `out = activation(x + bias + residual)`: value `i` belongs to channel `i / inner % channels`, where `bias` is `[channels]`.
///
/// # Errors
/// Where a span has another size.
pub(crate) fn bias_activation(
    gpu: &Gpu,
    x: Span<'_, f32>,
    bias: Span<'_, f32>,
    residual: Option<Span<'_, f32>>,
    out: Span<'_, f32>,
    inner: usize,
    activation: Activation,
) -> Result<()> {
    out.expect("the result", x.len())?;
    let channels = bias.len();
    let residual = match residual {
        Some(residual) => residual.expect("the residual", x.len())?.address(),
        None => NULL,
    };
    let activation: i32 = match activation {
        Activation::Linear => 0,
        Activation::Relu => 1,
        Activation::Relu6 => 2,
    };
    // Views may begin anywhere.
    let aligned = [x.address(), residual, out.address()]
        .iter()
        .all(|address| address.is_multiple_of(16));
    let in_fours = if inner == 1 { channels } else { inner }.is_multiple_of(4);
    let (name, threads) = match aligned && in_fours {
        true => ("bias_activation_x4", x.len() / 4),
        false => ("bias_activation", x.len()),
    };
    let (count, channels, inner) = (
        int("values", x.len())?,
        int("channels", channels)?,
        int("pixels", inner)?,
    );
    let arguments: [&dyn Argument; 8] = [&x, &bias, &residual, &out, &activation, &count, &channels, &inner];
    gpu.launch("epilogue", name, Grid::over(threads), &arguments)
}
