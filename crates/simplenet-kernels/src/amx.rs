//! AMX: tiles of 16 × 16 sums in f32 from products in bf16.
//!
//! The tile intrinsics are not stable in Rust, so the instructions are assembly. The operating system has granted the tile
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

/// Where sums of one or two groups of rows and 32 columns lie: row after row, the second group after [`ROWS`] rows.
#[derive(Clone, Copy)]
pub(crate) struct SumsAt {
    pub(crate) at: *mut f32,
    /// Elements from row to row.
    pub(crate) pitch: usize,
}

/// Factors of one piece of a product: [`TERMS`] terms of one or two groups of rows and 32 columns.
pub(crate) struct Factors {
    /// Where each group of rows begins.
    pub(crate) left: [*const bf16; 2],
    /// Elements from row to row.
    pub(crate) left_pitch: usize,
    /// For each two terms, 32 pairs: one for each column.
    pub(crate) right: *const bf16,
}

/// Sets this thread's registers up for groups of 1 to 16 rows; the second may be empty. Takes as long as six products.
/// Nothing but the code here uses the registers, so they keep what they hold from one function to the next.
///
/// # Safety
/// The processor has AMX and the process may use it.
pub(crate) unsafe fn configure(rows: [usize; 2]) {
    debug_assert!((1..=ROWS).contains(&rows[0]) && rows[1] <= ROWS);
    let config = TileConfig::new(rows);
    // SAFETY: reads 64 bytes.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly)) };
}

/// Gives the registers back.
///
/// # Safety
/// The processor has AMX and the process may use it.
pub(crate) unsafe fn release() {
    // SAFETY: touches nothing else.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// Begins the sums of `GROUPS` groups of rows, 1 or 2, with zero.
///
/// # Safety
/// The registers are set up for these groups.
#[inline(always)]
pub(crate) unsafe fn zero<const GROUPS: usize>() {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("tilezero tmm0", "tilezero tmm1", options(nostack, nomem));
        if GROUPS == 2 {
            asm!("tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
        }
    }
}

/// Begins the sums of `GROUPS` groups of rows with what lies in memory.
///
/// # Safety
/// The registers are set up for these groups, and `sums` is valid for their rows.
#[inline(always)]
pub(crate) unsafe fn load<const GROUPS: usize>(sums: SumsAt) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "tileloadd tmm0, [{at} + {pitch}]",
            "tileloadd tmm1, [{at} + {pitch} + 64]",
            at = in(reg) sums.at,
            pitch = in(reg) sums.pitch * 4,
            options(nostack, readonly),
        );
        if GROUPS == 2 {
            asm!(
                "tileloadd tmm2, [{at} + {pitch}]",
                "tileloadd tmm3, [{at} + {pitch} + 64]",
                at = in(reg) sums.at.wrapping_add(ROWS * sums.pitch),
                pitch = in(reg) sums.pitch * 4,
                options(nostack, readonly),
            );
        }
    }
}

/// Adds the product of one piece to the sums, and fetches three lines that lie `ahead`, 128 bytes from one another, into the
/// L2 cache; the processor fetches their neighbours with them. Any address will do.
///
/// # Safety
/// The registers are set up for `GROUPS` groups; for each of their rows [`TERMS`] elements can be read; `right` holds 1024.
#[inline(always)]
pub(crate) unsafe fn multiply_add<const GROUPS: usize>(factors: &Factors, ahead: *const bf16) {
    // Loads between products, so that neither unit waits for the other. A row of the right factor is 128 bytes: two vectors of
    // 16 pairs of bf16.
    // SAFETY: the caller's promise.
    unsafe {
        if GROUPS == 2 {
            asm!(
                "tileloadd tmm6, [{right} + 2 * {line}]",
                "tileloadd tmm4, [{first} + {pitch}]",
                "prefetcht1 [{ahead}]",
                "prefetcht1 [{ahead} + 128]",
                "tileloadd tmm7, [{right} + 2 * {line} + 64]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{second} + {pitch}]",
                "prefetcht1 [{ahead} + 256]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                first = in(reg) factors.left[0],
                second = in(reg) factors.left[1],
                pitch = in(reg) factors.left_pitch * 2,
                right = in(reg) factors.right,
                line = in(reg) 64usize,
                ahead = in(reg) ahead,
                options(nostack, readonly),
            );
        } else {
            asm!(
                "tileloadd tmm6, [{right} + 2 * {line}]",
                "tileloadd tmm4, [{first} + {pitch}]",
                "prefetcht1 [{ahead}]",
                "prefetcht1 [{ahead} + 128]",
                "prefetcht1 [{ahead} + 256]",
                "tileloadd tmm7, [{right} + 2 * {line} + 64]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                first = in(reg) factors.left[0],
                pitch = in(reg) factors.left_pitch * 2,
                right = in(reg) factors.right,
                line = in(reg) 64usize,
                ahead = in(reg) ahead,
                options(nostack, readonly),
            );
        }
    }
}

/// Writes the sums of `GROUPS` groups of rows to memory.
///
/// # Safety
/// The registers are set up for these groups, and `sums` is valid for their rows.
#[inline(always)]
pub(crate) unsafe fn store<const GROUPS: usize>(sums: SumsAt) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "tilestored [{at} + {pitch}], tmm0",
            "tilestored [{at} + {pitch} + 64], tmm1",
            at = in(reg) sums.at,
            pitch = in(reg) sums.pitch * 4,
            options(nostack),
        );
        if GROUPS == 2 {
            asm!(
                "tilestored [{at} + {pitch}], tmm2",
                "tilestored [{at} + {pitch} + 64], tmm3",
                at = in(reg) sums.at.wrapping_add(ROWS * sums.pitch),
                pitch = in(reg) sums.pitch * 4,
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
