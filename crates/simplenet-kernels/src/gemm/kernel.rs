//! Micro-kernels: a tile of C in registers, summed over one block of K.
//!
//! Every kernel adds the products of one element of C in the order of k, one after the other; those that have a fused
//! multiply-add therefore agree to the last bit, whatever their tile.

use std::ops::Range;

use half::bf16;

use super::pack::{pack_left, pack_left_rounded, pack_right, pack_right_rounded};
use super::{MatRef, Real};
#[cfg(doc)]
use crate::engine::Precision;
use crate::isa::Isa;

/// Longest run of K that is summed in registers before C is written. A panel of B of the widest kernel takes 48 KiB then.
pub(super) const K_BLOCK: usize = 384;

/// Elements from row to row of a panel of A in [`Layout::Rows`]: no multiple of a page, so that the rows of a panel lie
/// in different sets of the first cache.
pub(super) const ROW_PITCH: usize = K_BLOCK + 16;

/// How K is cut, and how much of it stands in a row of a panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blocking {
    /// Longest run of K that is summed in registers before C is written.
    pub(super) k_block: usize,
    /// Panels hold a multiple of this many terms; those that K lacks are zeros.
    pub(super) k_step: usize,
    /// Elements from row to row of a panel of A.
    pub(super) row_pitch: usize,
}

/// For factors that are packed as they are.
const PLAIN: Blocking = Blocking {
    k_block: K_BLOCK,
    k_step: 1,
    row_pitch: ROW_PITCH,
};

/// How a packed panel of A lies: as the source does, so that packing copies runs and never transposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `[rows][ROW_PITCH]`, for a source whose rows are contiguous.
    Rows,
    /// `[k][rows]`, for a source whose columns are contiguous.
    Columns,
}

/// `run(k, a, b, c, c_row_stride, add)`: sets (or adds to) a full tile of C the product of a panel of A and a panel of
/// B (`[k][cols]`).
pub(super) type Run<T, P> = unsafe fn(usize, *const P, *const P, *mut T, usize, bool);

/// `pack_left(a, rows, ks, height, out)`: see [`pack_left`].
pub(super) type PackLeft<T, P> = unsafe fn(&MatRef<'_, T>, Range<usize>, Range<usize>, usize, *mut P);

/// `pack_right(b, ks, columns, width, out)`: see [`pack_right`].
pub(super) type PackRight<T, P> = unsafe fn(&MatRef<'_, T>, Range<usize>, Range<usize>, usize, *mut P);

/// The micro-kernel of one instruction set for a C of `T`, with factors packed as `P`.
#[derive(Debug, Clone, Copy)]
pub struct Kernel<T, P = T> {
    /// Rows of its tile.
    pub(super) rows: usize,
    /// Columns of its tile.
    pub(super) cols: usize,
    pub(super) blocking: Blocking,
    pub(super) rows_run: Run<T, P>,
    pub(super) columns_run: Run<T, P>,
    pub(super) pack_left: PackLeft<T, P>,
    pub(super) pack_right: PackRight<T, P>,
    /// What a thread calls before its first run, and after its last: for registers that are set up once for many tiles.
    pub(super) around: Option<[unsafe fn(); 2]>,
}

/// The kernel for a type and a precision.
#[derive(Debug, Clone, Copy)]
pub enum Chosen<T> {
    /// Factors packed as their own type; those of [`Precision::Bf16`] rounded on the way.
    Plain(Kernel<T>),
    /// Factors packed as bf16.
    Bf16(Kernel<T, bf16>),
}

/// Largest tile of all kernels, in elements.
pub(super) const MAX_TILE: usize = 32 * 32;

impl<T: Real> Kernel<T> {
    /// The same kernel on factors rounded to bf16: how [`Precision::Bf16`] runs where no instruction multiplies bf16.
    pub(super) fn rounding(self) -> Kernel<T> {
        Kernel {
            pack_left: pack_left_rounded,
            pack_right: pack_right_rounded,
            ..self
        }
    }
}

impl<T, P> Kernel<T, P> {
    /// Makes this thread ready for runs until the guard is dropped.
    pub(super) fn ready(&self) -> Option<Ready> {
        self.around.map(|[before, after]| {
            // SAFETY: the kernel was chosen for this processor.
            unsafe { before() };
            Ready(after)
        })
    }

    /// The function for panels of A that lie as `layout` says.
    pub(super) fn run(&self, layout: Layout) -> Run<T, P> {
        match layout {
            Layout::Rows => self.rows_run,
            Layout::Columns => self.columns_run,
        }
    }
}

/// Of a thread, for runs of one kernel.
pub(super) struct Ready(unsafe fn());

impl Drop for Ready {
    fn drop(&mut self) {
        // SAFETY: the kernel was chosen for this processor.
        unsafe { (self.0)() };
    }
}

/// The kernel of `f32`. The caller has checked that this processor has `isa`.
pub(super) fn kernel_f32(isa: Isa) -> Kernel<f32> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => Kernel {
            rows: 14,
            cols: 32,
            blocking: PLAIN,
            rows_run: x86::f32_avx512::<ROW_PITCH, 1>,
            columns_run: x86::f32_avx512::<1, 14>,
            pack_left,
            pack_right,
            around: None,
        },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Kernel {
            rows: 6,
            cols: 16,
            blocking: PLAIN,
            rows_run: x86::f32_avx2::<ROW_PITCH, 1>,
            columns_run: x86::f32_avx2::<1, 6>,
            pack_left,
            pack_right,
            around: None,
        },
        _ => Kernel {
            rows: 4,
            cols: 8,
            blocking: PLAIN,
            rows_run: portable::<f32, 4, 8, ROW_PITCH, 1>,
            columns_run: portable::<f32, 4, 8, 1, 4>,
            pack_left,
            pack_right,
            around: None,
        },
    }
}

