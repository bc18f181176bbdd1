//! One task: some rows and blocks of channels of one step, on the arena of one image.

use std::ops::Range;

use super::buffer::ArenaPtr;
use super::depthwise::DepthwiseRow;
use super::lanes::Element;
use super::pack::{Block, CHANNEL_ALIGNMENT, Dense, DenseKernel, Depthwise, Network, Step};
use super::panel::{Panel, PanelKernel, Pixels, Region};
use super::part;
use super::plan::{Place, Plan, StepPlan};
use super::pool::PoolRow;
use super::tile::{Tile, TileFn};

/// One step on one arena.
pub(super) struct On<'a, T: 'static> {
    pub(super) network: &'a Network<T>,
    pub(super) plan: &'a Plan,
    /// Where values lie: as the plan says, but for bands.
    pub(super) places: &'a [Place],
    pub(super) step: &'a Step<T>,
    pub(super) step_plan: &'a StepPlan,
    pub(super) arena: ArenaPtr<T>,
}

impl<'a, T: Element> On<'a, T> {
    pub(super) fn new(
        network: &'a Network<T>,
        plan: &'a Plan,
        places: &'a [Place],
        index: usize,
        arena: ArenaPtr<T>,
    ) -> On<'a, T> {
        On {
            network,
            plan,
            places,
            step: &network.steps[index],
            step_plan: &plan.steps[index],
            arena,
        }
    }

    /// Where pixel (y, x) and `channel` of the residual begin; null without one.
    unsafe fn residual(&self, residual: Option<usize>, y: usize, channel: usize) -> (*const T, usize) {
        match residual.map(|value| &self.places[value]) {
            // SAFETY: the plan has made the residual as large as the output.
            Some(place) => (unsafe { self.arena.at(place.at(y, 0) + channel) }, place.pixel),
            None => (std::ptr::null(), 0),
        }
    }

    /// # Safety
    /// No other task writes these rows and blocks, or what they are made from.
    pub(super) unsafe fn dense(&self, dense: &Dense<T>, rows: Range<usize>, blocks: &[Block]) {
        let output = &self.places[self.step.output];
        // What the kernels see as rows, and the pixels of each.
        let (rows, pixels) = match self.step_plan.flat {
            true => (rows.start..rows.start + 1, rows.len() * output.width),
            false => (rows, output.width),
        };
        // SAFETY: as the caller promises.
        unsafe {
            match dense.kernel {
                DenseKernel::Tiles { tiles, run } => {
                    for block in blocks {
                        self.tiles(dense, tiles[block.vectors - 1], run, rows.clone(), pixels, block);
                    }
                }
                DenseKernel::Panel { kernel, .. } => self.panel(dense, kernel, rows, pixels, blocks),
            }
        }
    }

    /// # Safety
    /// As for [`On::dense`].
    unsafe fn tiles(
        &self,
        dense: &Dense<T>,
        tiles: &[TileFn<T>],
        run: usize,
        rows: Range<usize>,
        pixels: usize,
        block: &Block,
    ) {
        let input = &self.places[self.step.input];
        let output = &self.places[self.step.output];
        let weights = &self.network.weights.as_slice()[block.weights..];
        // Strips of nearly equal length: a short one at the end would have too few sums to keep the units busy.
        let strips = pixels.div_ceil(tiles.len());
        // While a block is in use the next one, which follows it, is fetched.
        let steps = self.step_plan.taps.len() * run;
        let len = steps * self.network.kernels.step * block.vectors * self.network.kernels.lanes;
        let ahead_step = len.div_ceil(rows.len() * strips * steps);
        let mut ahead = weights.as_ptr().wrapping_add(len);
        for y in rows {
            let window = input
                .offset
                .wrapping_add(self.step_plan.window + y * self.step.stride * input.row);
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
                        run,
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
                    tiles[strip.len() - 1](&tile);
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

    /// # Safety
    /// As for [`On::dense`].
    unsafe fn panel(
        &self,
        dense: &Dense<T>,
        kernel: &PanelKernel<T>,
        rows: Range<usize>,
        pixels: usize,
        blocks: &[Block],
    ) {
        let (input, stride) = (&self.places[self.step.input], self.step.stride);
        let pixels_of = |place: &Place| Pixels {
            at: self.arena.0.wrapping_add(place.at(0, 0)),
            pixel: place.pixel,
            row: place.row,
        };
        let output = pixels_of(&self.places[self.step.output]);
        let residual = dense.epilogue.residual.map(|value| pixels_of(&self.places[value]));
        let single = self.step.kernel == 1;
        // SAFETY: the plan has padded the input so that the windows of all pixels lie in it, and what a piece reads beyond; it
        // has made the output and the residual as large as the region; blocks were packed for this kernel.
        unsafe {
            (kernel.run)(&Panel {
                region: Region::new(rows, pixels, kernel.pixels, self.step.stack() > 1),
                input: Pixels {
                    at: self
                        .arena
                        .0
                        .wrapping_add(input.offset.wrapping_add(self.step_plan.window)),
                    pixel: stride * input.pixel,
                    row: stride * input.row,
                },
                pieces: &self.step_plan.taps,
                once: single,
                blocks,
                weights: self.network.weights.as_slice(),
                bias: &dense.epilogue.bias,
                output,
                residual: residual.map_or(Pixels::none(), |Pixels { at, pixel, row }| Pixels {
                    at: at.cast_const(),
                    pixel,
                    row,
                }),
                low: dense.epilogue.low,
                high: dense.epilogue.high,
            });
        }
    }

    /// # Safety
    /// No other task writes these rows, or what they are made from.
    pub(super) unsafe fn depthwise(&self, depthwise: &Depthwise, rows: Range<usize>) {
        let input = &self.places[self.step.input];
        let output = &self.places[self.step.output];
        let channels = self.network.channels[self.step.output].next_multiple_of(CHANNEL_ALIGNMENT);
        for y in rows {
            // SAFETY: as for dense convolutions; channels are whole vectors.
            unsafe {
                let (residual, residual_stride) = self.residual(depthwise.epilogue.residual, y, 0);
                (self.network.kernels.depthwise)(&DepthwiseRow {
                    input: self.arena.at(input
                        .offset
                        .wrapping_add(self.step_plan.window + y * self.step.stride * input.row)),
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
        let input = &self.places[self.step.input];
        let output = &self.places[self.step.output];
        let channels = self.network.channels[self.step.output].next_multiple_of(CHANNEL_ALIGNMENT);
        for y in rows {
            let (kernel, stride) = (self.step.kernel, self.step.stride);
            let (begin, end) = self.step_plan.window_rows(y, kernel, stride, input.height);
            // SAFETY: windows are clipped to the input; a graph's pooling has less padding than its kernel is long, so
            // that none becomes empty; channels are whole vectors.
            unsafe {
                (self.network.kernels.max_pool)(&PoolRow {
                    input: self.arena.at(input.offset + self.step_plan.window + begin * input.row),
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
        let output = &self.places[self.step.output];
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
        let row = begin - place.left * place.pixel;
        clear(row, begin);
        clear(end, row + place.row);
    }
    if rows.end == place.height {
        clear(
            place.offset + (place.top + place.height) * place.row,
            place.offset + place.len(),
        );
    }
}
