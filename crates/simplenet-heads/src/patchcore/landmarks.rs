//! The nearest of many rows to each of a few vectors.

use rayon::prelude::*;
use simplenet_kernels::engine::Precision;
use simplenet_kernels::gemm::{Accumulate, MatMut, MatRef, PackedB, gemm_packed_alone};

use super::distance::{fastest, squared_distance, squared_norm, tolerance};
use super::mean_row;
use crate::error::{Error, Result};
use crate::head::count_rows;

/// Rows that a thread multiplies at once.
const ROWS_AT_ONCE: usize = 64;

/// A few vectors that are always the same, to each of which the nearest of ever new rows is asked for.
///
/// [`NearestNeighbours`](super::NearestNeighbours) keeps the many and takes the few; here the many come and go, so it is
/// the few that are laid out for the product, once.
#[derive(Debug)]
pub struct Landmarks {
    dim: usize,
    vectors: Vec<f32>,
    /// Of the vectors. Products are of differences from it, whose tolerance is smaller.
    mean: Vec<f32>,
    /// Of these differences.
    norms: Vec<f32>,
    largest_norm: f32,
    /// The differences, `[dim, vectors]`.
    packed: PackedB<f32>,
    /// Of the product.
    precision: Precision,
}

impl Landmarks {
    /// Takes vectors `[count, dim]`.
    ///
    /// # Errors
    /// [`Error::Shape`] where that is not a whole number of vectors, at least one, or where the square of one is not finite;
    /// [`Error::Gemm`] where `SIMPLENET_ISA` is wrong.
    pub fn new(vectors: Vec<f32>, dim: usize) -> Result<Landmarks> {
        let count = if dim == 0 {
            0
        } else {
            count_rows("vectors", &vectors, dim)?
        };
        let refused = |vectors: &[f32]| Error::Shape {
            what: "vectors".into(),
            found: vectors.len(),
            expected: format!("at least one row of {dim} channels, of a squared length that is a finite number"),
        };
        if count == 0 {
            return Err(refused(&vectors));
        }
        let mean = mean_row(&vectors, dim);
        let mut centered = Vec::with_capacity(vectors.len());
        subtract_into(&mut centered, &vectors, &mean);
        let norms: Vec<f32> = centered.chunks_exact(dim).map(squared_norm).collect();
        // One value that is no number makes the mean, and so every norm, none either.
        if norms.iter().any(|norm| !norm.is_finite()) {
            return Err(refused(&vectors));
        }
        let (precision, isa) = fastest()?;
        Ok(Landmarks {
            packed: PackedB::with_isa(precision, isa, MatRef::new(&centered, count, dim)?.t())?,
            largest_norm: norms.iter().copied().fold(0.0, f32::max),
            dim,
            vectors,
            mean,
            norms,
            precision,
        })
    }

    /// Channels of a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How many vectors there are.
    pub fn count(&self) -> usize {
        self.norms.len()
    }

    /// The vectors, `[count, dim]`.
    pub fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// For each vector the smallest ‖row − vector‖² of the rows `[rows, dim]`; infinity where there is no row.
    ///
    /// The result is that of measuring every pair in f32 as the sum of squared differences, for any number of threads. It
    /// takes 2·rows·count·dim operations as a matrix product, and 4·rows·count bytes.
    ///
    /// # Errors
    /// [`Error::Shape`] where `rows` is not a whole number of rows; [`Error::ScoreNotFinite`] where the square of one is not
    /// finite.
    pub fn nearest(&self, rows: &[f32]) -> Result<Vec<f32>> {
        let (count, landmarks) = (count_rows("rows", rows, self.dim)?, self.count());
        let mut lowest = vec![0.0; count * landmarks];
        let highest = lowest
            .par_chunks_mut(ROWS_AT_ONCE * landmarks)
            .zip(rows.par_chunks(ROWS_AT_ONCE * self.dim))
            .enumerate()
            .map_init(Vec::new, |centered, (block, (lowest, rows))| {
                subtract_into(centered, rows, &self.mean);
                let highest = self.bounds(centered, lowest);
                highest.map_err(|error| match error {
                    Error::ScoreNotFinite { row } => Error::ScoreNotFinite {
                        row: block * ROWS_AT_ONCE + row,
                    },
                    other => other,
                })
            })
            .collect::<Vec<Result<_>>>();
        // The first error of all, whichever thread met one first.
        let highest = smallest(highest.into_iter().collect::<Result<_>>()?, landmarks);
        // What may be nearer than the nearest one certainly is.
        let measured = lowest
            .par_chunks(ROWS_AT_ONCE * landmarks)
            .zip(rows.par_chunks(ROWS_AT_ONCE * self.dim))
            .map(|(lowest, rows)| self.measure(rows, lowest, &highest))
            .collect();
        Ok(smallest(measured, landmarks))
    }

    /// Writes how near each row, less the mean, can be at least to each vector, and tells how near the nearest one is at most.
    fn bounds(&self, rows: &[f32], lowest: &mut [f32]) -> Result<Vec<f32>> {
        let (count, landmarks) = (rows.len() / self.dim, self.count());
        gemm_packed_alone(
            MatRef::new(rows, count, self.dim)?,
            &self.packed,
            MatMut::new(lowest, count, landmarks)?,
            Accumulate::Overwrite,
        )?;
        let mut highest = vec![f32::INFINITY; landmarks];
        let pairs = rows.chunks_exact(self.dim).zip(lowest.chunks_exact_mut(landmarks));
        for (row, (values, products)) in pairs.enumerate() {
            let norm = squared_norm(values);
            let slack = |its: f32| tolerance(self.dim, norm + its, self.precision);
            // Without a finite slack the product may have overflown.
            if !slack(self.largest_norm).is_finite() {
                return Err(Error::ScoreNotFinite { row });
            }
            for ((product, &its), highest) in products.iter_mut().zip(&self.norms).zip(&mut highest) {
                let (about, slack) = ((norm + its) - 2.0 * *product, slack(its));
                *product = about - slack;
                *highest = highest.min(about + slack);
            }
        }
        Ok(highest)
    }

    fn measure(&self, rows: &[f32], lowest: &[f32], highest: &[f32]) -> Vec<f32> {
        let mut nearest = vec![f32::INFINITY; self.count()];
        let rows = rows.chunks_exact(self.dim).zip(lowest.chunks_exact(self.count()));
        for (row, lowest) in rows {
            for (landmark, vector) in self.vectors.chunks_exact(self.dim).enumerate() {
                if lowest[landmark] <= highest[landmark].min(nearest[landmark]) {
                    nearest[landmark] = nearest[landmark].min(squared_distance(row, vector));
                }
            }
        }
        nearest
    }
}

/// Makes `centered` the rows less `mean`.
fn subtract_into(centered: &mut Vec<f32>, rows: &[f32], mean: &[f32]) {
    centered.clear();
    for row in rows.chunks_exact(mean.len()) {
        centered.extend(row.iter().zip(mean).map(|(x, mean)| x - mean));
    }
}

/// The smallest value at each of `length` places.
fn smallest(blocks: Vec<Vec<f32>>, length: usize) -> Vec<f32> {
    blocks
        .into_iter()
        .fold(vec![f32::INFINITY; length], |mut smallest, block| {
            smallest.iter_mut().zip(block).for_each(|(a, b)| *a = a.min(b));
            smallest
        })
}
