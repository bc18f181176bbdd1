//! The three sweeps over the pre-activations of a step, and its end.

use candle_core::{Result, bail};

use super::adam::Adam;
use super::{ROWS_PER_PARTIAL, UNITS_PER_BLOCK, merge_grid};
use crate::cuda::gemm::Factor;
use crate::cuda::gpu::{Argument, Buffer, Gpu, Grid, Span, arguments, int};
use crate::cuda::noise::Progress;

/// Quantities in [`Sweeps::end`]'s totals: loss, mean D of normal and of noised rows, fraction of each past its margin.
pub const TOTALS: usize = 5;

/// A loss of the scores D: 1/rows of it per row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LossKind {
    /// max(0, th⁺ − D) for normal rows, max(0, D − th⁻) for noised ones.
    TruncatedL1,
    /// Binary cross entropy with D as the logit of "normal".
    CrossEntropy,
}

/// As `head.cu` declares it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Loss {
    kind: i32,
    positive: f32,
    negative: f32,
    share: f32,
}
arguments!(Loss);

impl Loss {
    /// For steps of `rows` normal rows, with margins th⁺ and th⁻.
    pub fn new(kind: LossKind, [positive, negative]: [f64; 2], rows: usize) -> Loss {
        Loss {
            kind: match kind {
                LossKind::TruncatedL1 => 0,
                LossKind::CrossEntropy => 1,
            },
            positive: positive as f32,
            negative: negative as f32,
            share: (1.0 / rows as f64) as f32,
        }
    }
}

/// The discriminator's parameters behind its first layer, `[hidden]` each.
#[derive(Clone, Copy)]
pub struct Parameters<'a> {
    /// γ of batch norm.
    pub gamma: Span<'a, f32>,
    /// β of batch norm.
    pub beta: Span<'a, f32>,
    /// The last layer.
    pub output: Span<'a, f32>,
}

/// Buffers for up to a number of rows, and what the sweeps find per hidden unit.
pub struct Sweeps {
    hidden: usize,
    partials: Buffer<f32>,
    /// mean, inverse deviation, scale, back weight, back offset, back slope.
    units: [Buffer<f32>; 6],
    normal: Buffer<f32>,
    noised: Buffer<f32>,
}

/// What a step leaves behind for the next one and for the host.
pub struct Counters {
    /// Where the training is.
    pub progress: Progress,
    /// What the epoch found out so far, as [`TOTALS`] lists it.
    pub totals: Buffer<f64>,
}

impl Counters {
    /// Zeros.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(gpu: &Gpu) -> Result<Counters> {
        Ok(Counters {
            progress: gpu.zeros(2)?,
            totals: gpu.zeros(TOTALS)?,
        })
    }
}

/// As `head.cu` declares it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Units([u64; 6]);
arguments!(Units);

impl Sweeps {
    /// For up to `max_rows` normal rows.
    ///
    /// # Errors
    /// Where one of them is 0, or the device has no room.
    pub fn new(gpu: &Gpu, max_rows: usize, hidden: usize) -> Result<Sweeps> {
        if max_rows == 0 || hidden == 0 {
            bail!("{max_rows} rows of {hidden} hidden units have no statistics\n\nhint: both are at least 1");
        }
        let unit = || gpu.zeros(hidden);
        Ok(Sweeps {
            hidden,
            partials: gpu.zeros(max_rows.div_ceil(ROWS_PER_PARTIAL) * 2 * hidden)?,
            units: [unit()?, unit()?, unit()?, unit()?, unit()?, unit()?],
            normal: gpu.zeros(max_rows)?,
            noised: gpu.zeros(max_rows)?,
        })
    }

