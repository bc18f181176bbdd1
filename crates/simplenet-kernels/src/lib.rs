//! Tensor to tensor: the arithmetic that everything above stands on.
#![expect(
    unsafe_code,
    reason = "SIMD intrinsics and disjoint writes from threads; each with its SAFETY comment"
)]

pub mod candle_graph;
pub mod engine;
pub mod gemm;
pub mod graph;
pub mod isa;
pub mod maps;
pub mod noise;
pub mod patch;
pub mod patch_candle;
