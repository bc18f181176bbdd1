//! AVX-512 with bf16 dot products: activations and weights in bf16, two terms of the reduction per instruction, sums in
//! f32.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every function here is one instruction or one kernel body: its contract is that of `Lanes`"
)]

use std::arch::x86_64::*;
use std::mem::transmute;

use half::bf16;

use super::avx512::Avx512;
use super::depthwise::{self, DepthwiseRow};
use super::kernels::{Kernels, dense_table};
use super::lanes::Lanes;
use super::pool::{self, PoolRow};
use super::tile::{self, Tile};
use super::winograd::{self, GatherRow, TransformRow, WinogradKernels};

pub(super) struct Avx512Bf16;

impl Lanes for Avx512Bf16 {
    type Element = bf16;
    type Vector = __m512;
    type Operand = __m512bh;
    const LANES: usize = 16;
    const STEP: usize = 2;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        Avx512::splat(value)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        Avx512::load(from)
    }
    #[inline(always)]
    unsafe fn widen(from: *const bf16) -> __m512 {
        let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
    }
    #[inline(always)]
    unsafe fn store(to: *mut bf16, value: __m512) {
        // SAFETY: both are 32 bytes of plain data.
        let halves = transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(value));
        _mm256_storeu_si256(to.cast(), halves)
    }
    #[inline(always)]
    unsafe fn store_sums(to: *mut f32, value: __m512) {
        Avx512::store(to, value)
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        Avx512::add(a, b)
    }
    #[inline(always)]
    unsafe fn subtract(a: __m512, b: __m512) -> __m512 {
        Avx512::subtract(a, b)
    }
    #[inline(always)]
    unsafe fn multiply_add(a: __m512, b: __m512, sum: __m512) -> __m512 {
        Avx512::multiply_add(a, b, sum)
    }
    #[inline(always)]
    unsafe fn clamp(value: __m512, low: __m512, high: __m512) -> __m512 {
        Avx512::clamp(value, low, high)
    }
    #[inline(always)]
    unsafe fn maximum(a: __m512, b: __m512) -> __m512 {
        Avx512::maximum(a, b)
    }
    #[inline(always)]
    unsafe fn prefetch(from: *const bf16) {
        _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }
    #[inline(always)]
    unsafe fn weights(from: *const bf16) -> __m512bh {
        // SAFETY: both are 64 bytes of plain data.
        transmute::<__m512i, __m512bh>(_mm512_loadu_si512(from.cast()))
    }
    #[inline(always)]
    unsafe fn repeat(from: *const bf16) -> __m512bh {
        // SAFETY: both are 64 bytes of plain data.
        transmute::<__m512i, __m512bh>(_mm512_set1_epi32(from.cast::<i32>().read_unaligned()))
    }
    #[inline(always)]
    unsafe fn dot(activations: __m512bh, weights: __m512bh, sum: __m512) -> __m512 {
        _mm512_dpbf16_ps(sum, activations, weights)
    }
}

pub(super) const KERNELS: Kernels<bf16> = Kernels {
    lanes: Avx512Bf16::LANES,
    step: Avx512Bf16::STEP,
    dense: dense_table!(dense; 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14, 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14, 3: 1 2 3 4 5 6 7 8 9),
    panel: None,
    depthwise,
    max_pool,
    winograd: Some(WinogradKernels {
        transform,
        products: dense_table!(products; 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14, 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14, 3: 1 2 3 4 5 6 7 8 9),
        gather,
    }),
};

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn dense<const V: usize, const P: usize>(tile: &Tile<'_, bf16>) {
    tile::dense::<Avx512Bf16, V, P>(tile)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn depthwise(row: &DepthwiseRow<bf16>) {
    depthwise::depthwise::<Avx512Bf16>(row)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn max_pool(row: &PoolRow<bf16>) {
    pool::max_pool::<Avx512Bf16>(row)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn transform(row: &TransformRow<bf16>) {
    winograd::transform::<Avx512Bf16>(row)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn products<const V: usize, const P: usize>(tile: &Tile<'_, bf16, f32>) {
    tile::sums::<Avx512Bf16, V, P>(tile)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn gather(row: &GatherRow<bf16>) {
    winograd::gather::<Avx512Bf16>(row)
}
