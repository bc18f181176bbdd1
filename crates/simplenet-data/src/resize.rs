//! Pillow's antialiased bilinear resize, bit for bit.
//!
//! Restates `src/libImaging/Resample.c` of Pillow: per output position a triangle filter as wide as the reduction,
//! weights rounded to 22 fractional bits, a horizontal pass rounded to 8 bits, then a vertical one. The order and the
//! rounding between the passes decide the last bit, so neither is changed here; what is not wanted in the end is not
//! computed.
//!
//! Pillow 13.0 takes the vertical pass first for some shapes, such as an image more than twice as tall as wide that is
//! reduced; some of its bytes then differ by one. Up to Pillow 12.0, and so in the
//! authors' time, the horizontal pass is always first; so it is here.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::{Error, Image8, Result};

/// Fractional bits of a weight: 32 less 8 for the pixel and 2 for the sum (`PRECISION_BITS` in Pillow).
const FRACTION_BITS: u32 = 22;
const ONE_HALF: u32 = 1 << (FRACTION_BITS - 1);

/// Weights that are multiplied at once.
const LANES: usize = 8;

/// Rows that one thread takes at least; an image of MVTec AD is not worth more than a few threads.
const ROWS_PER_TASK: usize = 64;

/// A part of the resized image, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Column of the left edge.
    pub x: usize,
    /// Row of the upper edge.
    pub y: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl<const CHANNELS: usize> Image8<CHANNELS> {
    /// The image at another size: `PIL.Image.resize((width, height), BILINEAR)`. Fails when a side is 0.
    pub fn resize(&self, width: usize, height: usize) -> Result<Image8<CHANNELS>> {
        if width == 0 || height == 0 {
            return Err(Error::Shape {
                bytes: 0,
                width,
                height,
                channels: CHANNELS,
            });
        }
        Ok(resize_window(
            self,
            width,
            height,
            Window {
                x: 0,
                y: 0,
                width,
                height,
            },
        ))
    }
}

/// The `window` of `image` resized to `width` x `height`, computed from the pixels that it depends on.
pub(crate) fn resize_window<const CHANNELS: usize>(
    image: &Image8<CHANNELS>,
    width: usize,
    height: usize,
    window: Window,
) -> Image8<CHANNELS> {
    let columns = Taps::new(image.width(), width, window.x, window.width);
    let rows = Taps::new(image.height(), height, window.y, window.height);
    let arch = Arch::new();

    let first_row = rows.first_input();
    let row_bytes = window.width * CHANNELS;
    let mut narrow = vec![0; rows.input_len() * row_bytes];
    narrow
        .par_chunks_exact_mut(row_bytes)
        .with_min_len(ROWS_PER_TASK)
        .enumerate()
        .for_each_init(
            || vec![0; CHANNELS * columns.plane_len()],
            |planes, (y, out)| {
                let row = image.row(first_row + y);
                if columns.keeps {
                    out.copy_from_slice(&row[window.x * CHANNELS..][..row_bytes]);
                    return;
                }
                let columns = &columns;
                arch.dispatch(Horizontal::<CHANNELS> {
                    row,
                    columns,
                    planes,
                    out,
                });
            },
        );

    if rows.keeps {
        return Image8::from_parts(window.width, window.height, narrow);
    }
    let mut data = vec![0; window.height * row_bytes];
    data.par_chunks_exact_mut(row_bytes)
        .with_min_len(ROWS_PER_TASK)
        .enumerate()
        .for_each(|(y, out)| {
            let (start, weights) = rows.of(y);
            let rows = &narrow[(start - first_row) * row_bytes..];
            arch.dispatch(Vertical { rows, weights, out });
        });
    Image8::from_parts(window.width, window.height, data)
}

/// A row of the image to a row of the narrow one.
struct Horizontal<'a, const CHANNELS: usize> {
    row: &'a [u8],
    columns: &'a Taps,
    /// Memory for the channels one after the other: neighbours in it have neighbouring weights.
    planes: &'a mut [u8],
    out: &'a mut [u8],
}

impl<const CHANNELS: usize> WithSimd for Horizontal<'_, CHANNELS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Horizontal {
            row,
            columns,
            planes,
            out,
        } = self;
        let first = columns.first_input();
        let pixels = &row.as_chunks::<CHANNELS>().0[first..first + columns.input_len()];
        let length = columns.plane_len();
        let mut parts = planes.chunks_exact_mut(length);
        let mut parts: [&mut [u8]; CHANNELS] =
            std::array::from_fn(|_| parts.next().map_or(&mut [][..], |plane| &mut plane[..pixels.len()]));
        for (at, pixel) in pixels.iter().enumerate() {
            for (plane, &value) in parts.iter_mut().zip(pixel) {
                plane[at] = value;
            }
        }
        for (x, out) in out.as_chunks_mut::<CHANNELS>().0.iter_mut().enumerate() {
            let (start, weights) = columns.lanes_of(x);
            for (out, plane) in out.iter_mut().zip(planes.chunks_exact(length)) {
                let mut sums = [0; LANES];
                for (values, weights) in plane[start - first..].as_chunks::<LANES>().0.iter().zip(weights) {
                    add_products(&mut sums, values, weights);
                }
                *out = round(sums.into_iter().fold(ONE_HALF, u32::wrapping_add));
            }
        }
    }
}

