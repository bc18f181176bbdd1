//! Products of factors that are rounded to bf16 while they are packed, on the instructions that multiply bf16. Sums are f32.
//!
//! Both instructions take two neighbouring terms of the reduction at once. A panel of A lies in rows of k, `[rows][pitch]`;
//! a panel of B in pairs of k, `[k / 2][columns][2]`: what AVX-512 broadcasts and loads, and at the same time what AMX's
//! tiles hold. Whichever way a source lies, one of the two factors is transposed in pairs: sixteen vectors at a time.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "a kernel body is unsafe as a whole: its contract is that of `Run`, `PackLeft` and `PackRight`"
)]

use std::arch::x86_64::*;
use std::mem::transmute;
use std::ops::Range;

use half::bf16;

use super::MatRef;
use super::kernel::{Blocking, Kernel, Run};
use crate::amx::{self, Factors, SumsAt};
use crate::isa::Isa;

/// Columns of both kernels: two vectors.
const COLS: usize = 32;

/// Rows of the vector kernel: 28 of 32 registers hold sums.
const ROWS: usize = 14;

/// Rows of the tile kernel: two tiles.
const TILE_ROWS: usize = 32;

/// Terms that stand in one row of a tile, and pairs of which make one square to transpose.
const CHUNK: usize = 32;

/// Vectors of a square of pairs.
const LANES: usize = 16;

/// Twice the terms of the f32 kernels, for half the bytes.
const BLOCKING: Blocking = Blocking {
    k_block: 768,
    k_step: CHUNK,
    row_pitch: 768 + 32,
};

/// Where the chunks of a row begin.
const PIECES: [usize; BLOCKING.k_block / CHUNK] = {
    let mut pieces = [0; BLOCKING.k_block / CHUNK];
    let mut piece = 0;
    while piece < pieces.len() {
        pieces[piece] = piece * CHUNK;
        piece += 1;
    }
    pieces
};

/// The caller has checked that this processor has `isa`, which is [`Isa::Avx512Bf16`] or [`Isa::Amx`].
pub(super) fn kernel(isa: Isa) -> Kernel<f32, bf16> {
    let (rows, run): (usize, Run<f32, bf16>) = match isa {
        Isa::Amx => (TILE_ROWS, tiles),
        _ => (ROWS, vectors),
    };
    Kernel {
        rows,
        cols: COLS,
        blocking: BLOCKING,
        rows_run: run,
        columns_run: run,
        pack_left,
        pack_right,
        around: (isa == Isa::Amx).then_some([set_up, amx::release]),
    }
}

/// # Safety
/// This processor has AMX.
unsafe fn set_up() {
    amx::configure([amx::ROWS; 2]);
}

/// 14 rows × 32 columns in registers.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn vectors(k: usize, a: *const bf16, b: *const bf16, c: *mut f32, c_row_stride: usize, add: bool) {
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    // The tile is needed at the end only; by then it has come.
    for i in 0..ROWS {
        _mm_prefetch::<_MM_HINT_ET0>(c.add(i * c_row_stride).cast());
        _mm_prefetch::<_MM_HINT_ET0>(c.add(i * c_row_stride + COLS - 1).cast());
    }
    for pair in 0..k / 2 {
        let right = b.add(pair * 2 * COLS);
        let right = [load(right), load(right.add(2 * LANES))];
        for (i, row) in sums.iter_mut().enumerate() {
            let left = a.add(i * BLOCKING.row_pitch + 2 * pair).cast::<i32>();
            let left = transmute::<__m512i, __m512bh>(_mm512_set1_epi32(left.read_unaligned()));
            row[0] = _mm512_dpbf16_ps(row[0], left, right[0]);
            row[1] = _mm512_dpbf16_ps(row[1], left, right[1]);
        }
    }
    for (i, row) in sums.iter().enumerate() {
        for (j, &sum) in row.iter().enumerate() {
            store(c.add(i * c_row_stride + j * LANES), sum, add);
        }
    }
}

