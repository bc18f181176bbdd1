//! The emulator of `kernels/emu` itself: kernels that have one mistake each, in several orders of warps and lanes, with arrays
//! that end at pages that must not be touched. The real kernels run on it in `tests/cuda`, by way of an emulated driver.
#![expect(unsafe_code, reason = "kernels are called through C; each with its SAFETY comment")]

use simplenet_kernels as _; // brings the emulator

mod faults;
mod harness;
