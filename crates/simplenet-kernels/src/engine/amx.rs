//! AMX: tiles of 16 × 16 sums in f32 from products in bf16, for dense convolutions whose reduction comes in whole tiles.
//! Everything else runs on the vectors of [`super::avx512_bf16`], whose packed weights are also these kernels' layout.
//!
//! The tile intrinsics are not stable in Rust, so the inner loop is assembly. The operating system has granted the tile
//! registers to this process when [`Isa::Amx`](crate::isa::Isa::Amx) is found; no other path leads here. The results are
//! checked with the instructions emulated in software; nothing here has been timed on a processor that has them.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "a kernel body is unsafe as a whole: its contract is that of `Tile`"
)]

use std::arch::asm;

use half::bf16;

use super::avx512_bf16::{self, Avx512Bf16};
use super::kernels::{Chunked, Kernels, dense_table};
use super::lanes::Lanes;
use super::tile::Tile;

/// Steps of two terms in one tile: its 64-byte rows.
const STEPS: usize = 16;

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

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

impl TileConfig {
    /// Tiles 0 to 3: sums of (first, second) pixels × two vectors; 4 and 5: activations of the first and the second
    /// pixels; 6 and 7: weights of two vectors. Tiles without rows are not in use.
    const fn new(first: u8, second: u8) -> TileConfig {
        let mut config = TileConfig {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes_per_row: [0; 16],
            rows: [
                first, first, second, second, first, second, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
        };
        let mut tile = 0;
        while tile < 8 {
            config.bytes_per_row[tile] = if config.rows[tile] > 0 { 64 } else { 0 };
            tile += 1;
        }
        config
    }
}

/// Sums of 32 pixels × 32 channels between the tiles and the epilogue.
#[repr(C, align(64))]
struct Sums([f32; 32 * 32]);

/// What the loop reads rarely enough to leave it in memory; x86-64 has too few registers for all.
#[repr(C)]
struct Loop {
    chunks_per_tap: usize,
    sums: *mut Sums,
}

/// `P` pixels, in one group of up to 16 or two, times two vectors of channels; `run` is a multiple of [`STEPS`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn dense<const P: usize>(tile: &Tile<'_, bf16>) {
    let first = if P > 16 { P.div_ceil(2) } else { P };
    let config = TileConfig::new(first as u8, (P - first) as u8);
    let mut sums = std::mem::MaybeUninit::<Sums>::uninit();
    let fixed = Loop {
        chunks_per_tap: tile.run / STEPS,
        sums: sums.as_mut_ptr(),
    };
    let pixel_bytes = tile.pixel_stride * 2;
    // One block of assembly from `ldtilecfg` to `tilerelease`: nothing is assumed of tile registers outside. Both
    // groups of rows of weights and of sums are 128 bytes: two vectors of 16 pairs of bf16, or of 16 sums.
    if P > 16 {
        asm!(
            "ldtilecfg [{config}]",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:", // taps
            "mov {a}, [{taps}]",
            "lea {a}, [{input} + 2 * {a}]",
            "mov {n}, [{fixed}]",
            "3:", // chunks
            "tileloadd tmm6, [{weights} + {row}]",
            "tileloadd tmm4, [{a} + {pixel}]",
            "tileloadd tmm7, [{weights} + {row} + 64]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "lea {b}, [{a} + {group}]",
            "tileloadd tmm5, [{b} + {pixel}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 64",
            "add {weights}, 2048",
            "dec {n}",
            "jnz 3b",
            "add {taps}, 8",
            "dec {count}",
            "jnz 2b",
            "mov {a}, [{fixed} + 8]",
            "tilestored [{a} + {row}], tmm0",
            "tilestored [{a} + {row} + 64], tmm1",
            "mov {b}, {first}",
            "shl {b}, 7",
            "add {a}, {b}",
            "tilestored [{a} + {row}], tmm2",
            "tilestored [{a} + {row} + 64], tmm3",
            "tilerelease",
            config = in(reg) &config,
            fixed = in(reg) &fixed,
            taps = inout(reg) tile.taps.as_ptr() => _,
            count = inout(reg) tile.taps.len() => _,
            input = in(reg) tile.input,
            weights = inout(reg) tile.weights => _,
            pixel = in(reg) pixel_bytes,
            group = in(reg) first * pixel_bytes,
            row = in(reg) 128usize,
            first = const P.div_ceil(2),
            a = out(reg) _,
            b = out(reg) _,
            n = out(reg) _,
            options(nostack),
        );
    } else {
        asm!(
            "ldtilecfg [{config}]",
            "tilezero tmm0",
            "tilezero tmm1",
            "2:", // taps
            "mov {a}, [{taps}]",
            "lea {a}, [{input} + 2 * {a}]",
            "mov {n}, [{fixed}]",
            "3:", // chunks
            "tileloadd tmm6, [{weights} + {row}]",
            "tileloadd tmm4, [{a} + {pixel}]",
            "tileloadd tmm7, [{weights} + {row} + 64]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {a}, 64",
            "add {weights}, 2048",
            "dec {n}",
            "jnz 3b",
            "add {taps}, 8",
            "dec {count}",
            "jnz 2b",
            "mov {a}, [{fixed} + 8]",
            "tilestored [{a} + {row}], tmm0",
            "tilestored [{a} + {row} + 64], tmm1",
            "tilerelease",
            config = in(reg) &config,
            fixed = in(reg) &fixed,
            taps = inout(reg) tile.taps.as_ptr() => _,
            count = inout(reg) tile.taps.len() => _,
            input = in(reg) tile.input,
            weights = inout(reg) tile.weights => _,
            pixel = in(reg) pixel_bytes,
            row = in(reg) 128usize,
            a = out(reg) _,
            n = out(reg) _,
            options(nostack),
        );
    }
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