    /// First sweep: mean and biased variance of every unit over both halves, and PyTorch's update of the running statistics
    /// `[mean, variance]`. `bias` is what the pre-activations lack: the first layer's, folded.
    ///
    /// # Errors
    /// Where a span has another size.
    pub fn statistics(
        &self,
        gpu: &Gpu,
        [z, e]: [Span<'_, f32>; 2],
        gamma: Span<'_, f32>,
        bias: Span<'_, f32>,
        [running_mean, running_var]: [Span<'_, f32>; 2],
    ) -> Result<()> {
        let rows = self.rows(z, e)?;
        let blocks = rows.div_ceil(ROWS_PER_PARTIAL);
        let grid = Grid::blocks([self.hidden.div_ceil(UNITS_PER_BLOCK) * blocks, 1, 1], UNITS_PER_BLOCK);
        let (row_count, hidden) = (int("rows", rows)?, int("hidden units", self.hidden)?);
        let partials = self.partials.all();
        gpu.launch("head", "hidden_sums", grid, &[&z, &e, &partials, &row_count, &hidden])?;
        let (count, units) = (int("partial sums", blocks)?, self.units());
        for (what, span) in [
            ("γ", gamma),
            ("the bias", bias),
            ("the running mean", running_mean),
            ("the running variance", running_var),
        ] {
            span.expect(what, self.hidden)?;
        }
        let arguments: [&dyn Argument; 10] = [
            &partials,
            &count,
            &z,
            &gamma,
            &bias,
            &running_mean,
            &running_var,
            &units,
            &row_count,
            &hidden,
        ];
        gpu.launch("head", "hidden_statistics", self.merge_grid(), &arguments)
    }

    /// Second sweep: D of every row, and the gradients of batch norm and the last layer into `gradients`.
    ///
    /// # Errors
    /// Where a span has another size.
    pub fn scores(
        &self,
        gpu: &Gpu,
        [z, e]: [Span<'_, f32>; 2],
        parameters: Parameters<'_>,
        loss: Loss,
        gradients: Parameters<'_>,
    ) -> Result<()> {
        let rows = self.rows(z, e)?;
        for set in [parameters, gradients] {
            for span in [set.gamma, set.beta, set.output] {
                span.expect("a parameter of the hidden layer", self.hidden)?;
            }
        }
        let Parameters { gamma, beta, output } = parameters;
        let blocks = rows.div_ceil(ROWS_PER_PARTIAL);
        let (row_count, hidden) = (int("rows", rows)?, int("hidden units", self.hidden)?);
        let (partials, units) = (self.partials.all(), self.units());
        let (normal, noised) = (self.normal.all(), self.noised.all());
        let arguments: [&dyn Argument; 11] = [
            &z, &e, &units, &beta, &output, &loss, &normal, &noised, &partials, &row_count, &hidden,
        ];
        gpu.launch("head", "hidden_scores", Grid::blocks([blocks, 1, 1], 256), &arguments)?;
        let count = int("partial sums", blocks)?;
        let arguments: [&dyn Argument; 11] = [
            &partials,
            &count,
            &gamma,
            &beta,
            &output,
            &units,
            &gradients.gamma,
            &gradients.beta,
            &gradients.output,
            &row_count,
            &hidden,
        ];
        gpu.launch("head", "hidden_gradients", self.merge_grid(), &arguments)
    }

    /// Third sweep: gradients of the pre-activations, of the noised rows to `noised_back`, the sum of both to `sum_back`. In
    /// f32 they may be `e` and `z` themselves.
    ///
    /// # Errors
    /// Where a span has another size.
    pub fn back<T: Factor>(
        &self,
        gpu: &Gpu,
        [z, e]: [Span<'_, f32>; 2],
        beta: Span<'_, f32>,
        loss: Loss,
        [sum_back, noised_back]: [Span<'_, T>; 2],
    ) -> Result<()> {
        let rows = self.rows(z, e)?;
        sum_back.expect("the gradient of z", z.len())?;
        noised_back.expect("the gradient of e", z.len())?;
        beta.expect("β", self.hidden)?;
        int("pre-activations", z.len())?;
        let (rows, hidden) = (int("rows", rows)?, int("hidden units", self.hidden)?);
        let units = self.units();
        let (normal, noised) = (self.normal.all(), self.noised.all());
        let arguments: [&dyn Argument; 11] = [
            &z,
            &e,
            &units,
            &beta,
            &loss,
            &normal,
            &noised,
            &sum_back,
            &noised_back,
            &rows,
            &hidden,
        ];
        let name = T::named("hidden_back_f32", "hidden_back_bf16");
        gpu.launch("head", name, Grid::over(z.len()), &arguments)
    }

    /// Last in a step: adds `share` of what [`TOTALS`] lists to the totals, moves the progress on by one step and `images`,
    /// and makes `adam` ready for its next update.
    ///
    /// # Errors
    /// Where there are more rows than there is room for.
    pub fn end(
        &self,
        gpu: &Gpu,
        loss: Loss,
        share: f64,
        counters: &Counters,
        adam: &Adam,
        [images, rows]: [usize; 2],
    ) -> Result<()> {
        if rows > self.normal.len() {
            bail!("a step of {rows} rows, where there is room for {}", self.normal.len());
        }
        let (images, rows) = (int("images", images)?, int("rows", rows)?);
        let (normal, noised) = (self.normal.all(), self.noised.all());
        let (totals, progress) = (counters.totals.all(), counters.progress.all());
        let steps = adam.steps.all();
        let [adaptor, discriminator] = adam.rules;
        let arguments: [&dyn Argument; 11] = [
            &normal,
            &noised,
            &loss,
            &share,
            &totals,
            &progress,
            &steps,
            &adaptor,
            &discriminator,
            &images,
            &rows,
        ];
        gpu.launch("head", "end_step", Grid::blocks([1, 1, 1], 256), &arguments)
    }

    /// D of the normal and of the noised rows in the last step.
    pub fn last_scores(&self, rows: usize) -> [Span<'_, f32>; 2] {
        [self.normal.range(0..rows), self.noised.range(0..rows)]
    }

    fn rows(&self, z: Span<'_, f32>, e: Span<'_, f32>) -> Result<usize> {
        e.expect("e", z.len())?;
        let rows = z.len() / self.hidden;
        if !z.len().is_multiple_of(self.hidden) || rows == 0 || rows > self.normal.len() {
            bail!(
                "{} pre-activations are not 1 to {} rows of {} hidden units",
                z.len(),
                self.normal.len(),
                self.hidden
            );
        }
        Ok(rows)
    }

    fn units(&self) -> Units {
        Units(std::array::from_fn(|at| self.units[at].all().address()))
    }

    fn merge_grid(&self) -> Grid {
        merge_grid(self.hidden)
    }
}
