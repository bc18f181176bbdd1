//! Random numbers that are a function of their place: the same for any number of threads, on any processor.
//!
//! A [`NoiseKey`] names an infinite sequence of standard normals; [`fill_normal`] writes any stretch of it, so two
//! threads that fill two halves write what one would. [`Philox`] draws from a key one number after the other, for
//! shuffles and initial weights. Both stand on Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
//! 1, 2, 3", SC 2011). One key serves one purpose: the normals and the draws of the same key use the same words.
//!
//! ```
//! use simplenet_kernels::noise::{NoiseKey, Philox, fill_normal};
//!
//! let key = NoiseKey { seed: 7, stream: 1 };
//! let mut whole = [0.0; 100];
//! fill_normal(&mut whole, key, 0, 0.015);
//! let mut half = [0.0; 50];
//! fill_normal(&mut half, key, 50, 0.015);
//! assert_eq!(whole[50..], half);
//!
//! let mut order = [0, 1, 2, 3, 4];
//! Philox::new(NoiseKey { seed: 7, stream: 2 }).shuffle(&mut order);
//! assert_eq!(order.iter().sum::<i32>(), 10);
//! ```
//!
//! # Which word makes which normal
//!
//! For element `e` of key (seed, stream), as any other implementation must have it:
//! - block `b = 16 (e / 64) + e % 16`, lane `l = (e % 64) / 16`: 64 neighbours come from 16 blocks, lane by lane, so that
//!   16 blocks in vector registers are written without a transpose;
//! - words `w = philox4x32_10(counter = [b low, b high, stream low, stream high], key = [seed low, seed high])`;
//! - the pair `(w[0], w[1])` makes lanes 0 (cosine) and 1 (sine), the pair `(w[2], w[3])` lanes 2 and 3, by the formula
//!   of Box and Muller: `sqrt(-2 ln u) cos t`, with `u = (f32(first) + 0.5) / 2^32` and `t = 2 pi second / 2^32`.
//!
//! The logarithm, sine and cosine are polynomials in f32 without fused operations, so every processor gives the same
//! bits. The largest normal is 6.76, which one in 7e10 exceeds.

mod normal;
mod philox;

use thiserror::Error;

pub use self::philox::{Philox, permutation, philox4x32_10};
use crate::isa::{Isa, IsaError};

/// The name of a sequence of random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NoiseKey {
    /// What the user chose: the seed of the experiment.
    pub seed: u64,
    /// Which sequence of that seed: one for each purpose and step.
    pub stream: u64,
}

/// Noise that cannot be made.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoiseError {
    /// Source and target differ in length.
    #[error("noise for {source_len} elements cannot go to {target_len}")]
    Length {
        /// Elements of the source.
        source_len: usize,
        /// Elements of the target.
        target_len: usize,
    },
    /// No such instruction set here.
    #[error(transparent)]
    Isa(#[from] IsaError),
}

/// Element `element` of the standard normals of `key`: what [`fill_normal`] writes with `sigma` 1.
pub fn normal(key: NoiseKey, element: u64) -> f32 {
    let mut one = [0.0];
    normal::fill(Isa::Portable, &mut one, None, key, element, 1.0);
    one[0]
}

/// Sets `out[i]` to `sigma` times element `first + i` of the standard normals of `key`.
///
/// One thread does the work; several may fill parts of one slice, each with its own `first`. The sequence has 2^64
/// elements and begins again after them.
pub fn fill_normal(out: &mut [f32], key: NoiseKey, first: u64, sigma: f32) {
    normal::fill(fastest(), out, None, key, first, sigma);
}

/// [`fill_normal`] with the instruction set named; the bytes are the same.
///
/// # Errors
/// [`NoiseError::Isa`] where this processor lacks `isa`.
pub fn fill_normal_with(isa: Isa, out: &mut [f32], key: NoiseKey, first: u64, sigma: f32) -> Result<(), NoiseError> {
    let supported = Isa::supported();
    if !supported.contains(&isa) {
        let best = supported.last().copied().unwrap_or(Isa::Portable);
        return Err(IsaError::Unsupported { asked: isa, best }.into());
    }
    normal::fill(isa, out, None, key, first, sigma);
    Ok(())
}

/// Sets `out[i]` to `source[i]` plus what [`fill_normal`] would write there: the noise is never stored.
///
/// # Errors
/// [`NoiseError::Length`] where the slices differ in length.
pub fn add_normal(out: &mut [f32], source: &[f32], key: NoiseKey, first: u64, sigma: f32) -> Result<(), NoiseError> {
    if out.len() != source.len() {
        return Err(NoiseError::Length {
            source_len: source.len(),
            target_len: out.len(),
        });
    }
    normal::fill(fastest(), out, Some(source), key, first, sigma);
    Ok(())
}

/// The instruction set to use. A wrong `SIMPLENET_ISA` is reported where it changes numbers; here it changes none.
fn fastest() -> Isa {
    Isa::detect().unwrap_or(Isa::Portable)
}