/// 32 rows × 32 columns in tiles, which are set up for them. They begin with what is added to, and go where it lies.
unsafe fn tiles(k: usize, a: *const bf16, b: *const bf16, c: *mut f32, c_row_stride: usize, add: bool) {
    let sums = SumsAt {
        at: c,
        pitch: c_row_stride,
    };
    if add {
        amx::load::<2>(sums);
    } else {
        amx::zero::<2>();
    }
    let factors = Factors {
        left: [a, a.add(amx::ROWS * BLOCKING.row_pitch)],
        left_pitch: BLOCKING.row_pitch,
        pieces: &PIECES[..k.div_ceil(CHUNK)],
        right: [b, b.add(2 * LANES)],
        right_pitch: 2 * COLS,
    };
    amx::multiply_add::<2, false, false>(&factors, std::ptr::null());
    amx::store::<2>(sums);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn load(from: *const bf16) -> __m512bh {
    transmute::<__m512i, __m512bh>(_mm512_loadu_si512(from.cast()))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn store(to: *mut f32, sum: __m512, add: bool) {
    let sum = if add {
        _mm512_add_ps(_mm512_loadu_ps(to), sum)
    } else {
        sum
    };
    _mm512_storeu_ps(to, sum);
}

/// Rounds rows `rows` and columns `ks` of `a` into panels of `height` rows, one after the other. Rows that the last panel
/// lacks become zero, and so do terms up to a whole chunk.
///
/// # Safety
/// As [`super::pack::pack_left`], on AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn pack_left(a: &MatRef<'_, f32>, rows: Range<usize>, ks: Range<usize>, height: usize, out: *mut bf16) {
    let pitch = BLOCKING.row_pitch;
    let place = |row: usize| out.add(row * pitch);
    let terms = ks.len().next_multiple_of(CHUNK);
    for row in rows.len()..rows.len().next_multiple_of(height) {
        std::slice::from_raw_parts_mut(place(row), terms).fill(bf16::ZERO);
    }
    let (down, across) = (a.row_stride(), a.col_stride());
    let source = a.as_ptr().add(rows.start * down + ks.start * across);
    for chunk in (0..ks.len()).step_by(CHUNK) {
        let count = CHUNK.min(ks.len() - chunk);
        if across == 1 {
            for row in 0..rows.len() {
                let pairs = along(source.add(row * down + chunk), count);
                _mm512_storeu_si512(place(row).add(chunk).cast(), pairs);
            }
            continue;
        }
        for first in (0..rows.len()).step_by(LANES) {
            let height = LANES.min(rows.len() - first);
            let square = transpose(beside(
                source.add(first * down + chunk * across),
                count,
                across,
                height,
                down,
            ));
            for (row, &pairs) in square.iter().enumerate().take(height) {
                _mm512_storeu_si512(place(first + row).add(chunk).cast(), pairs);
            }
        }
    }
}

/// Rounds rows `ks` of some columns of `b` as `[k / 2][width][2]`, with zeros for the columns that are missing at the end and
/// for terms up to a whole chunk. `ks` is at most a chunk long.
///
/// # Safety
/// As [`super::pack::pack_right`], on AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn pack_right(b: &MatRef<'_, f32>, ks: Range<usize>, columns: Range<usize>, width: usize, out: *mut bf16) {
    let (down, across) = (b.row_stride(), b.col_stride());
    let source = b.as_ptr().add(ks.start * down + columns.start * across);
    for first in (0..width).step_by(LANES) {
        let count = LANES.min(columns.len().saturating_sub(first));
        let source = source.wrapping_add(first * across);
        let square = if down == 1 {
            let mut square = [_mm512_setzero_si512(); LANES];
            for (column, pairs) in square.iter_mut().enumerate().take(count) {
                *pairs = along(source.add(column * across), ks.len());
            }
            transpose(square)
        } else {
            beside(source, ks.len(), down, count, across)
        };
        for (pair, &pairs) in square.iter().enumerate() {
            _mm512_storeu_si512(out.add((pair * width + first) * 2).cast(), pairs);
        }
    }
}

/// `count` contiguous values as 16 pairs, zeros behind them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn along(from: *const f32, count: usize) -> __m512i {
    let low = _mm512_maskz_loadu_ps(mask(count), from);
    let high = _mm512_maskz_loadu_ps(mask(count.saturating_sub(LANES)), from.wrapping_add(LANES));
    transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
}

/// `lines` lines, `line_stride` apart, of `count` values, `stride` apart (at most 32 and 16): vector `i` holds the pairs
/// of lines `2i` and `2i + 1`. What is missing is zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn beside(from: *const f32, lines: usize, line_stride: usize, count: usize, stride: usize) -> [__m512i; LANES] {
    let line = |index: usize| {
        if index >= lines {
            return _mm512_setzero_si512();
        }
        let from = from.wrapping_add(index * line_stride);
        let values = if stride == 1 {
            _mm512_maskz_loadu_ps(mask(count), from)
        } else {
            let mut values = [0.0_f32; LANES];
            for (index, value) in values.iter_mut().enumerate().take(count) {
                *value = *from.add(index * stride);
            }
            _mm512_loadu_ps(values.as_ptr())
        };
        _mm512_cvtepu16_epi32(transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values)))
    };
    let mut square = [_mm512_setzero_si512(); LANES];
    for (pair, pairs) in square.iter_mut().enumerate() {
        *pairs = _mm512_or_si512(line(2 * pair), _mm512_slli_epi32::<16>(line(2 * pair + 1)));
    }
    square
}

/// The first `count` of 16 lanes.
#[inline(always)]
fn mask(count: usize) -> __mmask16 {
    if count >= LANES { !0 } else { (1 << count) - 1 }
}

/// Rows to columns of 16 × 16 pairs: within quarters by unpacking words and pairs of words, then the quarters themselves.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn transpose(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let mut words = rows;
    for i in 0..8 {
        words[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        words[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    // quads[4 g + c] holds, in its quarter q, column 4 q + c of rows 4 g to 4 g + 3.
    let mut quads = words;
    for g in 0..4 {
        quads[4 * g] = _mm512_unpacklo_epi64(words[4 * g], words[4 * g + 2]);
        quads[4 * g + 1] = _mm512_unpackhi_epi64(words[4 * g], words[4 * g + 2]);
        quads[4 * g + 2] = _mm512_unpacklo_epi64(words[4 * g + 1], words[4 * g + 3]);
        quads[4 * g + 3] = _mm512_unpackhi_epi64(words[4 * g + 1], words[4 * g + 3]);
    }
    let mut columns = quads;
    for c in 0..4 {
        let (low, high) = ((quads[c], quads[4 + c]), (quads[8 + c], quads[12 + c]));
        // Quarters 0 and 2, then 1 and 3, of the first two groups of rows and of the last two.
        let even = (
            _mm512_shuffle_i32x4::<0b10_00_10_00>(low.0, low.1),
            _mm512_shuffle_i32x4::<0b10_00_10_00>(high.0, high.1),
        );
        let odd = (
            _mm512_shuffle_i32x4::<0b11_01_11_01>(low.0, low.1),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(high.0, high.1),
        );
        columns[c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(even.0, even.1);
        columns[8 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(even.0, even.1);
        columns[4 + c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(odd.0, odd.1);
        columns[12 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(odd.0, odd.1);
    }
    columns
}
