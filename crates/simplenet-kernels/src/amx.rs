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
    /// Tiles 0 to 3: sums of (first, second) rows × two vectors, or, where both are as many, of four groups of rows × one vector;
    /// 4 and 5: the first and the second rows of the left factor; 6 and 7: two vectors of the right one. Tiles without rows are
    /// not in use.
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

/// Where sums lie, of one or two groups of rows and 32 columns or of four and 16: row after row, each group [`ROWS`] rows after the
/// one before.
#[derive(Clone, Copy)]
pub(crate) struct SumsAt {
    pub(crate) at: *mut f32,
    /// Elements from row to row.
    pub(crate) pitch: usize,
}

/// Factors of a product of one or two groups of rows and 32 columns, in pieces of [`TERMS`] terms.
pub(crate) struct Factors<'a> {
    /// Where each group of rows begins.
    pub(crate) left: [*const bf16; 2],
    /// Elements from row to row.
    pub(crate) left_pitch: usize,
    /// Where each piece begins, counted from the begin of a row.
    pub(crate) pieces: &'a [usize],
    /// Where each vector of columns begins, for the first piece: for each two terms, 16 pairs. Others follow after
    /// [`RIGHT_PIECE`] elements each.
    pub(crate) right: [*const bf16; 2],
    /// Elements from each two terms to the next.
    pub(crate) right_pitch: usize,
}

/// Factors of a product of four groups of rows and 16 columns, in pieces of [`TERMS`] terms.
pub(crate) struct TallFactors<'a> {
    /// Where each group of rows begins.
    pub(crate) left: [*const bf16; 4],
    /// Elements from row to row.
    pub(crate) left_pitch: usize,
    /// Where each piece begins, counted from the begin of a row.
    pub(crate) pieces: &'a [usize],
    /// The first piece: for each two terms, 16 pairs, without gaps. Others follow after [`RIGHT_PIECE`] elements each.
    pub(crate) right: *const bf16,
}

/// Elements of a piece of the right factor: of 32 columns.
pub(crate) const RIGHT_PIECE: usize = TERMS * 32;

// What the loops below step by.
const _: () = assert!(RIGHT_PIECE * size_of::<bf16>() == 2048 && FETCHED * size_of::<bf16>() == 320);

/// Sets this thread's registers up for groups of 1 to 16 rows; the second may be empty.
/// Nothing but the code here uses the registers, so they keep what they hold from one function to the next.
///
/// # Safety
/// The processor has AMX and the process may use it.
pub(crate) unsafe fn configure(rows: [usize; 2]) {
    assert!((1..=ROWS).contains(&rows[0]) && rows[1] <= ROWS);
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

/// Begins the sums of `GROUPS` groups of rows with the same row of 32 values, which is what a pitch of zero reads.
///
/// # Safety
/// The registers are set up for these groups, and 32 values can be read.
#[inline(always)]
pub(crate) unsafe fn repeat<const GROUPS: usize>(row: *const f32) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "tileloadd tmm0, [{row} + {none}]",
            "tileloadd tmm1, [{row} + {none} + 64]",
            row = in(reg) row,
            none = in(reg) 0usize,
            options(nostack, readonly),
        );
        if GROUPS == 2 {
            asm!(
                "tileloadd tmm2, [{row} + {none}]",
                "tileloadd tmm3, [{row} + {none} + 64]",
                row = in(reg) row,
                none = in(reg) 0usize,
                options(nostack, readonly),
            );
        }
    }
}

/// Begins the sums of four groups of rows with the same row of 16 values.
///
/// # Safety
/// The registers are set up for groups of equally many rows, and 16 values can be read.
#[inline(always)]
pub(crate) unsafe fn repeat_tall(row: *const f32) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "tileloadd tmm0, [{row} + {none}]",
            "tileloadd tmm1, [{row} + {none}]",
            "tileloadd tmm2, [{row} + {none}]",
            "tileloadd tmm3, [{row} + {none}]",
            row = in(reg) row,
            none = in(reg) 0usize,
            options(nostack, readonly),
        );
    }
}

/// Elements that are fetched for every piece with `FETCH`, into the L2 cache: five lines.
pub(crate) const FETCHED: usize = 5 * 64 / size_of::<bf16>();

/// A loop over pieces, whose offset stands in `piece`, in assembly as a whole: addresses stay in registers whatever surrounds it.
/// With `fetch` lines are fetched between the instructions: all at once they would hold up the loads that follow them, which wait
/// for the same few buffers.
macro_rules! for_pieces {
    ($fetch:expr, $ahead:expr, $factors:ident, [$($instruction:expr),+ $(,)?], [$($step:expr),+ $(,)?], $($operands:tt)+) => {
        if $fetch {
            for_pieces!(@ ["prefetcht1 [{ahead}]", "prefetcht1 [{ahead} + 64]", "prefetcht1 [{ahead} + 128]",
                "prefetcht1 [{ahead} + 192]", "prefetcht1 [{ahead} + 256]",], [$($instruction,)+], [],
                ["add {ahead}, 320", $($step,)+], $factors, ahead = inout(reg) $ahead => _, $($operands)+)
        } else {
            for_pieces!(@ [], [$($instruction,)+], [], [$($step,)+], $factors, $($operands)+)
        }
    };
    (@ [$fetch:expr, $($fetches:expr,)*], [$next:expr, $($rest:expr,)*], [$($done:expr,)*], $step:tt, $factors:ident,
        $($operands:tt)+) => {
        for_pieces!(@ [$($fetches,)*], [$($rest,)*], [$($done,)* $next, $fetch,], $step, $factors, $($operands)+)
    };
    (@ [], [$($rest:expr,)*], [$($done:expr,)*], [$($step:expr,)+], $factors:ident, $($operands:tt)+) => {
        asm!(
            "2:",
            "mov {piece}, qword ptr [{pieces}]",
            $($done,)*
            $($rest,)*
            $($step,)+
            "add {pieces}, 8",
            "cmp {pieces}, {end}",
            "jne 2b",
            piece = out(reg) _,
            pieces = inout(reg) $factors.pieces.as_ptr() => _,
            end = in(reg) $factors.pieces.as_ptr_range().end,
            left_pitch = in(reg) $factors.left_pitch * 2,
            $($operands)+
            options(nostack, readonly),
        )
    };
}

