//! Max pooling, vectorised over channels. Windows are clipped at the border, so padding never wins.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "a kernel body is unsafe as a whole: its contract is that of `PoolRow` and `Lanes`"
)]

use super::lanes::Lanes;

/// A row of output pixels of a max pooling, all channels.
///
/// # Safety (of every function that takes one)
/// `channels` is a multiple of `Lanes::LANES`; from `input` on, `window_rows` rows of `width` pixels can be read;
/// `pixels` pixels can be written at `output`; every window keeps at least one column when it is clipped.
pub(super) struct PoolRow<T> {
    /// The first pixel of the first row that the windows cover.
    pub(super) input: *const T,
    /// Elements between the rows of the input.
    pub(super) input_row: usize,
    /// Elements between the pixels of the input.
    pub(super) input_pixel: usize,
    /// Rows of the windows after clipping.
    pub(super) window_rows: usize,
    /// Pixels in a row of the input.
    pub(super) width: usize,
    /// Columns of the first window left of the input.
    pub(super) left: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) channels: usize,
    pub(super) output: *mut T,
    pub(super) output_stride: usize,
    /// Output pixels.
    pub(super) pixels: usize,
}

/// Runs one row.
#[inline(always)]
pub(super) unsafe fn max_pool<L: Lanes>(row: &PoolRow<L::Element>) {
    for pixel in 0..row.pixels {
        let begin = (pixel * row.stride).saturating_sub(row.left);
        let end = (pixel * row.stride + row.kernel - row.left).min(row.width);
        for channel in (0..row.channels).step_by(L::LANES) {
            let mut largest = L::splat(f32::NEG_INFINITY);
            for y in 0..row.window_rows {
                for x in begin..end {
                    let input = row.input.add(y * row.input_row + x * row.input_pixel + channel);
                    largest = L::maximum(largest, L::widen(input));
                }
            }
            L::store(row.output.add(pixel * row.output_stride + channel), largest);
        }
    }
}
