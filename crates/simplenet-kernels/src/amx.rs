//! AMX: tiles of 16 × 16 sums in f32 from products in bf16.
//!
//! The tile intrinsics are not stable in Rust, so the loops are assembly. The operating system has granted the tile
//! registers to this process when `Isa::Amx` is found; no other path leads here. With the feature `kernel-emu` it is also found on
//! processors with bf16 vectors alone, where the instructions are done in software (`emulated`), so that tests reach it.

#[cfg(all(feature = "kernel-emu", target_os = "linux"))]
pub(crate) mod emulated;

use std::arch::asm;

use half::bf16;

/// Terms of the reduction in one tile: its 64-byte rows.
pub(crate) const TERMS: usize = 32;

/// Rows of the left factor in one tile.
pub(crate) const ROWS: usize = 16;

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
    const fn new([first, second]: [usize; 2]) -> TileConfig {
        let (first, second) = (first as u8, second as u8);
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

/// Sums of two groups of rows × two vectors of columns, between the tiles and what follows.
#[repr(C, align(64))]
pub(crate) struct Sums(pub(crate) [[[[f32; 16]; ROWS]; 2]; 2]);

/// The tile registers of this thread, set up for some numbers of rows. Nothing but the code here uses them, so they keep
/// what they hold from one block of assembly to the next.
pub(crate) struct Tiles {
    rows: [usize; 2],
}

/// Factors of a product of two groups of rows and 32 columns.
pub(crate) struct Factors<'a> {
    /// Where each group of rows begins.
    pub(crate) left: [*const bf16; 2],
    /// Elements from row to row.
    pub(crate) left_stride: usize,
    /// Where, relative to the rows' begin, the pieces of [`TERMS`] terms begin that the reduction consists of; not empty.
    pub(crate) pieces: &'a [usize],
    /// For each two terms, 32 pairs: one for each column.
    pub(crate) right: *const bf16,
    /// What is fetched into the L2 cache meanwhile, `ahead_step` elements per piece: a right factor that is needed soon. Any
    /// address will do.
    pub(crate) ahead: *const bf16,
    pub(crate) ahead_step: usize,
}

impl Tiles {
    /// Sets the registers up for groups of 1 to 16 rows; the second may be empty.
    ///
    /// # Safety
    /// The processor has AMX and the process may use it.
    pub(crate) unsafe fn new(rows: [usize; 2]) -> Tiles {
        let mut tiles = Tiles { rows: [0; 2] };
        // SAFETY: the caller's promise.
        unsafe { tiles.set_up(rows) };
        tiles
    }

    /// The same again, where the numbers differ.
    ///
    /// # Safety
    /// As for [`Tiles::new`].
    #[inline(always)]
    pub(crate) unsafe fn set_up(&mut self, rows: [usize; 2]) {
        if self.rows == rows {
            return;
        }
        debug_assert!((1..=ROWS).contains(&rows[0]) && rows[1] <= ROWS);
        self.rows = rows;
        let config = TileConfig::new(rows);
        // SAFETY: reads 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly)) };
    }