/// Rows of the narrow image to a row of the resized one.
struct Vertical<'a> {
    /// One behind the other, as many as weights at least.
    rows: &'a [u8],
    weights: &'a [u32],
    out: &'a mut [u8],
}

impl WithSimd for Vertical<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        let mut done = 0;
        self.strips::<64>(&mut done);
        self.strips::<LANES>(&mut done);
        self.strips::<1>(&mut done);
    }
}

impl Vertical<'_> {
    /// As many strips of `N` bytes from `done` on as there are.
    #[inline(always)]
    fn strips<const N: usize>(&mut self, done: &mut usize) {
        let row_bytes = self.out.len();
        for out in self.out[*done..].as_chunks_mut::<N>().0 {
            let mut sums = [ONE_HALF; N];
            for (row, &weight) in self.rows.chunks_exact(row_bytes).zip(self.weights) {
                if let Some(values) = row[*done..].first_chunk() {
                    add_products(&mut sums, values, &[weight; N]);
                }
            }
            for (out, &sum) in out.iter_mut().zip(&sums) {
                *out = round(sum);
            }
            *done += N;
        }
    }
}

/// Never wraps: a sum stays near 255 * 2^22. Said with `wrapping` because overflow checks keep the loops from being
/// vectorised in the profiles that have them.
#[inline(always)]
fn add_products<const N: usize>(sums: &mut [u32; N], values: &[u8; N], weights: &[u32; N]) {
    for ((sum, &value), &weight) in sums.iter_mut().zip(values).zip(weights) {
        *sum = sum.wrapping_add(u32::from(value).wrapping_mul(weight));
    }
}

/// The weights of a row are rounded one by one and may sum to a little more than 1, hence the limit.
#[inline(always)]
fn round(sum: u32) -> u8 {
    (sum >> FRACTION_BITS).min(255) as u8
}

/// For each output position of one axis the input positions it is a mean of.
struct Taps {
    outputs: Vec<Tap>,
    /// Of each output its weights, then zeros up to whole lanes.
    weights: Vec<[u32; LANES]>,
    /// One after the last input of all.
    end: usize,
    /// Whether every output is the input at its place.
    keeps: bool,
}

/// Of one output.
struct Tap {
    /// First input; never before that of the output before.
    start: usize,
    /// Inputs.
    count: usize,
    /// Where the weights begin.
    lanes: usize,
}

impl Taps {
    /// Taps of the outputs `first..first + count` when `input` positions become `output`
    /// (`precompute_coeffs` and `normalize_coeffs_8bpc` in Pillow).
    fn new(input: usize, output: usize, first: usize, count: usize) -> Taps {
        let mut taps = Taps {
            outputs: Vec::with_capacity(count),
            weights: Vec::new(),
            end: 0,
            keeps: input == output,
        };
        if taps.keeps {
            // Pillow skips the pass, which a single weight of 1 would leave as it was.
            for position in first..first + count {
                taps.push(position, &[1 << FRACTION_BITS]);
            }
            return taps;
        }
        let scale = input as f64 / output as f64;
        let support = scale.max(1.0);
        let (mut triangle, mut weights) = (Vec::new(), Vec::new());
        for position in first..first + count {
            let centre = (position as f64 + 0.5) * scale;
            // `as` truncates and takes what is below zero as zero, like the C code.
            let start = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(input);
            triangle.clear();
            triangle.extend((start..end).map(|at| {
                let distance = (at as f64 - centre + 0.5) * (1.0 / support);
                (1.0 - distance.abs()).max(0.0)
            }));
            let total: f64 = triangle.iter().sum();
            let fixed = |weight: &f64| (weight / total * f64::from(1 << FRACTION_BITS) + 0.5) as u32;
            weights.clear();
            weights.extend(triangle.iter().map(fixed));
            taps.push(start, &weights);
        }
        taps
    }

    fn push(&mut self, start: usize, weights: &[u32]) {
        self.outputs.push(Tap {
            start,
            count: weights.len(),
            lanes: self.weights.len(),
        });
        self.end = self.end.max(start + weights.len());
        self.weights.extend(weights.chunks(LANES).map(|some| {
            let mut lanes = [0; LANES];
            lanes[..some.len()].copy_from_slice(some);
            lanes
        }));
    }

    /// The first input and the weights of an output.
    fn of(&self, output: usize) -> (usize, &[u32]) {
        let Tap { start, count, lanes } = self.outputs[output];
        (start, &self.weights[lanes..].as_flattened()[..count])
    }

    /// The same with zeros up to whole lanes.
    #[inline(always)]
    fn lanes_of(&self, output: usize) -> (usize, &[[u32; LANES]]) {
        let Tap { start, count, lanes } = self.outputs[output];
        (start, &self.weights[lanes..][..count.div_ceil(LANES)])
    }

    fn first_input(&self) -> usize {
        self.outputs[0].start
    }

    fn input_len(&self) -> usize {
        self.end - self.first_input()
    }

    /// Room for all inputs of a channel, and for what lanes reach beyond the last one.
    fn plane_len(&self) -> usize {
        self.input_len() + LANES
    }
}
