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
    match (row.kernel, row.stride) {
        (3, 1) => in_strips::<L, 3, 1>(row),
        (3, 2) => in_strips::<L, 3, 2>(row),
        (5, 1) => in_strips::<L, 5, 1>(row),
        (5, 2) => in_strips::<L, 5, 2>(row),
        _ => (0..row.pixels).for_each(|pixel| one::<L>(row, pixel)),
    }
}

/// Kernels of `K` × `K` with stride `S`: the usual ones.
#[inline(always)]
unsafe fn in_strips<L: Lanes, const K: usize, const S: usize>(row: &DepthwiseRow<L::Element>) {
    let mut pixel = 0;
    // Sides of images are mostly multiples of one of them.
    if row.pixels.is_multiple_of(7) {
        while pixel < row.pixels {
            strip::<L, K, S, 7>(row, pixel);
            pixel += 7;
        }
    }
    while row.pixels - pixel >= 8 {
        strip::<L, K, S, 8>(row, pixel);
        pixel += 8;
    }
    if row.pixels - pixel >= 4 {
        strip::<L, K, S, 4>(row, pixel);
        pixel += 4;
    }
    while pixel < row.pixels {
        strip::<L, K, S, 1>(row, pixel);
        pixel += 1;
    }
}

/// `P` pixels: every weight that is loaded meets all of them. Where inputs have to be widened, each is once for all windows that it
/// is in; where the instruction that multiplies reads them from memory itself, that is faster.
#[inline(always)]
unsafe fn strip<L: Lanes, const K: usize, const S: usize, const P: usize>(
    row: &DepthwiseRow<L::Element>,
    first: usize,
) {
    let mut weights = row.weights;
    for channel in (0..row.channels).step_by(L::LANES) {
        let mut sums = [L::load(row.bias.add(channel)); P];
        let mut input = row.input.add(first * S * row.input_pixel + channel);
        for _ in 0..K {
            let taps: [L::Vector; K] = std::array::from_fn(|tap| L::load(weights.add(tap * L::LANES)));
            let value = |x: usize| L::widen(input.add(x * row.input_pixel));
            if size_of::<L::Element>() == size_of::<f32>() {
                for (tap, &weight) in taps.iter().enumerate() {
                    for (pixel, sum) in sums.iter_mut().enumerate() {
                        *sum = L::multiply_add(value(pixel * S + tap), weight, *sum);
                    }
                }
            } else {
                for x in 0..(P - 1) * S + K {
                    let value = value(x);
                    for (tap, &weight) in taps.iter().enumerate() {
                        // The pixel whose window has `x` at this tap.
                        if x >= tap && (x - tap).is_multiple_of(S) && (x - tap) / S < P {
                            let sum = &mut sums[(x - tap) / S];
                            *sum = L::multiply_add(value, weight, *sum);
                        }
                    }
                }
            }
            weights = weights.add(K * L::LANES);
            input = input.add(row.input_row);
        }
        for (pixel, &sum) in sums.iter().enumerate() {
            finish::<L>(row, first + pixel, channel, sum);
        }
    }
}

/// One pixel, whatever kernel and stride are.
#[inline(always)]
unsafe fn one<L: Lanes>(row: &DepthwiseRow<L::Element>, pixel: usize) {
    let mut weights = row.weights;
    for channel in (0..row.channels).step_by(L::LANES) {
        let mut sum = L::load(row.bias.add(channel));
        let corner = row.input.add(pixel * row.stride * row.input_pixel + channel);
        for y in 0..row.kernel {
            for x in 0..row.kernel {
                let value = L::widen(corner.add(y * row.input_row + x * row.input_pixel));
                sum = L::multiply_add(value, L::load(weights), sum);
                weights = weights.add(L::LANES);
            }
        }
        finish::<L>(row, pixel, channel, sum);
    }
}

/// Residual, activation and rounding of a vector of channels of a pixel.
#[inline(always)]
unsafe fn finish<L: Lanes>(row: &DepthwiseRow<L::Element>, pixel: usize, channel: usize, sum: L::Vector) {
    let mut value = sum;
    if !row.residual.is_null() {
        let residual = row.residual.add(pixel * row.residual_stride + channel);
        value = L::add(value, L::widen(residual));
    }
    let output = row.output.add(pixel * row.output_stride + channel);
    L::store(output, L::clamp(value, L::splat(row.low), L::splat(row.high)));
}
