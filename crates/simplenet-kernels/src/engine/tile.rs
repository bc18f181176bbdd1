//! The inner loop of a dense convolution: a strip of output pixels times a block of output channels, held in registers
//! over the whole reduction.
//!
//! Every weight vector that is loaded meets all `P` pixels and every activation all `V` vectors of channels, so that a
//! step of the reduction costs `V + P` loads for `V × P` multiply-adds. 14 × 2 of AVX-512's 32 registers hold sums.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "a kernel body is unsafe as a whole: its contract is that of `Tile` and `Lanes`"
)]

use super::lanes::Lanes;

/// One strip of output pixels times one block of output channels.
///
/// # Safety (of every function that takes one)
/// For each of the pixels and taps, `run` steps from `input` on can be read; `weights` holds `taps × run` steps of the
/// block; `bias` the block's channels; at each pixel, the block's channels can be written at `output` and read at
/// `residual` (unless null). `output` and `residual` may be the same.
pub(super) struct Tile<'a, T, O = T> {
    /// Where the first pixel's window begins.
    pub(super) input: *const T,
    /// Elements between the windows of neighbouring output pixels.
    pub(super) pixel_stride: usize,
    /// Where, relative to the window's begin, contiguous pieces of the reduction begin.
    pub(super) taps: &'a [usize],
    /// Steps (of `Lanes::STEP` elements) in each piece.
    pub(super) run: usize,
    pub(super) weights: *const T,
    /// What is fetched into the L2 cache meanwhile, `ahead_step` elements per step of the reduction: weights that are
    /// needed soon. Any address will do.
    pub(super) ahead: *const T,
    pub(super) ahead_step: usize,
    pub(super) bias: *const f32,
    pub(super) output: *mut O,
    pub(super) output_stride: usize,
    pub(super) residual: *const O,
    pub(super) residual_stride: usize,
    /// The activation is a clamp to `low..=high`.
    pub(super) low: f32,
    pub(super) high: f32,
}

/// A compiled [`dense`] or [`sums`] of one instruction set and one size.
pub(super) type TileFn<T, O = T> = unsafe fn(&Tile<'_, T, O>);

/// Unrolls a loop over the pixels of a strip in the source. Left to itself the compiler sometimes unrolls too late, and
/// the sums then live in memory instead of registers.
macro_rules! for_pixels {
    ($pixel:ident in 0..$count:ident $body:block) => {
        for_pixels!(@ $pixel $count $body 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    (@ $pixel:ident $count:ident $body:block $($index:literal)+) => {
        $({
            const $pixel: usize = $index;
            if $pixel < $count $body
        })+
    };
}

/// `P` pixels times `V` vectors of channels. Each output is one chain of additions in the order of the packed weights,
/// whatever `V` and `P` are: how pixels are cut into strips never changes a result.
#[inline(always)]
pub(super) unsafe fn dense<L: Lanes, const V: usize, const P: usize>(tile: &Tile<'_, L::Element>) {
    let sums = reduce::<L, L::Element, V, P>(tile);
    let (low, high) = (L::splat(tile.low), L::splat(tile.high));
    for_pixels!(PIXEL in 0..P {
        for (vector, &sum) in sums[PIXEL].iter().enumerate() {
            let mut value = sum;
            if !tile.residual.is_null() {
                let residual = tile.residual.add(PIXEL * tile.residual_stride + vector * L::LANES);
                value = L::add(value, L::widen(residual));
            }
            let output = tile.output.add(PIXEL * tile.output_stride + vector * L::LANES);
            L::store(output, L::clamp(value, low, high));
        }
    });
}

/// The sums alone, in f32 whatever they are sums of; there is neither a residual nor an activation.
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "only x86-64 has kernels whose sums are of another type")
)]
#[inline(always)]
pub(super) unsafe fn sums<L: Lanes, const V: usize, const P: usize>(tile: &Tile<'_, L::Element, f32>) {
    let sums = reduce::<L, f32, V, P>(tile);
    for_pixels!(PIXEL in 0..P {
        for (vector, &sum) in sums[PIXEL].iter().enumerate() {
            L::store_sums(tile.output.add(PIXEL * tile.output_stride + vector * L::LANES), sum);
        }
    });
}

#[inline(always)]
unsafe fn reduce<L: Lanes, O, const V: usize, const P: usize>(tile: &Tile<'_, L::Element, O>) -> [[L::Vector; V]; P] {
    const { assert!(P <= 14, "for_pixels unrolls 14") };
    let mut bias = [L::splat(0.0); V];
    for (vector, bias) in bias.iter_mut().enumerate() {
        *bias = L::load(tile.bias.add(vector * L::LANES));
    }
    let mut sums = [bias; P];
    let pixel_stride = tile.pixel_stride;
    let mut weights = tile.weights;
    let mut ahead = tile.ahead;
    for &tap in tile.taps {
        let mut input = tile.input.add(tap);
        for _ in 0..tile.run {
            L::prefetch(ahead);
            ahead = ahead.wrapping_add(tile.ahead_step);
            let mut block = [L::weights(weights); V];
            for (vector, operand) in block.iter_mut().enumerate() {
                *operand = L::weights(weights.add(vector * L::LANES * L::STEP));
            }
            for_pixels!(PIXEL in 0..P {
                let activations = L::repeat(input.add(PIXEL * pixel_stride));
                for vector in 0..V {
                    sums[PIXEL][vector] = L::dot(activations, block[vector], sums[PIXEL][vector]);
                }
            });
            weights = weights.add(V * L::LANES * L::STEP);
            input = input.add(L::STEP);
        }
    }
    sums
}