    /// Sets `sums` to the product, or adds the product to them.
    ///
    /// # Safety
    /// For each row that the registers are set up for, and each piece, [`TERMS`] elements can be read; `right` holds
    /// `pieces.len()` times 1024 elements. `sums` is valid, and written before if it is added to.
    #[inline(always)]
    pub(crate) unsafe fn multiply(&mut self, factors: &Factors<'_>, sums: *mut Sums, add: bool) {
        // Both groups of rows of the right factor are 128 bytes: two vectors of 16 pairs of bf16. Those of sums are 64.
        // SAFETY: as the caller promises.
        unsafe {
            if self.rows[1] > 0 {
                asm!(
                    "test {b}, {b}",
                    "jnz 4f",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "jmp 2f",
                    "4:",
                    "tileloadd tmm0, [{sums} + {line}]",
                    "tileloadd tmm1, [{sums} + {line} + 1024]",
                    "tileloadd tmm2, [{sums} + {line} + 2048]",
                    "tileloadd tmm3, [{sums} + {line} + 3072]",
                    "2:",
                    "mov {a}, [{pieces}]",
                    "tileloadd tmm6, [{right} + 2 * {line}]",
                    "lea {b}, [{first} + 2 * {a}]",
                    "tileloadd tmm4, [{b} + {pitch}]",
                    "prefetcht1 [{ahead}]",
                    "prefetcht1 [{ahead} + 64]",
                    "prefetcht1 [{ahead} + 128]",
                    "tileloadd tmm7, [{right} + 2 * {line} + 64]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "lea {b}, [{second} + 2 * {a}]",
                    "tileloadd tmm5, [{b} + {pitch}]",
                    "prefetcht1 [{ahead} + 192]",
                    "prefetcht1 [{ahead} + 256]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {pieces}, 8",
                    "add {right}, 2048",
                    "add {ahead}, {step}",
                    "cmp {pieces}, {end}",
                    "jne 2b",
                    "tilestored [{sums} + {line}], tmm0",
                    "tilestored [{sums} + {line} + 1024], tmm1",
                    "tilestored [{sums} + {line} + 2048], tmm2",
                    "tilestored [{sums} + {line} + 3072], tmm3",
                    first = in(reg) factors.left[0],
                    second = in(reg) factors.left[1],
                    pitch = in(reg) factors.left_stride * 2,
                    pieces = inout(reg) factors.pieces.as_ptr() => _,
                    end = in(reg) factors.pieces.as_ptr_range().end,
                    right = inout(reg) factors.right => _,
                    ahead = inout(reg) factors.ahead => _,
                    step = in(reg) factors.ahead_step * 2,
                    sums = in(reg) sums,
                    line = in(reg) 64usize,
                    a = out(reg) _,
                    b = inout(reg) usize::from(add) => _,
                    options(nostack),
                );
            } else {
                asm!(
                    "test {b}, {b}",
                    "jnz 4f",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "jmp 2f",
                    "4:",
                    "tileloadd tmm0, [{sums} + {line}]",
                    "tileloadd tmm1, [{sums} + {line} + 1024]",
                    "2:",
                    "mov {b}, [{pieces}]",
                    "tileloadd tmm6, [{right} + 2 * {line}]",
                    "lea {b}, [{first} + 2 * {b}]",
                    "tileloadd tmm4, [{b} + {pitch}]",
                    "prefetcht1 [{ahead}]",
                    "prefetcht1 [{ahead} + 64]",
                    "prefetcht1 [{ahead} + 128]",
                    "prefetcht1 [{ahead} + 192]",
                    "prefetcht1 [{ahead} + 256]",
                    "tileloadd tmm7, [{right} + 2 * {line} + 64]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "add {pieces}, 8",
                    "add {right}, 2048",
                    "add {ahead}, {step}",
                    "cmp {pieces}, {end}",
                    "jne 2b",
                    "tilestored [{sums} + {line}], tmm0",
                    "tilestored [{sums} + {line} + 1024], tmm1",
                    first = in(reg) factors.left[0],
                    pitch = in(reg) factors.left_stride * 2,
                    pieces = inout(reg) factors.pieces.as_ptr() => _,
                    end = in(reg) factors.pieces.as_ptr_range().end,
                    right = inout(reg) factors.right => _,
                    ahead = inout(reg) factors.ahead => _,
                    step = in(reg) factors.ahead_step * 2,
                    sums = in(reg) sums,
                    line = in(reg) 64usize,
                    b = inout(reg) usize::from(add) => _,
                    options(nostack),
                );
            }
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the registers are set up, so the processor has them.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// `rounds` times a product of 16 × 32 by 32 × 16 into each of four tiles, for [`crate::peak`].
///
/// # Safety
/// The processor has AMX and the process may use it.
pub(crate) unsafe fn peak(rounds: u32) {
    let config = TileConfig::new([16, 16]);
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
