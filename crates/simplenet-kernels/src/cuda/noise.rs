//! Counter-based noise on the GPU, bit for bit that of [`crate::noise`], and the inputs of a training step made in one go.

use candle_core::{Result, bail};

use super::gemm::Factor;
use super::gpu::{Argument, Buffer, Gpu, Grid, NULL, Span, int};
use crate::noise::NoiseKey;

/// Sets `out[i]` to `sigma` times element `i` of the standard normals of `key` ([`crate::noise::fill_normal`]).
///
/// # Errors
/// Where the device fails.
pub fn fill_normal(gpu: &Gpu, out: Span<'_, f32>, key: NoiseKey, sigma: f32) -> Result<()> {
    write_normals(gpu, "fill_normal", out, key, sigma)
}

/// Adds to `out[i]` what [`fill_normal`] would set it to.
///
/// # Errors
/// Where the device fails.
pub fn add_normal(gpu: &Gpu, out: Span<'_, f32>, key: NoiseKey, sigma: f32) -> Result<()> {
    write_normals(gpu, "add_normal", out, key, sigma)
}

fn write_normals(gpu: &Gpu, kernel: &'static str, out: Span<'_, f32>, key: NoiseKey, sigma: f32) -> Result<()> {
    let grid = generators(out.len());
    let count = int("values", out.len())?;
    gpu.launch("noise", kernel, grid, &[&out, &key.seed, &key.stream, &sigma, &count])
}

/// Mean and scale of every channel, on the device.
pub struct DeviceStandardizer {
    /// Per channel.
    pub mean: Buffer<f32>,
    /// Per channel.
    pub scale: Buffer<f32>,
}

/// Where a training is: two counters on the device, `[steps so far, next image of the epoch's order]`, which
/// [`super::hidden::Sweeps::end`] moves on.
pub type Progress = Buffer<u64>;

/// What [`gather`] reads.
pub struct Source<'a> {
    /// Features of all images, `[images, image_size]`.
    pub bank: Span<'a, f32>,
    /// Values of an image: patches times channels.
    pub image_size: usize,
    /// Channels.
    pub dim: usize,
    /// The epoch's images in their order.
    pub order: Span<'a, i32>,
    /// What is done to every feature, if anything.
    pub standardizer: Option<&'a DeviceStandardizer>,
    /// Seed of the noise.
    pub seed: u64,
    /// The top byte of the noise's stream; the rest is the step.
    pub purpose: u8,
    /// σ of the noise.
    pub sigma: f32,
}

/// The features of the next images of the order, standardised, and the noise of this step, `[images, image_size]` values each.
///
/// # Safety
/// When the launch runs, now or as part of a captured list, `progress` and the images of this step must not reach beyond the
/// order, and every entry of the order must be an image of the bank: only the device knows the two.
///
/// # Errors
/// Where a span does not hold whole images or rows, the two differ in length, or the device fails.
pub unsafe fn gather<T: Factor>(
    gpu: &Gpu,
    source: &Source<'_>,
    progress: &Progress,
    features: Span<'_, T>,
    noise: Span<'_, T>,
) -> Result<()> {
    noise.expect("the noise", features.len())?;
    progress.all().expect("the progress", 2)?;
    for (what, len) in [("the bank", source.bank.len()), ("the features", features.len())] {
        // No number but 0 is a multiple of 0.
        if !len.is_multiple_of(source.image_size) || !source.image_size.is_multiple_of(source.dim) || len == 0 {
            bail!(
                "{what} of {len} values: no whole images of {} values in rows of {}",
                source.image_size,
                source.dim
            );
        }
    }
    let (mean, scale) = addresses(source.standardizer, source.dim)?;
    let purpose = u64::from(source.purpose);
    let (image_size, dim) = (
        int("values of an image", source.image_size)?,
        int("channels", source.dim)?,
    );
    let count = int("values of a step", features.len())?;
    let progress = progress.all();
    let arguments: [&dyn Argument; 13] = [
        &source.bank,
        &source.order,
        &progress,
        &mean,
        &scale,
        &features,
        &noise,
        &source.seed,
        &purpose,
        &source.sigma,
        &image_size,
        &dim,
        &count,
    ];
    let name = T::named("gather_f32", "gather_bf16");
    gpu.launch("noise", name, generators(features.len()), &arguments)
}

/// Rows `[n, dim]` standardised, where `standardizer` is given, and converted.
///
/// # Errors
/// Where the two differ in length, or the device fails.
pub fn standardize<T: Factor>(
    gpu: &Gpu,
    rows: Span<'_, f32>,
    dim: usize,
    standardizer: Option<&DeviceStandardizer>,
    out: Span<'_, T>,
) -> Result<()> {
    out.expect("the standardised rows", rows.len())?;
    let (mean, scale) = addresses(standardizer, dim)?;
    let (dim, count) = (int("channels", dim)?, int("values", rows.len())?);
    let name = T::named("standardize_f32", "standardize_bf16");
    gpu.launch(
        "noise",
        name,
        Grid::over(rows.len()),
        &[&rows, &mean, &scale, &out, &dim, &count],
    )
}

fn addresses(standardizer: Option<&DeviceStandardizer>, dim: usize) -> Result<(u64, u64)> {
    let Some(DeviceStandardizer { mean, scale }) = standardizer else {
        return Ok((NULL, NULL));
    };
    if dim == 0 {
        bail!("rows of no channels cannot be standardised");
    }
    let mean = mean.all().expect("the means", dim)?;
    let scale = scale.all().expect("the scales", dim)?;
    Ok((mean.address(), scale.address()))
}

/// One thread for each block of the generator, which makes 4 of 64 neighbouring values.
fn generators(values: usize) -> Grid {
    Grid::over(values.div_ceil(64) * 16)
}
