//! AMX: tiles of 16 × 16 sums in f32 from products in bf16.
//!
//! The tile intrinsics are not stable in Rust, so the loops are assembly. The operating system has granted the tile
//! registers to this process when `Isa::Amx` is found; no other path leads here. `tests/amx.rs` checks the results with the
//! instructions emulated in software, on any x86-64.

use std::arch::asm;

use half::bf16;

/// Steps of two terms in one tile: its 64-byte rows.
pub(crate) const STEPS: usize = 16;

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
    /// Tiles 0 to 3: sums of (first, second) rows × two vectors; 4 and 5: the first and the second rows of the left factor;
    /// 6 and 7: two vectors of the right one. Tiles without rows are not in use.
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

/// Sums of 32 rows × 32 columns, between the tiles and what follows.
#[repr(C, align(64))]
pub(crate) struct Sums(pub(crate) [f32; 32 * 32]);

/// The factors of a product of `P` rows and 32 columns.
///
/// The reduction consists of pieces that begin, relative to `left`, where `taps` says. `right` holds, for each step of two
/// terms, 32 pairs: one for each column.
pub(crate) struct Factors<'a> {
    pub(crate) left: *const bf16,
    /// Elements from row to row.
    pub(crate) left_stride: usize,
    pub(crate) taps: &'a [usize],
    /// Tiles of [`STEPS`] steps in each piece; at least one.
    pub(crate) chunks_per_tap: usize,
    pub(crate) right: *const bf16,
    /// What is fetched into the L2 cache meanwhile, `ahead_step` elements per tile of the reduction: a right factor that is
    /// needed soon. Any address will do.
    pub(crate) ahead: *const bf16,
    pub(crate) ahead_step: usize,
}

/// What the loop reads rarely enough, or late enough, to leave it in memory; x86-64 has too few registers for all.
#[repr(C)]
struct Loop {
    chunks_per_tap: usize,
    sums: *mut Sums,
    ahead: *const bf16,
    ahead_bytes: usize,
}

/// Sets the first `P` rows of `sums`: one group of up to 16 rows, or two.
///
/// # Safety
/// The processor has AMX and the process may use it. For each of `P` rows and each tap, `chunks_per_tap * 32` elements can be
/// read; `right` holds `taps.len() * chunks_per_tap` times 1024 elements. There is at least one tap, and `P` is 1 to 32.
pub(crate) unsafe fn multiply<const P: usize>(factors: &Factors<'_>, sums: *mut Sums) {
    let first = if P > 16 { P.div_ceil(2) } else { P };
    let config = TileConfig::new(first as u8, (P - first) as u8);
    let fixed = Loop {
        chunks_per_tap: factors.chunks_per_tap,
        sums,
        ahead: factors.ahead,
        ahead_bytes: factors.ahead_step * 2,
    };
    let row_bytes = factors.left_stride * 2;
    // One block of assembly from `ldtilecfg` to `tilerelease`: nothing is assumed of tile registers outside. Both
    // groups of rows of the right factor and of sums are 128 bytes: two vectors of 16 pairs of bf16, or of 16 sums.
    // SAFETY: as the caller promises.
    unsafe {
        if P > 16 {
            asm!(
                // `ahead` begins as the address of the configuration.
                "ldtilecfg [{ahead}]",
                "mov {ahead}, [{fixed} + 16]",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:", // taps
                "mov {a}, [{taps}]",
                "lea {a}, [{left} + 2 * {a}]",
                "mov {n}, [{fixed}]",
                "3:", // chunks
                "tileloadd tmm6, [{right} + {row}]",
                "prefetcht1 [{ahead}]",
                "prefetcht1 [{ahead} + 64]",
                "tileloadd tmm4, [{a} + {pitch}]",
                "prefetcht1 [{ahead} + 128]",
                "prefetcht1 [{ahead} + 192]",
                "tileloadd tmm7, [{right} + {row} + 64]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "lea {b}, [{a} + {group}]",
                "tileloadd tmm5, [{b} + {pitch}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 64",
                "add {right}, 2048",
                "add {ahead}, [{fixed} + 24]",
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
                ahead = inout(reg) &config => _,
                fixed = in(reg) &fixed,
                taps = inout(reg) factors.taps.as_ptr() => _,
                count = inout(reg) factors.taps.len() => _,
                left = in(reg) factors.left,
                right = inout(reg) factors.right => _,
                pitch = in(reg) row_bytes,
                group = in(reg) first * row_bytes,
                row = in(reg) 128usize,
                first = const P.div_ceil(2),
                a = out(reg) _,
                b = out(reg) _,
                n = out(reg) _,
                options(nostack),
            );
        } else {
            asm!(
                "ldtilecfg [{ahead}]",
                "mov {ahead}, [{fixed} + 16]",
                "tilezero tmm0",
                "tilezero tmm1",
                "2:", // taps
                "mov {a}, [{taps}]",
                "lea {a}, [{left} + 2 * {a}]",
                "mov {n}, [{fixed}]",
                "3:", // chunks
                "tileloadd tmm6, [{right} + {row}]",
                "prefetcht1 [{ahead}]",
                "prefetcht1 [{ahead} + 64]",
                "tileloadd tmm4, [{a} + {pitch}]",
                "prefetcht1 [{ahead} + 128]",
                "prefetcht1 [{ahead} + 192]",
                "tileloadd tmm7, [{right} + {row} + 64]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "add {a}, 64",
                "add {right}, 2048",
                "add {ahead}, [{fixed} + 24]",
                "dec {n}",
                "jnz 3b",
                "add {taps}, 8",
                "dec {count}",
                "jnz 2b",
                "mov {a}, [{fixed} + 8]",
                "tilestored [{a} + {row}], tmm0",
                "tilestored [{a} + {row} + 64], tmm1",
                "tilerelease",
                ahead = inout(reg) &config => _,
                fixed = in(reg) &fixed,
                taps = inout(reg) factors.taps.as_ptr() => _,
                count = inout(reg) factors.taps.len() => _,
                left = in(reg) factors.left,
                right = inout(reg) factors.right => _,
                pitch = in(reg) row_bytes,
                row = in(reg) 128usize,
                a = out(reg) _,
                n = out(reg) _,
                options(nostack),
            );
        }
    }
}

/// `rounds` times a product of 16 × 32 by 32 × 16 into each of four tiles, for [`crate::peak`].
///
/// # Safety
/// The processor has AMX and the process may use it.
pub(crate) unsafe fn peak(rounds: u32) {
    let config = TileConfig::new(16, 16);
    // SAFETY: the loop uses registers alone.
    unsafe {
        asm!(
            "ldtilecfg [{config}]",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "tilezero tmm4",
            "tilezero tmm5",
            "tilezero tmm6",
            "tilezero tmm7",
            "2:",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {n}",
            "jnz 2b",
            "tilerelease",
            config = in(reg) &config,
            n = inout(reg) u64::from(rounds.max(1)) => _,
            options(nostack),
        );
    }
}