/// Adds the product to the sums, one piece or more. With `ONCE` the left factor is not kept in the L1 cache, which then keeps the
/// right one where that fits. With `FETCH` [`FETCHED`] elements from `ahead` on are fetched for every piece;
/// any address will do.
///
/// # Safety
/// The registers are set up for `GROUPS` groups; there is a piece; for each row [`TERMS`] elements can be read at each piece, and
/// the right factor has as many pieces.
#[inline(always)]
pub(crate) unsafe fn multiply_add<const GROUPS: usize, const ONCE: bool, const FETCH: bool>(
    factors: &Factors<'_>,
    ahead: *const bf16,
) {
    // Loads stand between products, so that neither unit waits for the other.
    macro_rules! two_by_two {
        ($load_left:literal) => {
            for_pieces!(FETCH, ahead, factors, [
                "lea {at}, [{first} + 2 * {piece}]",
                concat!($load_left, " tmm4, [{at} + {left_pitch}]"),
                "lea {at}, [{second} + 2 * {piece}]",
                "tileloadd tmm6, [{right} + {right_pitch}]",
                concat!($load_left, " tmm5, [{at} + {left_pitch}]"),
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{beside} + {right_pitch}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
            ], ["add {right}, 2048", "add {beside}, 2048"],
                at = out(reg) _,
                first = in(reg) factors.left[0],
                second = in(reg) factors.left[1],
                right = inout(reg) factors.right[0] => _,
                beside = inout(reg) factors.right[1] => _,
                right_pitch = in(reg) factors.right_pitch * 2,
            )
        };
    }
    assert!(!factors.pieces.is_empty(), "the loop ends after its last piece");
    // SAFETY: the caller's promise.
    unsafe {
        if GROUPS == 2 && ONCE {
            two_by_two!("tileloaddt1");
        } else if GROUPS == 2 {
            two_by_two!("tileloadd");
        } else {
            for_pieces!(FETCH, ahead, factors, [
                "tileloadd tmm6, [{right} + {right_pitch}]",
                "lea {piece}, [{first} + 2 * {piece}]",
                "tileloadd tmm4, [{piece} + {left_pitch}]",
                "tileloadd tmm7, [{beside} + {right_pitch}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
            ], ["add {right}, 2048", "add {beside}, 2048"],
                first = in(reg) factors.left[0],
                right = inout(reg) factors.right[0] => _,
                beside = inout(reg) factors.right[1] => _,
                right_pitch = in(reg) factors.right_pitch * 2,
            );
        }
    }
}

/// As [`multiply_add`], of four groups of rows and one vector of columns: half as much is read of the right factor.
///
/// # Safety
/// As for [`multiply_add`], with groups of equally many rows.
#[inline(always)]
pub(crate) unsafe fn multiply_add_tall<const FETCH: bool>(factors: &TallFactors<'_>, ahead: *const bf16) {
    assert!(!factors.pieces.is_empty(), "the loop ends after its last piece");
    // SAFETY: the caller's promise.
    unsafe {
        for_pieces!(FETCH, ahead, factors, [
            "lea {at}, [{first} + 2 * {piece}]",
            "tileloadd tmm6, [{right} + {line}]",
            "tileloadd tmm4, [{at} + {left_pitch}]",
            "lea {at}, [{second} + 2 * {piece}]",
            "tileloadd tmm5, [{at} + {left_pitch}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "lea {at}, [{third} + 2 * {piece}]",
            "tileloadd tmm4, [{at} + {left_pitch}]",
            "tdpbf16ps tmm1, tmm5, tmm6",
            "lea {at}, [{fourth} + 2 * {piece}]",
            "tileloadd tmm5, [{at} + {left_pitch}]",
            "tdpbf16ps tmm2, tmm4, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm6",
        ], ["add {right}, 2048"],
            at = out(reg) _,
            first = in(reg) factors.left[0],
            second = in(reg) factors.left[1],
            third = in(reg) factors.left[2],
            fourth = in(reg) factors.left[3],
            right = inout(reg) factors.right => _,
            line = in(reg) 64usize,
        );
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

/// Writes the sums of four groups of rows and one vector to memory, each group [`ROWS`] rows after the one before.
///
/// # Safety
/// The registers are set up for groups of equally many rows, and `sums` is valid for them.
#[inline(always)]
pub(crate) unsafe fn store_tall(sums: SumsAt) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "tilestored [{first} + {pitch}], tmm0",
            "tilestored [{second} + {pitch}], tmm1",
            "tilestored [{third} + {pitch}], tmm2",
            "tilestored [{fourth} + {pitch}], tmm3",
            first = in(reg) sums.at,
            second = in(reg) sums.at.wrapping_add(ROWS * sums.pitch),
            third = in(reg) sums.at.wrapping_add(2 * ROWS * sums.pitch),
            fourth = in(reg) sums.at.wrapping_add(3 * ROWS * sums.pitch),
            pitch = in(reg) sums.pitch * 4,
            options(nostack),
        );
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