/// The kernel of `f64`. The caller has checked that this processor has `isa`.
pub(super) fn kernel_f64(isa: Isa) -> Kernel<f64> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => Kernel {
            rows: 8,
            cols: 16,
            blocking: PLAIN,
            rows_run: x86::f64_avx512::<ROW_PITCH, 1>,
            columns_run: x86::f64_avx512::<1, 8>,
            pack_left,
            pack_right,
            around: None,
        },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Kernel {
            rows: 4,
            cols: 8,
            blocking: PLAIN,
            rows_run: x86::f64_avx2::<ROW_PITCH, 1>,
            columns_run: x86::f64_avx2::<1, 4>,
            pack_left,
            pack_right,
            around: None,
        },
        _ => Kernel {
            rows: 4,
            cols: 8,
            blocking: PLAIN,
            rows_run: portable::<f64, 4, 8, ROW_PITCH, 1>,
            columns_run: portable::<f64, 4, 8, 1, 4>,
            pack_left,
            pack_right,
            around: None,
        },
    }
}

/// Whether the target this is compiled for has a fused multiply-add of its own; elsewhere it would be a library call.
const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

/// # Safety
/// As [`tile`].
unsafe fn portable<T: Real, const ROWS: usize, const COLS: usize, const ROW: usize, const STEP: usize>(
    k: usize,
    a: *const T,
    b: *const T,
    c: *mut T,
    c_row_stride: usize,
    add: bool,
) {
    // SAFETY: the caller's promise.
    unsafe { tile::<T, ROWS, COLS, ROW, STEP, FUSED>(k, a, b, c, c_row_stride, add) }
}

