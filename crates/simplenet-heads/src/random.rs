//! Which random numbers go where: everything random is a function of the seed and of its own place, so nothing depends
//! on the order or the number of threads.

use rayon::prelude::*;
use simplenet_kernels::noise::{self, NoiseKey, Philox, fill_normal};

use crate::scalar::Scalar;

/// What a stream of random numbers is for; the top byte of its number.
#[derive(Clone, Copy)]
enum Purpose {
    Weights = 1,
    Order = 2,
    Noise = 3,
    Projection = 4,
    StartingPoints = 5,
    Channels = 6,
    Sample = 7,
}

/// The top byte of the noise's streams, for those who count steps elsewhere.
#[cfg(feature = "cuda")]
pub(crate) const NOISE_PURPOSE: u8 = Purpose::Noise as u8;

/// Elements that one task fills. Bytes do not depend on it: every element has its own counter.
const ELEMENTS_PER_TASK: usize = 1 << 14;

fn key(seed: u64, purpose: Purpose, index: u64) -> NoiseKey {
    let stream = (purpose as u64) << 56 | index;
    NoiseKey { seed, stream }
}

/// The anomalous feature generator's noise (Eq. 6) for one step of a training: N(0, sigma²) by (seed, step, element).
pub fn fill_noise(out: &mut [f32], seed: u64, step: u64, sigma: f32) {
    let key = key(seed, Purpose::Noise, step);
    out.par_chunks_mut(ELEMENTS_PER_TASK)
        .enumerate()
        .for_each(|(task, out)| fill_normal(out, key, (task * ELEMENTS_PER_TASK) as u64, sigma));
}

/// The order in which an epoch sees the images.
pub(crate) fn permutation(images: usize, seed: u64, epoch: u64) -> Vec<usize> {
    noise::permutation(images, key(seed, Purpose::Order, epoch))
}

/// Normal weights of tensor `index`.
pub(crate) fn fill_weights<T: Scalar>(out: &mut [T], seed: u64, index: usize, sigma: f64) {
    let mut normals = vec![0.0_f32; out.len()];
    fill_normal(&mut normals, key(seed, Purpose::Weights, index as u64), 0, sigma as f32);
    for (out, normal) in out.iter_mut().zip(normals) {
        *out = T::from_f32(normal);
    }
}

/// Biases of tensor `index`, uniform in [−bound, bound).
pub(crate) fn fill_biases<T: Scalar>(out: &mut [T], seed: u64, index: usize, bound: f64) {
    let mut generator = Philox::new(key(seed, Purpose::Weights, index as u64));
    for out in out {
        *out = T::from_f32(((2.0 * generator.uniform_f64() - 1.0) * bound) as f32);
    }
}

/// A matrix of `len` normals, to project features with.
pub(crate) fn projection(len: usize, seed: u64, sigma: f64) -> Vec<f32> {
    let mut matrix = vec![0.0; len];
    fill_normal(&mut matrix, key(seed, Purpose::Projection, 0), 0, sigma as f32);
    matrix
}

/// Different numbers below `below`, `count` of them or all, in random order.
pub(crate) fn distinct(count: usize, below: usize, seed: u64) -> Vec<usize> {
    let mut order = noise::permutation(below, key(seed, Purpose::StartingPoints, 0));
    order.truncate(count);
    order
}

/// `count` of `dim` channels, or all, in rising order.
pub(crate) fn channels(count: usize, dim: usize, seed: u64) -> Vec<usize> {
    let mut channels = noise::permutation(dim, key(seed, Purpose::Channels, 0));
    channels.truncate(count);
    channels.sort_unstable();
    channels
}

/// `count` of the `rows` of image `image`, or all, in rising order; every image has its own choice.
pub(crate) fn sample(count: usize, rows: usize, seed: u64, image: usize) -> Vec<usize> {
    let mut chosen = noise::permutation(rows, key(seed, Purpose::Sample, image as u64));
    chosen.truncate(count);
    chosen.sort_unstable();
    chosen
}
