//! A discriminator's hidden layer in training on the GPU, between the matrix products: batch norm over normal and noised rows
//! together, LeakyReLU, the row product with the last layer, the loss, the way back, and Adam.
//!
//! The pre-activations are `z` `[rows, hidden]` of the normal features and `e`, what the noise adds to it. Three sweeps over
//! them do everything, as on the CPU; nothing of a step goes to the host.

use candle_core::{Result, bail};

use super::gemm::Factor;
use super::gpu::{Argument, Buffer, Gpu, Grid, NULL, Span, arguments, int};
use super::noise::Progress;

/// Rows whose sums one block makes.
const ROWS_PER_PARTIAL: usize = 16;
pub(super) const UNITS_PER_BLOCK: usize = 128;
const MERGE_COLUMNS: usize = 32;
const MERGE_ROWS: usize = 8;

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

/// Blocks for the kernels that `merge` partial sums of so many columns.
pub(super) fn merge_grid(columns: usize) -> Grid {
    Grid {
        blocks: [columns.div_ceil(MERGE_COLUMNS), 1, 1],
        threads: [MERGE_COLUMNS, MERGE_ROWS],
        shared: 0,
    }
}

/// How one group of parameters is updated.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct AdamRule {
    learning_rate: f64,
    weight_decay: f64,
    decoupled: i32,
}
arguments!(AdamRule);

impl AdamRule {
    /// Adam with L2 decay, or AdamW where the decay is `decoupled`.
    pub fn new(learning_rate: f64, weight_decay: f64, decoupled: bool) -> AdamRule {
        AdamRule {
            learning_rate,
            weight_decay,
            decoupled: decoupled.into(),
        }
    }

    /// As `adam_step` of `head.cu` computes it for the first update.
    fn first_step(self) -> [f32; 4] {
        let is_decoupled = self.decoupled != 0;
        let shrink = if is_decoupled {
            1.0 - self.learning_rate * self.weight_decay
        } else {
            1.0
        };
        let into_gradient = if is_decoupled { 0.0 } else { self.weight_decay };
        let step_size = self.learning_rate / (1.0 - 0.9);
        let second_correction = (1.0_f64 - 0.999).sqrt();
        [shrink, into_gradient, step_size, second_correction].map(|value| value as f32)
    }
}

/// Both moments of all parameters, of which the first `adaptor` are updated by one rule and the others by another.
pub struct Adam {
    rules: [AdamRule; 2],
    adaptor: usize,
    firsts: Buffer<f32>,
    seconds: Buffer<f32>,
    steps: Buffer<f32>,
}

impl Adam {
    /// Before the first update.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(gpu: &Gpu, rules: [AdamRule; 2], adaptor: usize, parameters: usize) -> Result<Adam> {
        Ok(Adam {
            rules,
            adaptor,
            firsts: gpu.zeros(parameters)?,
            seconds: gpu.zeros(parameters)?,
            steps: gpu.upload(&rules.map(AdamRule::first_step).concat())?,
        })
    }

    /// One update of all parameters; `copy`, where given, takes them in the products' type.
    ///
    /// # Errors
    /// Where a span has another size.
    pub fn update<T: Factor>(
        &self,
        gpu: &Gpu,
        parameters: Span<'_, f32>,
        gradients: Span<'_, f32>,
        copy: Option<Span<'_, T>>,
    ) -> Result<()> {
        let parameters = parameters.expect("the parameters", self.firsts.len())?;
        let gradients = gradients.expect("the gradients", self.firsts.len())?;
        let copy = match copy {
            Some(copy) => copy.expect("the parameters' copy", self.firsts.len())?.address(),
            None => NULL,
        };
        let (firsts, seconds, steps) = (self.firsts.all(), self.seconds.all(), self.steps.all());
        let (adaptor, count) = (int("parameters", self.adaptor)?, int("parameters", parameters.len())?);
        let name = T::named("adam_f32", "adam_bf16");
        let arguments: [&dyn Argument; 8] = [
            &parameters,
            &gradients,
            &firsts,
            &seconds,
            &copy,
            &steps,
            &adaptor,
            &count,
        ];
        gpu.launch("head", name, Grid::over(parameters.len()), &arguments)
    }
}

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
pub(super) fn channel_partials(gpu: &Gpu, rows: Span<'_, f32>, dim: usize) -> Result<(Buffer<f64>, usize)> {
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
pub(super) fn rows_per_block(rows: usize) -> usize {
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
