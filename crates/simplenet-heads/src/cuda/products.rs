//! Of what type the factors of a step's matrix products are.

use simplenet_kernels::cuda::bf16;
use simplenet_kernels::cuda::{Factor, Span};

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
