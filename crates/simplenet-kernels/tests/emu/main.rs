//! The CUDA kernels on the emulator of `kernels/emu`, held to the same references as the processor's code.
//!
//! Each kernel runs in several orders of warps and lanes, its arrays end at pages that must not be touched, and the
//! emulator itself is tested with kernels that have one mistake each.
#![expect(unsafe_code, reason = "kernels are called through C; each with its SAFETY comment")]

use simplenet_kernels as _; // brings the emulator

mod faults;
mod harness;
