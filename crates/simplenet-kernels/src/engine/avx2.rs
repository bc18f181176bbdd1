//! AVX2 with FMA: 8 lanes of f32, 16 registers.
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

pub(super) struct Avx2;

impl Lanes for Avx2 {
    type Element = f32;
    type Vector = __m256;
    type Operand = __m256;
    const LANES: usize = 8;
    const STEP: usize = 1;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        _mm256_set1_ps(value)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        _mm256_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn widen(from: *const f32) -> __m256 {
        _mm256_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn store_sums(to: *mut f32, value: __m256) {
        Self::store(to, value)
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m256) {
        _mm256_storeu_ps(to, value)
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        _mm256_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn subtract(a: __m256, b: __m256) -> __m256 {
        _mm256_sub_ps(a, b)
    }
    #[inline(always)]
    unsafe fn multiply_add(a: __m256, b: __m256, sum: __m256) -> __m256 {
        _mm256_fmadd_ps(a, b, sum)
    }
    #[inline(always)]
    unsafe fn clamp(value: __m256, low: __m256, high: __m256) -> __m256 {
        // The instructions return their second operand where either is not a number.
        _mm256_min_ps(high, _mm256_max_ps(low, value))
    }
    #[inline(always)]
    unsafe fn maximum(a: __m256, b: __m256) -> __m256 {
        let a_is_nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a);
        _mm256_blendv_ps(_mm256_max_ps(a, b), a, a_is_nan)
    }
    #[inline(always)]
    unsafe fn prefetch(from: *const f32) {
        _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }
    #[inline(always)]
    unsafe fn weights(from: *const f32) -> __m256 {
        _mm256_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn repeat(from: *const f32) -> __m256 {
        _mm256_set1_ps(*from)
    }
    #[inline(always)]
    unsafe fn dot(activations: __m256, weights: __m256, sum: __m256) -> __m256 {
        _mm256_fmadd_ps(activations, weights, sum)
    }
}

const DENSE: &[&[TileFn<f32>]] = dense_table!(dense; 1: 1 2 3 4 5 6, 2: 1 2 3 4 5 6);

pub(super) static KERNELS: Kernels<f32> = Kernels {
    lanes: Avx2::LANES,
    step: Avx2::STEP,
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

#[target_feature(enable = "avx2,fma")]
unsafe fn dense<const V: usize, const P: usize>(tile: &Tile<'_, f32>) {
    tile::dense::<Avx2, V, P>(tile)
}

#[target_feature(enable = "avx2,fma")]
unsafe fn depthwise(row: &DepthwiseRow<f32>) {
    depthwise::depthwise::<Avx2>(row)
}

#[target_feature(enable = "avx2,fma")]
unsafe fn max_pool(row: &PoolRow<f32>) {
    pool::max_pool::<Avx2>(row)
}

#[target_feature(enable = "avx2,fma")]
unsafe fn transform(row: &TransformRow<f32>) {
    winograd::transform::<Avx2>(row)
}

#[target_feature(enable = "avx2,fma")]
unsafe fn gather(row: &GatherRow<f32>) {
    winograd::gather::<Avx2>(row)
}
