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

use rayon::prelude::*;

use crate::{Error, Image8, Result};

/// Fractional bits of a weight: 32 less 8 for the pixel and 2 for the sum (`PRECISION_BITS` in Pillow).
const FRACTION_BITS: u32 = 22;
const ONE_HALF: u32 = 1 << (FRACTION_BITS - 1);

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

    let first_row = rows.first_input();
    let row_bytes = window.width * CHANNELS;
    let mut narrow = vec![0; rows.input_len() * row_bytes];
    narrow
        .par_chunks_exact_mut(row_bytes)
        .with_min_len(ROWS_PER_TASK)
        .enumerate()
        .for_each(|(y, out)| {
            horizontal::<CHANNELS>(image.row(first_row + y), &columns, out);
        });

    let mut data = vec![0; window.height * row_bytes];
    data.par_chunks_exact_mut(row_bytes)
        .with_min_len(ROWS_PER_TASK)
        .enumerate()
        .for_each_init(
            || vec![0; row_bytes],
            |sums, (y, out)| {
                let (start, weights) = rows.of(y);
                vertical(&narrow[(start - first_row) * row_bytes..], weights, sums, out);
            },
        );
    Image8::from_parts(window.width, window.height, data)
}

fn horizontal<const CHANNELS: usize>(row: &[u8], columns: &Taps, out: &mut [u8]) {
    let pixels = row.as_chunks::<CHANNELS>().0;
    for (x, out) in out.as_chunks_mut::<CHANNELS>().0.iter_mut().enumerate() {
        let (start, weights) = columns.of(x);
        let mut sums = [ONE_HALF; CHANNELS];
        for (pixel, &weight) in pixels[start..].iter().zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum = add_product(*sum, value, weight);
            }
        }
        *out = sums.map(round);
    }
}

/// Sums rows of `out.len()` bytes, which lie behind one another in `rows`.
fn vertical(rows: &[u8], weights: &[u32], sums: &mut [u32], out: &mut [u8]) {
    sums.fill(ONE_HALF);
    for (row, &weight) in rows.chunks_exact(out.len()).zip(weights) {
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum = add_product(*sum, value, weight);
        }
    }
    for (out, &sum) in out.iter_mut().zip(&*sums) {
        *out = round(sum);
    }
}

/// Never wraps: a sum stays near 255 * 2^22. Said with `wrapping` because overflow checks keep the loops from being
/// vectorised in the profiles that have them.
fn add_product(sum: u32, value: u8, weight: u32) -> u32 {
    sum.wrapping_add(u32::from(value).wrapping_mul(weight))
}

/// The weights of a row are rounded one by one and may sum to a little more than 1, hence the limit.
fn round(sum: u32) -> u8 {
    (sum >> FRACTION_BITS).min(255) as u8
}

/// For each output position of one axis the input positions it is a mean of.
struct Taps {
    /// First input of each output, ascending.
    starts: Vec<usize>,
    /// Where the weights of each output begin; one entry more than outputs.
    offsets: Vec<usize>,
    weights: Vec<u32>,
}

impl Taps {
    /// Taps of the outputs `first..first + count` when `input` positions become `output`
    /// (`precompute_coeffs` and `normalize_coeffs_8bpc` in Pillow).
    fn new(input: usize, output: usize, first: usize, count: usize) -> Taps {
        let mut taps = Taps {
            starts: Vec::with_capacity(count),
            offsets: vec![0],
            weights: Vec::new(),
        };
        if input == output {
            // Pillow skips the pass. A single weight of 1 returns each byte as it was.
            taps.starts.extend(first..first + count);
            taps.offsets.extend(1..=count);
            taps.weights.resize(count, 1 << FRACTION_BITS);
            return taps;
        }
        let scale = input as f64 / output as f64;
        let support = scale.max(1.0);
        let mut triangle = Vec::new();
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
            taps.starts.push(start);
            taps.weights.extend(
                triangle
                    .iter()
                    .map(|weight| (weight / total * f64::from(1 << FRACTION_BITS) + 0.5) as u32),
            );
            taps.offsets.push(taps.weights.len());
        }
        taps
    }

    fn of(&self, output: usize) -> (usize, &[u32]) {
        (
            self.starts[output],
            &self.weights[self.offsets[output]..self.offsets[output + 1]],
        )
    }

    fn first_input(&self) -> usize {
        self.starts[0]
    }

    fn input_len(&self) -> usize {
        let (start, weights) = self.of(self.starts.len() - 1);
        start + weights.len() - self.first_input()
    }
}
