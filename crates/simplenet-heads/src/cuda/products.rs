//! In what the matrix products of a step are computed.

use simplenet_kernels::cuda::bf16;
use simplenet_kernels::cuda::{Factor, Math, Span};

/// The arithmetic of a step's matrix products. Everything else, and the parameters themselves, is f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Products {
    /// f32 throughout, for parity.
    F32,
    /// f32 in memory, factors rounded to TF32 (10 bits of mantissa) on the matrix units.
    Tf32,
    /// Factors in bf16 (8 bits), sums in f32.
    Bf16,
}

impl Products {
    /// How products of f32 factors are computed under it: TF32 where speed is wanted.
    pub fn math(self) -> Math {
        match self {
            Products::F32 => Math::F32,
            Products::Tf32 | Products::Bf16 => Math::Tf32,
        }
    }
}

/// The type of a product's factors.
pub trait Product: Factor {
    /// Whether the factors are a copy beside the f32 values.
    const COPIES: bool;

    /// Values in this type: themselves, or their copy where there is one.
    fn of<'a>(values: Span<'a, f32>, copy: Option<Span<'a, Self>>) -> Option<Span<'a, Self>>;
}

impl Product for f32 {
    const COPIES: bool = false;

    fn of<'a>(values: Span<'a, f32>, _: Option<Span<'a, f32>>) -> Option<Span<'a, f32>> {
        Some(values)
    }
}

impl Product for bf16 {
    const COPIES: bool = true;

    fn of<'a>(_: Span<'a, f32>, copy: Option<Span<'a, bf16>>) -> Option<Span<'a, bf16>> {
        copy
    }
}
