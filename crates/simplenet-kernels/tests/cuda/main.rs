//! The kernels on a GPU against their references on the processor. Without a GPU they say that they are skipped; with
//! `SIMPLENET_REQUIRE_GPU=1` that is a failure.

#[path = "../gpu/mod.rs"]
mod gpu;
mod network;
mod ops;
mod patch;
mod small;
mod support;
