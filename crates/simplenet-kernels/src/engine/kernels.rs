//! The kernels of one instruction set, chosen once when an engine is compiled.

use half::bf16;

use super::depthwise::DepthwiseRow;
use super::panel::PanelKernel;
use super::pool::PoolRow;
use super::tile::TileFn;
use super::winograd::WinogradKernels;
use super::{Precision, portable};
#[cfg(target_arch = "x86_64")]
use super::{amx, avx2, avx512, avx512_bf16};
use crate::isa::Isa;

/// Function pointers of one instruction set on one element type.
pub(super) struct Kernels<T: 'static> {
    /// Channels in a vector.
    pub(super) lanes: usize,
    /// Terms of the reduction in a step.
    pub(super) step: usize,
    /// `dense[vectors - 1][pixels - 1]`.
    pub(super) dense: &'static [&'static [TileFn<T>]],
    /// What takes their place where the processor multiplies matrices.
    pub(super) panel: Option<PanelKernel<T>>,
    pub(super) depthwise: unsafe fn(&DepthwiseRow<T>),
    pub(super) max_pool: unsafe fn(&PoolRow<T>),
    /// Where fewer multiplications at the same precision are faster than the dense kernels.
    pub(super) winograd: Option<WinogradKernels<T>>,
}

/// Cuts `vectors` of output channels into blocks of at most `widest`: pairs, and one triple where the number is odd,
/// because a single vector has too few multiply-adds per load.
pub(super) fn blocks(vectors: usize, widest: usize) -> Vec<usize> {
    let mut left = vectors;
    let mut blocks = Vec::new();
    while left > 0 {
        let wanted = if left == 3 { 3 } else { 2 };
        let block = wanted.min(left).min(widest);
        blocks.push(block);
        left -= block;
    }
    blocks
}

/// The table of dense kernels of an instruction set: `dense_table!(function; vectors: pixels ..., ...)`, or one row of
/// it, for a function of pixels alone.
macro_rules! dense_table {
    ($function:ident; $($pixels:literal)+) => {
        &[$($function::<$pixels>),+]
    };
    ($function:ident; $($vectors:literal: $($pixels:literal)+),+) => {
        &[$(&[$($function::<$vectors, $pixels>),+]),+]
    };
}
pub(super) use dense_table;

/// Kernels for a precision on an instruction set that this processor has.
pub(super) enum Chosen {
    /// Activations stored as f32. `round` emulates bf16 where there are no instructions for it: weights, image and
    /// every stored activation are rounded to the nearest bf16.
    F32 {
        kernels: &'static Kernels<f32>,
        round: bool,
    },
    /// Activations stored as bf16.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "only x86-64 has bf16 kernels")
    )]
    Bf16(&'static Kernels<bf16>),
}

impl Chosen {
    /// The caller has made sure that the processor has `isa`.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn new(precision: Precision, isa: Isa) -> Chosen {
        let kernels = match isa {
            Isa::Portable => &portable::KERNELS,
            Isa::Avx2 => &avx2::KERNELS,
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => &avx512::KERNELS,
        };
        match precision {
            Precision::Bf16 if isa == Isa::Amx => Chosen::Bf16(&amx::KERNELS),
            Precision::Bf16 if isa >= Isa::Avx512Bf16 => Chosen::Bf16(&avx512_bf16::KERNELS),
            _ => Chosen::F32 {
                kernels,
                round: precision == Precision::Bf16,
            },
        }
    }

    /// The caller has made sure that the processor has `isa`, which leaves one.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn new(precision: Precision, _isa: Isa) -> Chosen {
        Chosen::F32 {
            kernels: &portable::KERNELS,
            round: precision == Precision::Bf16,
        }
    }
}