/// The kernel in plain Rust, small enough that the compiler keeps the tile in registers.
///
/// # Safety
/// `a` holds `k` columns of `ROWS` elements, `ROW` apart, columns `STEP` apart; `b` holds `k * COLS` elements; `c` is a
/// tile of `ROWS` rows, `c_row_stride` apart, of `COLS` elements, readable where `add`.
#[inline(always)]
unsafe fn tile<T: Real, const ROWS: usize, const COLS: usize, const ROW: usize, const STEP: usize, const FMA: bool>(
    k: usize,
    a: *const T,
    b: *const T,
    c: *mut T,
    c_row_stride: usize,
    add: bool,
) {
    let mut sums = [[T::default(); COLS]; ROWS];
    for p in 0..k {
        // SAFETY: p < k, and the arrays are `COLS` long, as the caller promises.
        let right = unsafe { &*b.add(p * COLS).cast::<[T; COLS]>() };
        for (i, row) in sums.iter_mut().enumerate() {
            // SAFETY: i < ROWS and p < k.
            let left = unsafe { *a.add(i * ROW + p * STEP) };
            for (sum, &x) in row.iter_mut().zip(right) {
                *sum = if FMA { left.fused(x, *sum) } else { *sum + left * x };
            }
        }
    }
    for (i, row) in sums.iter().enumerate() {
        // SAFETY: a row of the tile of C, as the caller promises.
        let out = unsafe { &mut *c.add(i * c_row_stride).cast::<[T; COLS]>() };
        for (place, &sum) in out.iter_mut().zip(row) {
            *place = if add { *place + sum } else { sum };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::tile;

    /// # Safety
    /// As [`tile`] with 14 rows and 32 columns.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn f32_avx512<const ROW: usize, const STEP: usize>(
        k: usize,
        a: *const f32,
        b: *const f32,
        c: *mut f32,
        c_row_stride: usize,
        add: bool,
    ) {
        let mut sums = [[_mm512_setzero_ps(); 2]; 14];
        // SAFETY: all places lie in the panels and the tile that the caller promises.
        unsafe {
            // The tile is needed at the end only; by then it has come.
            for i in 0..14 {
                _mm_prefetch::<_MM_HINT_ET0>(c.add(i * c_row_stride).cast());
                _mm_prefetch::<_MM_HINT_ET0>(c.add(i * c_row_stride + 31).cast());
            }
            for p in 0..k {
                let right = [_mm512_loadu_ps(b.add(p * 32)), _mm512_loadu_ps(b.add(p * 32 + 16))];
                for (i, row) in sums.iter_mut().enumerate() {
                    let left = _mm512_set1_ps(*a.add(i * ROW + p * STEP));
                    row[0] = _mm512_fmadd_ps(left, right[0], row[0]);
                    row[1] = _mm512_fmadd_ps(left, right[1], row[1]);
                }
            }
            for (i, row) in sums.iter().enumerate() {
                for (j, &sum) in row.iter().enumerate() {
                    let place = c.add(i * c_row_stride + j * 16);
                    let sum = if add {
                        _mm512_add_ps(_mm512_loadu_ps(place), sum)
                    } else {
                        sum
                    };
                    _mm512_storeu_ps(place, sum);
                }
            }
        }
    }

    /// # Safety
    /// As [`tile`] with 6 rows and 16 columns.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn f32_avx2<const ROW: usize, const STEP: usize>(
        k: usize,
        a: *const f32,
        b: *const f32,
        c: *mut f32,
        c_row_stride: usize,
        add: bool,
    ) {
        let mut sums = [[_mm256_setzero_ps(); 2]; 6];
        // SAFETY: all places lie in the panels and the tile that the caller promises.
        unsafe {
            for p in 0..k {
                let right = [_mm256_loadu_ps(b.add(p * 16)), _mm256_loadu_ps(b.add(p * 16 + 8))];
                for (i, row) in sums.iter_mut().enumerate() {
                    let left = _mm256_set1_ps(*a.add(i * ROW + p * STEP));
                    row[0] = _mm256_fmadd_ps(left, right[0], row[0]);
                    row[1] = _mm256_fmadd_ps(left, right[1], row[1]);
                }
            }
            for (i, row) in sums.iter().enumerate() {
                for (j, &sum) in row.iter().enumerate() {
                    let place = c.add(i * c_row_stride + j * 8);
                    let sum = if add {
                        _mm256_add_ps(_mm256_loadu_ps(place), sum)
                    } else {
                        sum
                    };
                    _mm256_storeu_ps(place, sum);
                }
            }
        }
    }

    /// # Safety
    /// As [`tile`] with 8 rows and 16 columns.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn f64_avx512<const ROW: usize, const STEP: usize>(
        k: usize,
        a: *const f64,
        b: *const f64,
        c: *mut f64,
        c_row_stride: usize,
        add: bool,
    ) {
        // SAFETY: the caller's promise.
        unsafe { tile::<f64, 8, 16, ROW, STEP, true>(k, a, b, c, c_row_stride, add) }
    }

    /// # Safety
    /// As [`tile`] with 4 rows and 8 columns.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn f64_avx2<const ROW: usize, const STEP: usize>(
        k: usize,
        a: *const f64,
        b: *const f64,
        c: *mut f64,
        c_row_stride: usize,
        add: bool,
    ) {
        // SAFETY: the caller's promise.
        unsafe { tile::<f64, 4, 8, ROW, STEP, true>(k, a, b, c, c_row_stride, add) }
    }
}
