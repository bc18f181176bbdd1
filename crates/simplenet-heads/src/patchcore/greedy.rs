//! Greedy k-centre: the point that is farthest from all centres becomes the next centre.
//!
//! The textbook lowers the bounds of all n points after every choice: n·m distances, one centre at a time, so each step
//! reads all points from memory. Two observations make it fast without changing one index:
//!
//! - Bounds only fall. A bound that has not seen the latest centres is still an upper bound, so the largest one decides as
//!   soon as it is up to date, and points below it need no look (lazy greedy evaluation, Minoux 1978).
//! - Points that fell behind catch up with a whole batch of centres in one matrix product, which reads them once.

use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use rayon::prelude::*;
use simplenet_kernels::gemm::{Accumulate, MatMut, MatRef, PackedB, gemm_packed};

use super::distance::{fastest, largest_closeness, squared_distance, squared_norm, subtract, tolerance};
use super::mean_row;
use crate::error::{Error, Result};
use crate::head::count_rows;

/// Centres that points may fall behind.
const BATCH: usize = 256;

/// Points that catch up at once: their products with a batch take 4 MiB, which stay in the last cache.
const POINTS_AT_ONCE: usize = 4096;

/// Up to `count` of the points `[points, dim]`, in the order in which greedy k-centre takes them.
///
/// `bounds` are the first upper bounds on the points' squared distances to the set. Again and again the point with the
/// largest bound is taken (of equal ones the first), and every bound falls to the squared distance to it where that is
/// smaller. It ends early where all bounds are 0: then every point equals one that was taken.
///
/// Takes about 2·points·count·dim operations as a matrix product, and 4·`BATCH`·`POINTS_AT_ONCE` bytes beside a few
/// words per point. The result does not depend on the number of threads.
///
/// # Errors
/// [`Error::Shape`] where the lengths do not fit; [`Error::Gemm`] where `SIMPLENET_ISA` is wrong.
pub fn greedy_k_center(points: &[f32], dim: usize, bounds: Vec<f32>, count: usize) -> Result<Vec<usize>> {
    let rows = count_rows("points", points, dim)?;
    if bounds.len() != rows || u32::try_from(rows).is_err() {
        return Err(Error::Shape {
            what: "bounds".into(),
            found: bounds.len(),
            expected: format!("{rows}, one for each point, and less than 2^32"),
        });
    }
    let mut selection = Selection::new(points, dim, bounds);
    let mut chosen = Vec::with_capacity(count.min(rows));
    while chosen.len() < count {
        match selection.next() {
            Next::Point(point) => chosen.push(point),
            Next::Behind => selection.catch_up()?,
            Next::Covered => break,
        }
    }
    Ok(chosen)
}

enum Next {
    /// The next centre.
    Point(usize),
    /// Too many bounds are out of date to go on one by one.
    Behind,
    /// No point is left that is not a centre itself.
    Covered,
}

struct Selection<'a> {
    dim: usize,
    points: &'a [f32],
    /// Of all points. Products are of differences from it, whose tolerance is smaller.
    mean: Vec<f32>,
    /// Of these differences.
    norms: Vec<f32>,
    bounds: Vec<f32>,
    /// Rows of the centres taken since the last time that all points caught up.
    batch: Vec<f32>,
    /// For each point how many of these its bound has seen.
    seen: Vec<u16>,
    /// Points with a bound above 0, each once, by [`key`].
    queue: BinaryHeap<u64>,
    /// Distances measured one by one since then.
    measured: usize,
    /// Products of some points with the batch.
    products: Vec<f32>,
    /// These points' differences from the mean.
    centered: Vec<f32>,
}

