//! Micro-kernels: a tile of C in registers, summed over one block of K.
//!
//! Every kernel adds the products of one element of C in the order of k, one after the other; those that have a fused
//! multiply-add therefore agree to the last bit, whatever their tile.

use super::Real;
use crate::isa::Isa;

/// Longest run of K that is summed in registers before C is written. A panel of B of the widest kernel takes 48 KiB then.
pub(super) const K_BLOCK: usize = 384;

/// Elements from row to row of a panel of A in [`Layout::Rows`]: no multiple of a page, so that the rows of a panel lie
/// in different sets of the first cache.
pub(super) const ROW_PITCH: usize = K_BLOCK + 16;

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
type Run<T> = unsafe fn(usize, *const T, *const T, *mut T, usize, bool);

/// The micro-kernel of one instruction set.
#[derive(Debug, Clone, Copy)]
pub struct Kernel<T> {
    /// Rows of its tile.
    pub(super) rows: usize,
    /// Columns of its tile.
    pub(super) cols: usize,
    rows_run: Run<T>,
    columns_run: Run<T>,
}

/// Largest tile of all kernels, in elements.
pub(super) const MAX_TILE: usize = 14 * 32;

impl<T> Kernel<T> {
    /// The function for panels of A that lie as `layout` says.
    pub(super) fn run(&self, layout: Layout) -> Run<T> {
        match layout {
            Layout::Rows => self.rows_run,
            Layout::Columns => self.columns_run,
        }
    }
}

/// The kernel of `f32`. The caller has checked that this processor has `isa`.
pub(super) fn kernel_f32(isa: Isa) -> Kernel<f32> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => Kernel {
            rows: 14,
            cols: 32,
            rows_run: x86::f32_avx512::<ROW_PITCH, 1>,
            columns_run: x86::f32_avx512::<1, 14>,
        },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Kernel {
            rows: 6,
            cols: 16,
            rows_run: x86::f32_avx2::<ROW_PITCH, 1>,
            columns_run: x86::f32_avx2::<1, 6>,
        },
        _ => Kernel {
            rows: 4,
            cols: 8,
            rows_run: portable::<f32, 4, 8, ROW_PITCH, 1>,
            columns_run: portable::<f32, 4, 8, 1, 4>,
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
            rows_run: x86::f64_avx512::<ROW_PITCH, 1>,
            columns_run: x86::f64_avx512::<1, 8>,
        },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Kernel {
            rows: 4,
            cols: 8,
            rows_run: x86::f64_avx2::<ROW_PITCH, 1>,
            columns_run: x86::f64_avx2::<1, 4>,
        },
        _ => Kernel {
            rows: 4,
            cols: 8,
            rows_run: portable::<f64, 4, 8, ROW_PITCH, 1>,
            columns_run: portable::<f64, 4, 8, 1, 4>,
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
