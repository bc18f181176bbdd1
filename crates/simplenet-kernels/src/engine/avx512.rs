//! AVX-512: 16 lanes of f32, 32 registers.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every function here is one instruction or one kernel body: its contract is that of `Lanes`"
)]

use std::arch::x86_64::*;

use super::depthwise::{self, DepthwiseRow};
use super::kernels::{Kernels, dense_table};
use super::lanes::Lanes;
use super::pool::{self, PoolRow};
use super::tile::{self, Tile, TileFn};
use super::winograd::{self, GatherRow, TransformRow, WinogradKernels};

pub(super) struct Avx512;

impl Lanes for Avx512 {
    type Element = f32;
    type Vector = __m512;
    type Operand = __m512;
    const LANES: usize = 16;
    const STEP: usize = 1;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        _mm512_set1_ps(value)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        _mm512_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn widen(from: *const f32) -> __m512 {
        _mm512_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn store_sums(to: *mut f32, value: __m512) {
        Self::store(to, value)
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m512) {
        _mm512_storeu_ps(to, value)
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn subtract(a: __m512, b: __m512) -> __m512 {
        _mm512_sub_ps(a, b)
    }
    #[inline(always)]
    unsafe fn multiply_add(a: __m512, b: __m512, sum: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, sum)
    }
    #[inline(always)]
    unsafe fn clamp(value: __m512, low: __m512, high: __m512) -> __m512 {
        // The instructions return their second operand where either is not a number.
        _mm512_min_ps(high, _mm512_max_ps(low, value))
    }
    #[inline(always)]
    unsafe fn maximum(a: __m512, b: __m512) -> __m512 {
        let a_is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
        _mm512_mask_mov_ps(_mm512_max_ps(a, b), a_is_nan, a)
    }
    #[inline(always)]
    unsafe fn prefetch(from: *const f32) {
        _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }
    #[inline(always)]
    unsafe fn weights(from: *const f32) -> __m512 {
        _mm512_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn repeat(from: *const f32) -> __m512 {
        _mm512_set1_ps(*from)
    }
    #[inline(always)]
    unsafe fn dot(activations: __m512, weights: __m512, sum: __m512) -> __m512 {
        _mm512_fmadd_ps(activations, weights, sum)
    }
}

const DENSE: &[&[TileFn<f32>]] =
    dense_table!(dense; 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14, 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14, 3: 1 2 3 4 5 6 7 8 9);

pub(super) static KERNELS: Kernels<f32> = Kernels {
    lanes: Avx512::LANES,
    step: Avx512::STEP,
    dense: DENSE,
    panel: None,
    depthwise,
    max_pool,
    winograd: Some(WinogradKernels {
        transform,
        products: DENSE,
        gather,
    }),
};

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn dense<const V: usize, const P: usize>(tile: &Tile<'_, f32>) {
    tile::dense::<Avx512, V, P>(tile)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn depthwise(row: &DepthwiseRow<f32>) {
    depthwise::depthwise::<Avx512>(row)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn max_pool(row: &PoolRow<f32>) {
    pool::max_pool::<Avx512>(row)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn transform(row: &TransformRow<f32>) {
    winograd::transform::<Avx512>(row)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn gather(row: &GatherRow<f32>) {
    winograd::gather::<Avx512>(row)
}
