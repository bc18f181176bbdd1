//! The kernels on an NVIDIA GPU, each beside the CPU function that it is tested against.
//!
//! A [`Gpu`] is a device with one stream, on which everything runs in the order in which it is called; a [`Buffer`] is
//! memory of it, a [`Span`] a part of a buffer. [`network::Network`] is [`crate::engine::Engine`], [`patch`] is
//! [`crate::patch`], [`noise`] is [`crate::noise`], [`maps`] is [`crate::maps`], [`gemm()`] is [`crate::gemm::gemm`], and
//! [`hidden`] is a training step of a discriminator between its matrix products.
//!
//! Nothing here waits for the device but [`Gpu::download`] and [`Gpu::synchronize`], so a list of calls can be captured once
//! and launched again and again ([`Gpu::capture`]).
//!
//! Errors are candle's: the device is candle's, and what goes wrong on it does so in CUDA.

pub(crate) mod adam;
pub(crate) mod discriminator;
pub(crate) mod epilogue;
mod gemm;
mod gpu;
pub mod hidden;
pub mod maps;
mod module;
pub mod network;
pub mod noise;
pub mod patch;
mod products;

pub use candle_core::Error as DeviceError;
pub use half::bf16;

pub use self::gemm::{Factor, Math, Matrix, gemm};
pub use self::gpu::{Buffer, Element, Event, Gpu, LaunchGraph, Span};
pub use self::products::{Products, to_tf32};
