//! PatchCore as its paper writes it, slow and plain, and the data that the tests share.

use simplenet_heads::patchcore::{Coreset, Distance, PatchCoreConfig, Reweight, Sampler, Scoring};

use crate::reference::floats;

/// Multiples of 1/64 around `center`. Far from the origin a distance that comes out of norms and products has no digit
/// right, but the differences are still exact.
pub(crate) fn exact(count: usize, center: f32, seed: u64) -> Vec<f32> {
    floats(count, seed)
        .into_iter()
        .map(|x| center + (x * 64.0).round() / 64.0)
        .collect()
}

pub(crate) fn squared(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
        .sum()
}

pub(crate) fn row(rows: &[f32], dim: usize, index: usize) -> &[f32] {
    &rows[index * dim..(index + 1) * dim]
}

/// Index of the largest value, the first of equal ones.
pub(crate) fn largest(values: &[f64]) -> usize {
    (1..values.len()).fold(0, |best, index| if values[index] > values[best] { index } else { best })
}

/// Greedy k-centre as the papers write it, one centre and all points at a time.
pub(crate) fn plain_greedy(points: &[f32], dim: usize, mut bounds: Vec<f64>, count: usize) -> Vec<usize> {
    let mut chosen = Vec::new();
    while chosen.len() < count && bounds.iter().any(|&bound| bound > 0.0) {
        let center = largest(&bounds);
        chosen.push(center);
        for (point, bound) in bounds.iter_mut().enumerate() {
            *bound = bound.min(squared(row(points, dim, point), row(points, dim, center)));
        }
    }
    chosen
}

/// All distances, sorted.
pub(crate) fn plain_nearest(vectors: &[f32], dim: usize, query: &[f32], wanted: usize) -> Vec<(usize, f64)> {
    let mut all: Vec<(usize, f64)> = vectors
        .chunks_exact(dim)
        .map(|x| squared(query, x))
        .enumerate()
        .collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    all.truncate(wanted);
    all
}

pub(crate) fn config(fraction: f64, sampler: Sampler) -> PatchCoreConfig {
    PatchCoreConfig {
        coreset: Coreset {
            fraction,
            sampler,
            projection: 128,
        },
        scoring: Scoring {
            nearest: 1,
            distance: Distance::Euclidean,
            reweight: Reweight::Paper { neighbours: 3 },
        },
    }
}

pub(crate) const APPROXIMATE: Sampler = Sampler::ApproximateGreedy { starting_points: 10 };
