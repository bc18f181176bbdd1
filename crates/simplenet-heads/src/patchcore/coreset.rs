//! Which rows of a bank become the memory.

use rayon::prelude::*;
use simplenet_kernels::gemm::{Accumulate, MatMut, MatRef, PackedB, gemm_packed};

use super::config::{Coreset, Sampler};
use super::distance::{squared_distance, squared_norm};
use super::greedy::greedy_k_center;
use crate::bank::Bank;
use crate::error::{Error, Result};
use crate::random;

/// The rows of `bank` that the coreset keeps, in the order in which they were taken; fewer than asked for where the bank has
/// fewer different rows.
///
/// With one seed a smaller coreset is the beginning of a larger one, except for a fraction of 1, which keeps the bank's
/// order.
///
/// Needs 4·rows·min(projection, dim) bytes, also for a bank that lies in a file, and 2·rows·kept·min(projection, dim)
/// operations: 10 % of 163,856 rows of 384 channels (bottle of MVTec AD at 224 px) take 84 MB and 4.7 seconds on two
/// cores with AVX-512 (results/mvtec-resnet18/table1.csv).
///
/// # Errors
/// [`Error::Config`] where the coreset makes no sense; [`Error::FeatureNotFinite`] where a feature is so large that its
/// square is not finite; [`Error::Gemm`] where `SIMPLENET_ISA` is wrong.
pub fn coreset_rows(bank: &Bank, coreset: &Coreset, seed: u64) -> Result<Vec<usize>> {
    coreset.check()?;
    check_squares(bank)?;
    if coreset.fraction >= 1.0 {
        return Ok((0..bank.rows()).collect());
    }
    let dim = coreset.projection.min(bank.dim());
    let mut points = if dim < bank.dim() {
        project(bank, dim, seed)?
    } else {
        let mut points = Vec::with_capacity(bank.rows() * dim);
        (0..bank.images()).for_each(|image| points.extend_from_slice(bank.image(image)));
        points
    };
    center(&mut points, dim);
    let bounds = match coreset.sampler {
        Sampler::Greedy => sums_of_squares(&points, dim),
        Sampler::ApproximateGreedy { starting_points } => {
            let starting_points = random::distinct(starting_points, bank.rows(), seed);
            squared_mean_distances(&points, dim, &starting_points)
        }
    };
    greedy_k_center(&points, dim, bounds, coreset.count(bank.rows()))
}

/// Refuses rows whose squared distances would overflow.
fn check_squares(bank: &Bank) -> Result<()> {
    // A distance can have four times the norm, and a projection a few times that.
    const LIMIT: f32 = f32::MAX / 1e4;
    let dim = bank.dim();
    let too_large = (0..bank.images()).find_map(|image| {
        let rows = bank.image(image).par_chunks_exact(dim);
        let row = rows.position_first(|row| squared_norm(row) >= LIMIT)?;
        Some((image, row))
    });
    let Some((image, row)) = too_large else {
        return Ok(());
    };
    let values = &bank.image(image)[row * dim..(row + 1) * dim];
    let magnitude = |&channel: &usize| (values[channel].abs().to_bits(), std::cmp::Reverse(channel));
    let channel = (0..dim).max_by_key(magnitude).unwrap_or(0);
    Err(Error::FeatureNotFinite {
        image,
        row,
        channel,
        value: values[channel],
    })
}

/// Rows times a Gaussian matrix with variance 1/`to`, which keeps distances on average (Johnson and Lindenstrauss).
fn project(bank: &Bank, to: usize, seed: u64) -> Result<Vec<f32>> {
    let (dim, rows) = (bank.dim(), bank.rows_per_image());
    let matrix = random::projection(to * dim, seed, (1.0 / to as f64).sqrt());
    let matrix = PackedB::new(MatRef::new(&matrix, to, dim)?.t())?;
    let mut points = vec![0.0; bank.rows() * to];
    for (image, points) in points.chunks_exact_mut(rows * to).enumerate() {
        let features = MatRef::new(bank.image(image), rows, dim)?;
        gemm_packed(features, &matrix, MatMut::new(points, rows, to)?, Accumulate::Overwrite)?;
    }
    Ok(points)
}

/// Moves the mean to the origin: distances stay, and norms, which rounding errors grow with, become small.
fn center(points: &mut [f32], dim: usize) {
    let mean = super::mean_row(points, dim);
    points.par_chunks_exact_mut(dim).for_each(|point| {
        point.iter_mut().zip(&mean).for_each(|(x, mean)| *x -= mean);
    });
}

/// For centred points: the sum of the squared distances to all points.
fn sums_of_squares(points: &[f32], dim: usize) -> Vec<f32> {
    let norms: Vec<f64> = points
        .par_chunks_exact(dim)
        .map(|point| f64::from(squared_norm(point)))
        .collect();
    let total: f64 = norms.iter().sum();
    let count = norms.len() as f64;
    norms.into_iter().map(|norm| (count * norm + total) as f32).collect()
}

/// The square of the mean distance to some of the points.
fn squared_mean_distances(points: &[f32], dim: usize, some: &[usize]) -> Vec<f32> {
    let some: Vec<&[f32]> = some
        .iter()
        .map(|&point| &points[point * dim..(point + 1) * dim])
        .collect();
    let mean = |point: &[f32]| {
        let distances = some
            .iter()
            .map(|other| f64::from(squared_distance(point, other)).sqrt());
        distances.sum::<f64>() / some.len() as f64
    };
    points
        .par_chunks_exact(dim)
        .map(|point| mean(point).powi(2) as f32)
        .collect()
}
