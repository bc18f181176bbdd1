//! Depthwise convolution: every channel with its own kernel, vectorised over channels.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "a kernel body is unsafe as a whole: its contract is that of `DepthwiseRow` and `Lanes`"
)]

use super::lanes::Lanes;

/// A row of output pixels of a depthwise convolution, all channels.
///
/// # Safety (of every function that takes one)
/// `channels` is a multiple of `Lanes::LANES`. The windows of all pixels can be read from `input` on, `weights` holds
/// `[channels / LANES, kernel, kernel, LANES]`, `bias` `[channels]`; each pixel's channels can be written at `output`
/// and read at `residual` (unless null).
pub(super) struct DepthwiseRow<T> {
    /// Where the first pixel's window begins.
    pub(super) input: *const T,
    /// Elements between the rows of the input.
    pub(super) input_row: usize,
    /// Elements between the pixels of the input.
    pub(super) input_pixel: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) channels: usize,
    pub(super) weights: *const f32,
    pub(super) bias: *const f32,
    pub(super) output: *mut T,
    pub(super) output_stride: usize,
    pub(super) residual: *const T,
    pub(super) residual_stride: usize,
    /// Output pixels.
    pub(super) pixels: usize,
    /// The activation is a clamp to `low..=high`.
    pub(super) low: f32,
    pub(super) high: f32,
}

/// Runs one row.
#[inline(always)]
pub(super) unsafe fn depthwise<L: Lanes>(row: &DepthwiseRow<L::Element>) {
    // The usual sizes as constants, so that the loops over taps unroll.
    match row.kernel {
        3 => with_kernel::<L>(row, 3),
        5 => with_kernel::<L>(row, 5),
        kernel => with_kernel::<L>(row, kernel),
    }
}

#[inline(always)]
unsafe fn with_kernel<L: Lanes>(row: &DepthwiseRow<L::Element>, kernel: usize) {
    let mut pixel = 0;
    while row.pixels - pixel >= 7 {
        strip::<L, 7>(row, kernel, pixel);
        pixel += 7;
    }
    while pixel < row.pixels {
        strip::<L, 1>(row, kernel, pixel);
        pixel += 1;
    }
}

/// `P` pixels: every weight that is loaded meets all of them.
#[inline(always)]
unsafe fn strip<L: Lanes, const P: usize>(row: &DepthwiseRow<L::Element>, kernel: usize, first: usize) {
    let (low, high) = (L::splat(row.low), L::splat(row.high));
    let step = row.stride * row.input_pixel;
    let mut weights = row.weights;
    for channel in (0..row.channels).step_by(L::LANES) {
        let mut sums = [L::load(row.bias.add(channel)); P];
        let corner = row.input.add(first * step + channel);
        for ky in 0..kernel {
            for kx in 0..kernel {
                let weight = L::load(weights);
                weights = weights.add(L::LANES);
                let input = corner.add(ky * row.input_row + kx * row.input_pixel);
                for (pixel, sum) in sums.iter_mut().enumerate() {
                    *sum = L::multiply_add(L::widen(input.add(pixel * step)), weight, *sum);
                }
            }
        }
        for (pixel, &sum) in sums.iter().enumerate() {
            let mut value = sum;
            if !row.residual.is_null() {
                let residual = row.residual.add((first + pixel) * row.residual_stride + channel);
                value = L::add(value, L::widen(residual));
            }
            let output = row.output.add((first + pixel) * row.output_stride + channel);
            L::store(output, L::clamp(value, low, high));
        }
    }
}
