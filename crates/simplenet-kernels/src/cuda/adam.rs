//! One update of Adam on the GPU, for [`crate::candle_ops::adam_step`].

use candle_core::Result;

use super::gpu::{Argument, Gpu, Grid, Span, arguments, int};
use crate::adam::AdamUpdate;

arguments!(AdamUpdate<f32>);

/// Updates parameters and both moments in place.
///
/// # Errors
/// Where a span has another size.
pub(crate) fn update(
    gpu: &Gpu,
    parameters: Span<'_, f32>,
    gradients: Span<'_, f32>,
    [firsts, seconds]: [Span<'_, f32>; 2],
    update: &AdamUpdate<f32>,
) -> Result<()> {
    let count = parameters.len();
    gradients.expect("the gradient", count)?;
    firsts.expect("the first moment", count)?;
    seconds.expect("the second moment", count)?;
    let grid = Grid::over(count);
    let count = int("parameters", count)?;
    let arguments: [&dyn Argument; 6] = [&parameters, &gradients, &firsts, &seconds, update, &count];
    gpu.launch("adam", "adam_update", grid, &arguments)
}
