//! Plain Rust that the compiler vectorises on every target (SSE2 on x86-64, NEON on aarch64).
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every function here is one operation or one kernel body: its contract is that of `Lanes`"
)]

use super::depthwise::{self, DepthwiseRow};
use super::kernels::{Kernels, dense_table};
use super::lanes::Lanes;
use super::pool::{self, PoolRow};
use super::tile::{self, Tile, TileFn};
use super::winograd::{self, GatherRow, TransformRow, WinogradKernels};

pub(super) struct Portable;

/// Eight lanes are two registers of 128 bits.
type Eight = [f32; 8];

#[inline(always)]
fn zip(a: Eight, b: Eight, operation: impl Fn(f32, f32) -> f32) -> Eight {
    std::array::from_fn(|lane| operation(a[lane], b[lane]))
}

impl Lanes for Portable {
    type Element = f32;
    type Vector = Eight;
    type Operand = Eight;
    const LANES: usize = 8;
    const STEP: usize = 1;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Eight {
        [value; 8]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Eight {
        from.cast::<Eight>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn widen(from: *const f32) -> Eight {
        Self::load(from)
    }
    #[inline(always)]
    unsafe fn store_sums(to: *mut f32, value: Eight) {
        Self::store(to, value)
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: Eight) {
        to.cast::<Eight>().write_unaligned(value)
    }
    #[inline(always)]
    unsafe fn add(a: Eight, b: Eight) -> Eight {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn subtract(a: Eight, b: Eight) -> Eight {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn multiply_add(a: Eight, b: Eight, sum: Eight) -> Eight {
        // Without a fused instruction `mul_add` would be a call into the C library for every lane.
        if cfg!(target_arch = "aarch64") {
            std::array::from_fn(|lane| a[lane].mul_add(b[lane], sum[lane]))
        } else {
            std::array::from_fn(|lane| a[lane] * b[lane] + sum[lane])
        }
    }
    #[inline(always)]
    unsafe fn clamp(value: Eight, low: Eight, high: Eight) -> Eight {
        let raised = zip(value, low, |value, low| if value < low { low } else { value });
        zip(raised, high, |value, high| if value > high { high } else { value })
    }
    #[inline(always)]
    unsafe fn maximum(a: Eight, b: Eight) -> Eight {
        zip(a, b, |a, b| if a >= b || a.is_nan() { a } else { b })
    }
    #[inline(always)]
    unsafe fn prefetch(_from: *const f32) {}
    #[inline(always)]
    unsafe fn weights(from: *const f32) -> Eight {
        Self::load(from)
    }
    #[inline(always)]
    unsafe fn repeat(from: *const f32) -> Eight {
        [*from; 8]
    }
    #[inline(always)]
    unsafe fn dot(activations: Eight, weights: Eight, sum: Eight) -> Eight {
        Self::multiply_add(activations, weights, sum)
    }
}

const DENSE: &[&[TileFn<f32>]] = dense_table!(dense; 1: 1 2 3 4 5 6);

pub(super) static KERNELS: Kernels<f32> = Kernels {
    lanes: Portable::LANES,
    step: Portable::STEP,
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

unsafe fn dense<const V: usize, const P: usize>(tile: &Tile<'_, f32>) {
    tile::dense::<Portable, V, P>(tile)
}

unsafe fn depthwise(row: &DepthwiseRow<f32>) {
    depthwise::depthwise::<Portable>(row)
}

unsafe fn max_pool(row: &PoolRow<f32>) {
    pool::max_pool::<Portable>(row)
}

unsafe fn transform(row: &TransformRow<f32>) {
    winograd::transform::<Portable>(row)
}

unsafe fn gather(row: &GatherRow<f32>) {
    winograd::gather::<Portable>(row)
}
