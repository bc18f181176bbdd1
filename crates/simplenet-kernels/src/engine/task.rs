//! One task: some rows and blocks of channels of one step, on the arena of one image.

use std::ops::Range;

use super::buffer::ArenaPtr;
use super::depthwise::DepthwiseRow;
use super::lanes::Element;
use super::pack::{Block, CHANNEL_ALIGNMENT, Dense, Depthwise, Network, Step};
use super::part;
use super::plan::{Place, Plan, StepPlan};
use super::pool::PoolRow;
use super::tile::Tile;

/// One step on one arena.
pub(super) struct On<'a, T: 'static> {
    pub(super) network: &'a Network<T>,
    pub(super) plan: &'a Plan,
    pub(super) step: &'a Step<T>,
    pub(super) step_plan: &'a StepPlan,
    pub(super) arena: ArenaPtr<T>,
}

impl<T: Element> On<'_, T> {
    /// Where pixel (y, x) and `channel` of the residual begin; null without one.
    unsafe fn residual(&self, residual: Option<usize>, y: usize, channel: usize) -> (*const T, usize) {
        match residual.map(|value| &self.plan.places[value]) {
            // SAFETY: the plan has made the residual as large as the output.
            Some(place) => (unsafe { self.arena.at(place.at(y, 0) + channel) }, place.pixel),
            None => (std::ptr::null(), 0),
        }
    }

    /// # Safety
    /// No other task writes these rows and blocks, or what they are made from.
    pub(super) unsafe fn dense(&self, dense: &Dense<T>, rows: Range<usize>, blocks: &[Block]) {
        let input = &self.plan.places[self.step.input];
        let output = &self.plan.places[self.step.output];
        // (first row, pixels) of what the kernels see as a row.
        let (long_rows, pixels) = match self.step_plan.flat {
            true => (rows.start..rows.start + 1, rows.len() * output.width),
            false => (rows, output.width),
        };
        for block in blocks {
            let weights = &dense.weights.as_slice()[block.weights..];
            let widest = dense.tiles[block.vectors - 1].len();
            // Strips of nearly equal length: a short one at the end would have too few sums to keep the units busy.
            let strips = pixels.div_ceil(widest);
            // While a block is in use the next one, which follows it, is fetched.
            let steps = self.step_plan.taps.len() * dense.run;
            let len = steps * self.network.kernels.step * block.vectors * self.network.kernels.lanes;
            let ahead_step = len.div_ceil(long_rows.len() * strips * steps);
            let mut ahead = weights.as_ptr().wrapping_add(len);
            for y in long_rows.clone() {
                let window = self.step_plan.window + y * self.step.stride * input.row;
                // SAFETY: the plan has padded the input so that the windows of all pixels lie in it, and has made the
                // output and the residual as large as the strips; blocks were packed for these kernels.
                unsafe {
                    let (residual, residual_stride) = self.residual(dense.epilogue.residual, y, block.first_channel);
                    for strip in 0..strips {
                        let strip = part(pixels, strips, strip);
                        let tile = Tile {
                            input: self.arena.at(window + strip.start * self.step.stride * input.pixel),
                            pixel_stride: self.step.stride * input.pixel,
                            taps: &self.step_plan.taps,
                            run: dense.run,
                            weights: weights.as_ptr(),
                            ahead,
                            ahead_step,
                            bias: dense.epilogue.bias[block.first_channel..].as_ptr(),
                            output: self.arena.at(output.at(y, strip.start) + block.first_channel),
                            output_stride: output.pixel,
                            residual: residual.wrapping_add(strip.start * residual_stride),
                            residual_stride,
                            low: dense.epilogue.low,
                            high: dense.epilogue.high,
                        };
                        dense.tiles[block.vectors - 1][strip.len() - 1](&tile);
                        ahead = ahead.wrapping_add(steps * ahead_step);
                    }
                    self.round(
                        y,
                        pixels,
                        block.first_channel,
                        block.vectors * self.network.kernels.lanes,
                    );
                }
            }
        }
    }

    /// # Safety
    /// No other task writes these rows, or what they are made from.
    pub(super) unsafe fn depthwise(&self, depthwise: &Depthwise, rows: Range<usize>) {
        let input = &self.plan.places[self.step.input];
        let output = &self.plan.places[self.step.output];
        let channels = self.network.channels[self.step.output].next_multiple_of(CHANNEL_ALIGNMENT);
        for y in rows {
            // SAFETY: as for dense convolutions; channels are whole vectors.
            unsafe {
                let (residual, residual_stride) = self.residual(depthwise.epilogue.residual, y, 0);
                (self.network.kernels.depthwise)(&DepthwiseRow {
                    input: self.arena.at(self.step_plan.window + y * self.step.stride * input.row),
                    input_row: input.row,
                    input_pixel: input.pixel,
                    kernel: self.step.kernel,
                    stride: self.step.stride,
                    channels,
                    weights: depthwise.weights.as_ptr(),
                    bias: depthwise.epilogue.bias.as_ptr(),
                    output: self.arena.at(output.at(y, 0)),
                    output_stride: output.pixel,
                    residual,
                    residual_stride,
                    pixels: output.width,
                    low: depthwise.epilogue.low,
                    high: depthwise.epilogue.high,
                });
                self.round(y, output.width, 0, channels);
            }
        }
    }

    /// # Safety
    /// No other task writes these rows, or what they are made from.
    pub(super) unsafe fn max_pool(&self, rows: Range<usize>) {
        let input = &self.plan.places[self.step.input];
        let output = &self.plan.places[self.step.output];
        let channels = self.network.channels[self.step.output].next_multiple_of(CHANNEL_ALIGNMENT);
        for y in rows {
            let (kernel, stride) = (self.step.kernel, self.step.stride);
            let (begin, end) = self.step_plan.window_rows(y, kernel, stride, input.height);
            // SAFETY: windows are clipped to the input; a graph's pooling has less padding than its kernel is long, so
            // that none becomes empty; channels are whole vectors.
            unsafe {
                (self.network.kernels.max_pool)(&PoolRow {
                    input: self.arena.at(self.step_plan.window + begin * input.row),
                    input_row: input.row,
                    input_pixel: input.pixel,
                    window_rows: end - begin,
                    width: input.width,
                    left: self.step_plan.before[1],
                    kernel,
                    stride,
                    channels,
                    output: self.arena.at(output.at(y, 0)),
                    output_stride: output.pixel,
                    pixels: output.width,
                });
            }
        }
    }

    /// Rounds what was just written where bf16 is emulated.
    ///
    /// # Safety
    /// The calling task has these pixels and channels alone.
    pub(super) unsafe fn round(&self, y: usize, pixels: usize, first_channel: usize, channels: usize) {
        if !self.network.round {
            return;
        }
        let output = &self.plan.places[self.step.output];
        for x in 0..pixels {
            // SAFETY: the pixels were just written by the same task.
            T::round_to_bf16(unsafe {
                std::slice::from_raw_parts_mut(self.arena.at(output.at(y, x) + first_channel), channels)
            });
        }
    }
}

/// Writes the zeros left and right of some rows of a value, above its first and below its last row.
///
/// # Safety
/// Nothing else touches the border of these rows meanwhile.
pub(super) unsafe fn clear_border<T: Element>(arena: ArenaPtr<T>, place: &Place, rows: Range<usize>) {
    let clear = |begin: usize, end: usize| {
        // SAFETY: the range lies in the value's place, and the caller has it alone.
        unsafe { std::slice::from_raw_parts_mut(arena.at(begin), end - begin) }.fill(T::ZERO);
    };
    if rows.start == 0 {
        clear(place.offset, place.at(0, 0) - place.left * place.pixel);
    }
    for y in rows.clone() {
        let (begin, end) = (place.at(y, 0), place.at(y, place.width));
        clear(begin - place.left * place.pixel, begin);
        clear(end, end + place.right * place.pixel);
    }
    if rows.end == place.height {
        clear(
            place.offset + (place.top + place.height) * place.row,
            place.offset + place.len(),
        );
    }
}
