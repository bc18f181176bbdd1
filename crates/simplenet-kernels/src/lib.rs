//! Tensor to tensor: the arithmetic that everything above stands on. No model, no files; gradients only of the discriminator's
//! hidden layer and loss.
//!
//! A [`graph::Graph`] is a convolution network as data. [`engine::Engine`] compiles it for the processor;
//! [`candle_graph`] runs it through candle, which is the reference and the way to other devices; [`candle_ops`] are the
//! kernels, and the steps of a training, for programs written with candle. [`patch`] turns feature
//! maps into patch rows, [`gemm()`](gemm::gemm) multiplies matrices, [`noise`] draws the project's random numbers and
//! [`maps`] turns patch scores into anomaly maps; [`adam`] is the optimiser. [`isa::Isa`] is the instruction set that all of
//! them use, chosen once at run time (`SIMPLENET_ISA` forces one).
//!
//! Every kernel stands beside a slow, plain reference it is tested against, and gives the same bytes for any number of
//! threads: however work is shared out, how a sum is made depends on sizes alone. On a GPU (feature `cuda`) the sums of
//! convolutions on matrix units are split by the number of its processors: the same bytes every time, and others on another
//! model.
//!
//! ```
//! use simplenet_kernels::gemm::{Accumulate, MatMut, MatRef, gemm};
//!
//! let (a, b) = ([1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0_f32, 0.0, 2.0]);
//! let mut c = [0.0_f32; 2];
//! gemm(MatRef::new(&a, 2, 3)?, MatRef::new(&b, 3, 1)?, MatMut::new(&mut c, 2, 1)?, Accumulate::Overwrite)?;
//! assert_eq!(c, [7.0, 16.0]);
//! # Ok::<(), simplenet_kernels::gemm::GemmError>(())
//! ```
#![expect(
    unsafe_code,
    reason = "SIMD intrinsics and disjoint writes from threads; each with its SAFETY comment"
)]

pub mod adam;
#[cfg(target_arch = "x86_64")]
mod amx;
pub mod candle_graph;
pub mod candle_ops;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod engine;
pub mod gemm;
pub mod graph;
pub mod isa;
pub mod maps;
pub mod noise;
pub mod patch;
pub mod patch_candle;
pub mod peak;
mod rounding;
mod vectors;
