//! The two halves of a Winograd convolution on the arena of one image: rows of tiles are transformed, then multiplied
//! and gathered for some blocks of channels.

use std::ops::Range;

use super::{GatherRow, POSITIONS, TILE, TransformRow, position_stride};
use crate::engine::buffer::ArenaPtr;
use crate::engine::lanes::Element;
use crate::engine::pack::{Block, CHANNEL_ALIGNMENT, Winograd, pixel_stride};
use crate::engine::part;
use crate::engine::task::{On, clear_border};
use crate::engine::tile::Tile;

/// Tiles of 2×2 outputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::engine) struct Tiling {
    pub(in crate::engine) rows: usize,
    pub(in crate::engine) columns: usize,
}

impl Tiling {
    pub(in crate::engine) fn of(height: usize, width: usize) -> Tiling {
        Tiling {
            rows: height.div_ceil(TILE),
            columns: width.div_ceil(TILE),
        }
    }
}

/// Transformed inputs of some rows of tiles: `[POSITIONS, rows × columns, channels]` with gaps.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Transformed<T> {
    pub(in crate::engine) at: ArenaPtr<T>,
    pub(in crate::engine) first_row: usize,
    pub(in crate::engine) rows: usize,
}

impl<T: Element> Winograd<T> {
    /// Elements of the transformed inputs of some tiles.
    pub(in crate::engine) fn transformed_len(&self, tiles: usize) -> usize {
        POSITIONS * position_stride(tiles, pixel_stride::<T>(self.in_channels))
    }

    /// Elements that the products of some tiles with one block of channels take, which are f32.
    pub(in crate::engine) fn products_len(&self, tiles: usize, lanes: usize) -> usize {
        let widest = self.blocks.iter().map(|block| block.vectors * lanes).max();
        POSITIONS * position_stride(tiles, widest.unwrap_or(0)) * size_of::<f32>() / size_of::<T>()
    }
}

impl<T: Element> On<'_, T> {
    /// Clears the border of the rows of output that some rows of tiles cover.
    ///
    /// # Safety
    /// Nothing else touches the border of these rows meanwhile.
    pub(in crate::engine) unsafe fn clear_tile_border(&self, rows: Range<usize>) {
        let output = &self.places[self.step.output];
        // SAFETY: the caller's promise.
        unsafe {
            clear_border(
                self.arena,
                output,
                rows.start * TILE..output.height.min(rows.end * TILE),
            )
        };
    }

    /// # Safety
    /// No other task writes these rows of `to`, which has room for them, or what they are made from.
    pub(in crate::engine) unsafe fn transform(&self, winograd: &Winograd<T>, rows: Range<usize>, to: Transformed<T>) {
        let (input, columns) = (&self.places[self.step.input], self.step_plan.tiling.columns);
        let stride = pixel_stride::<T>(winograd.in_channels);
        for row in rows {
            // SAFETY: the plan has padded the input so that the windows of all tiles lie in it; the caller's promise.
            unsafe {
                (winograd.kernels.transform)(&TransformRow {
                    input: self
                        .arena
                        .at(input.offset + self.step_plan.window + row * TILE * input.row),
                    input_row: input.row,
                    input_pixel: input.pixel,
                    channels: winograd.in_channels.next_multiple_of(CHANNEL_ALIGNMENT),
                    tiles: columns,
                    output: to.at.at((row - to.first_row) * columns * stride),
                    output_tile: stride,
                    output_position: position_stride(to.rows * columns, stride),
                });
            }
        }
    }

    /// # Safety
    /// `from` holds these rows; `products` is the caller's alone, on a cache line, with room for their products; no other task
    /// writes these rows and blocks of the output.
    pub(in crate::engine) unsafe fn multiply(
        &self,
        winograd: &Winograd<T>,
        rows: Range<usize>,
        blocks: &[Block],
        from: Transformed<T>,
        products: ArenaPtr<T>,
    ) {
        const NO_BIAS: [f32; 64] = [0.0; 64];
        let columns = self.step_plan.tiling.columns;
        let tiles = rows.len() * columns;
        let products = products.cast::<f32>();
        let stride = pixel_stride::<T>(winograd.in_channels);
        let position = position_stride(from.rows * columns, stride);
        for block in blocks {
            let width = block.vectors * self.network.kernels.lanes;
            let kernels = winograd.kernels.products[block.vectors - 1];
            let strips = tiles.div_ceil(kernels.len());
            let product_position = position_stride(tiles, width);
            for at in 0..POSITIONS {
                let len = winograd.terms * width;
                let weights = &self.network.weights.as_slice()[block.weights + at * len..];
                // While one position is in use the next one's weights, which follow, are fetched.
                let run = winograd.terms / self.network.kernels.step;
                let ahead_step = (width * self.network.kernels.step).div_ceil(strips);
                for index in 0..strips {
                    let strip = part(tiles, strips, index);
                    let first = (rows.start - from.first_row) * columns + strip.start;
                    // SAFETY: the strip lies within what was transformed and within the products; the block was packed
                    // for these kernels, and is at most as wide as `NO_BIAS`.
                    unsafe {
                        kernels[strip.len() - 1](&Tile {
                            input: from.at.at(at * position + first * stride),
                            pixel_stride: stride,
                            taps: &[0],
                            run,
                            weights: weights.as_ptr(),
                            ahead: weights.as_ptr().wrapping_add(len + index * run * ahead_step),
                            ahead_step,
                            bias: NO_BIAS.as_ptr(),
                            output: products.at(at * product_position + strip.start * width),
                            output_stride: width,
                            residual: std::ptr::null(),
                            residual_stride: 0,
                            low: f32::NEG_INFINITY,
                            high: f32::INFINITY,
                        });
                    }
                }
            }
            for row in rows.clone() {
                let tile = (row - rows.start) * columns;
                // SAFETY: the products of the row were just written; the rest as for `multiply`.
                unsafe { self.gather(winograd, row, block, products.at(tile * width), product_position) };
            }
        }
    }

    /// # Safety
    /// `products` begins a row of tiles of this block; no other task writes the row and the block of the output.
    unsafe fn gather(&self, winograd: &Winograd<T>, row: usize, block: &Block, products: *const f32, position: usize) {
        let output = &self.places[self.step.output];
        let residual = winograd.epilogue.residual.map(|value| &self.places[value]);
        let (y, channel) = (row * TILE, block.first_channel);
        let height = TILE.min(output.height - y);
        let width = block.vectors * self.network.kernels.lanes;
        // SAFETY: the plan has made the output and the residual as large as the tiles cover; the caller's promise.
        unsafe {
            (winograd.kernels.gather)(&GatherRow {
                products,
                tile: width,
                position,
                vectors: block.vectors,
                bias: winograd.epilogue.bias[channel..].as_ptr(),
                output: self.arena.at(output.at(y, 0) + channel),
                output_row: output.row,
                output_pixel: output.pixel,
                residual: residual.map_or(std::ptr::null(), |place| self.arena.at(place.at(y, 0) + channel)),
                residual_row: residual.map_or(0, |place| place.row),
                residual_pixel: residual.map_or(0, |place| place.pixel),
                height,
                width: output.width,
                low: winograd.epilogue.low,
                high: winograd.epilogue.high,
            });
            for y in y..y + height {
                self.round(y, output.width, channel, width);
            }
        }
    }
}