impl<'a> Selection<'a> {
    fn new(points: &'a [f32], dim: usize, bounds: Vec<f32>) -> Selection<'a> {
        let mean = mean_row(points, dim);
        let norm = |point: &[f32]| squared_distance(point, &mean);
        let mut selection = Selection {
            dim,
            points,
            norms: points.par_chunks_exact(dim).map(norm).collect(),
            mean,
            seen: vec![0; bounds.len()],
            bounds,
            batch: Vec::with_capacity(BATCH * dim),
            queue: BinaryHeap::new(),
            measured: 0,
            products: Vec::new(),
            centered: Vec::new(),
        };
        selection.line_up();
        selection
    }

    fn next(&mut self) -> Next {
        let taken = self.batch.len() / self.dim;
        // One distance here costs about as much as one point's share of catching up.
        if taken == BATCH {
            return Next::Behind;
        }
        loop {
            if self.measured > self.bounds.len() {
                return Next::Behind;
            }
            let Some(mut largest) = self.queue.peek_mut() else {
                return Next::Covered;
            };
            let point = point_of(*largest);
            let row = &self.points[point * self.dim..(point + 1) * self.dim];
            let seen = usize::from(self.seen[point]);
            if seen == taken {
                PeekMut::pop(largest);
                self.batch.extend_from_slice(row);
                return Next::Point(point);
            }
            let missed = self.batch[seen * self.dim..].chunks_exact(self.dim);
            let bound = missed.fold(self.bounds[point], |bound, center| {
                bound.min(squared_distance(row, center))
            });
            self.measured += taken - seen;
            self.seen[point] = taken as u16;
            self.bounds[point] = bound;
            if bound > 0.0 {
                *largest = key(bound, point);
            } else {
                PeekMut::pop(largest);
            }
        }
    }

    /// Lowers every bound by the whole batch, and begins another one.
    fn catch_up(&mut self) -> Result<()> {
        let (dim, centers) = (self.dim, self.batch.len() / self.dim);
        let batch = &self.batch;
        let mut centered_batch = batch.clone();
        subtract(&mut centered_batch, &self.mean);
        let (precision, isa) = fastest()?;
        let packed = PackedB::with_isa(precision, isa, MatRef::new(&centered_batch, centers, dim)?.t())?;
        let half_norms: Vec<f32> = centered_batch
            .chunks_exact(dim)
            .map(|row| squared_norm(row) / 2.0)
            .collect();
        let largest_norm = 2.0 * half_norms.iter().copied().fold(0.0, f32::max);
        self.products
            .resize(POINTS_AT_ONCE.min(self.bounds.len()) * centers, 0.0);
        let blocks = self.points.chunks(POINTS_AT_ONCE * dim);
        let state = self
            .bounds
            .chunks_mut(POINTS_AT_ONCE)
            .zip(self.norms.chunks(POINTS_AT_ONCE));
        for (points, (bounds, norms)) in blocks.zip(state) {
            let products = &mut self.products[..bounds.len() * centers];
            let out = MatMut::new(products, bounds.len(), centers)?;
            self.centered.clear();
            self.centered.extend_from_slice(points);
            subtract(&mut self.centered, &self.mean);
            gemm_packed(
                MatRef::new(&self.centered, bounds.len(), dim)?,
                &packed,
                out,
                Accumulate::Overwrite,
            )?;
            bounds
                .par_iter_mut()
                .zip(norms)
                .zip(points.par_chunks_exact(dim))
                .zip(products.par_chunks_exact(centers))
                .with_min_len(64)
                .for_each(|(((bound, &norm), point), products)| {
                    let slack = tolerance(dim, norm + largest_norm, precision);
                    let floor = |bound: f32| (norm - bound - slack) / 2.0;
                    if largest_closeness(products, &half_norms) < floor(*bound) {
                        return;
                    }
                    for (center, (product, half_norm)) in products.iter().zip(&half_norms).enumerate() {
                        if product - half_norm >= floor(*bound) {
                            let center = &batch[center * dim..(center + 1) * dim];
                            *bound = bound.min(squared_distance(point, center));
                        }
                    }
                });
        }
        self.batch.clear();
        self.seen.fill(0);
        self.line_up();
        Ok(())
    }

    fn line_up(&mut self) {
        let mut keys = std::mem::take(&mut self.queue).into_vec();
        keys.clear();
        let open = self.bounds.iter().enumerate().filter(|(_, bound)| **bound > 0.0);
        keys.extend(open.map(|(point, &bound)| key(bound, point)));
        self.queue = BinaryHeap::from(keys);
        self.measured = 0;
    }
}

/// Orders points by bound, equal ones by falling index: the bits of positive floats are ordered as they are.
fn key(bound: f32, point: usize) -> u64 {
    u64::from(bound.to_bits()) << 32 | u64::from(!(point as u32))
}

fn point_of(key: u64) -> usize {
    !(key as u32) as usize
}
