//! AMX tiles for dense convolutions whose reduction comes in whole tiles. Everything else runs on the vectors of
//! [`super::avx512_bf16`], whose packed weights are also these kernels' layout.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "a kernel body is unsafe as a whole: its contract is that of `Tile`"
)]

use half::bf16;

use super::avx512_bf16::{self, Avx512Bf16};
use super::kernels::{Chunked, Kernels, dense_table};
use super::lanes::Lanes;
use super::tile::Tile;
use crate::amx::{Factors, STEPS, Sums, multiply};

pub(super) static KERNELS: Kernels<bf16> = Kernels {
    chunked: Some(Chunked {
        steps: STEPS,
        // A single vector of channels would leave half of the tiles idle: it stays with the vector kernels.
        dense: &[
            avx512_bf16::KERNELS.dense[0],
            dense_table!(dense; 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32),
        ],
    }),
    ..avx512_bf16::KERNELS
};

/// `P` pixels times two vectors of channels; `run` is a multiple of [`STEPS`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn dense<const P: usize>(tile: &Tile<'_, bf16>) {
    let mut sums = std::mem::MaybeUninit::<Sums>::uninit();
    let factors = Factors {
        left: tile.input,
        left_stride: tile.pixel_stride,
        taps: tile.taps,
        chunks_per_tap: tile.run / STEPS,
        right: tile.weights,
        ahead: tile.ahead,
        ahead_step: tile.ahead_step * STEPS,
    };
    multiply::<P>(&factors, sums.as_mut_ptr());
    let (low, high) = (Avx512Bf16::splat(tile.low), Avx512Bf16::splat(tile.high));
    for pixel in 0..P {
        for vector in 0..2 {
            let channel = vector * Avx512Bf16::LANES;
            let sum = Avx512Bf16::load(sums.as_ptr().cast::<f32>().add(pixel * 32 + channel));
            let mut value = Avx512Bf16::add(sum, Avx512Bf16::load(tile.bias.add(channel)));
            if !tile.residual.is_null() {
                let residual = tile.residual.add(pixel * tile.residual_stride + channel);
                value = Avx512Bf16::add(value, Avx512Bf16::widen(residual));
            }
            let output = tile.output.add(pixel * tile.output_stride + channel);
            Avx512Bf16::store(output, Avx512Bf16::clamp(value, low, high));
        }
    }
}
