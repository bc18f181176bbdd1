//! Exact nearest neighbours by matrix product.

use rayon::prelude::*;
use simplenet_kernels::engine::Precision;
use simplenet_kernels::gemm::{Accumulate, MatMut, MatRef, PackedB, gemm_packed};

use super::distance::{fastest, largest_closeness, squared_distance, squared_norm, subtract, tolerance};
use super::mean_row;
use crate::error::{Error, Result};
use crate::head::count_rows;

/// Memory vectors per matrix product; with [`QUERIES_AT_ONCE`] the products take 2 MiB.
const VECTORS_AT_ONCE: usize = 1024;

/// Queries per matrix product at most.
const QUERIES_AT_ONCE: usize = 512;

/// Columns of products that are looked through together.
const STRETCH: usize = 128;

/// A set of vectors to find nearest neighbours in.
///
/// Keeps the vectors twice (as they are, and laid out for the product): 8·count·dim bytes, 6 where the product is in bf16.
#[derive(Debug)]
pub struct NearestNeighbours {
    dim: usize,
    vectors: Vec<f32>,
    mean: Vec<f32>,
    half_norms: Vec<f32>,
    largest_norm: f32,
    /// The centred vectors, [`VECTORS_AT_ONCE`] columns each.
    packed: Vec<PackedB<f32>>,
    /// Of the product.
    precision: Precision,
}

/// One of the nearest vectors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// Which vector, from 0.
    pub index: usize,
    /// ‖query − vector‖².
    pub squared_distance: f32,
}

/// The vectors that can still be among the nearest ones of a query.
#[derive(Debug)]
struct Candidates {
    wanted: usize,
    /// How much smaller than the `wanted`-th largest a closeness may be.
    slack: f32,
    /// No closeness below it matters.
    floor: f32,
    found: Vec<(f32, u32)>,
    /// Length of `found` at which it is sifted.
    full: usize,
}

impl NearestNeighbours {
    /// Takes vectors `[count, dim]`.
    ///
    /// # Errors
    /// [`Error::Shape`] where that is not a whole number of vectors, at least one and less than 2^32, or where the square of
    /// one is not finite.
    pub fn new(vectors: Vec<f32>, dim: usize) -> Result<NearestNeighbours> {
        let count = if dim == 0 {
            0
        } else {
            count_rows("vectors", &vectors, dim)?
        };
        if count == 0 || u32::try_from(count).is_err() {
            return Err(Error::Shape {
                what: "vectors".into(),
                found: vectors.len(),
                expected: format!("at least one row of {dim} channels and less than 2^32"),
            });
        }
        let mean = mean_row(&vectors, dim);
        let mut centered = vectors.clone();
        subtract(&mut centered, &mean);
        let norms: Vec<f32> = centered.par_chunks_exact(dim).map(squared_norm).collect();
        // One value that is no number makes the mean, and so every norm, none either.
        if norms.iter().any(|norm| !norm.is_finite()) {
            return Err(Error::Shape {
                what: "vectors".into(),
                found: vectors.len(),
                expected: "rows whose squared lengths are finite numbers".into(),
            });
        }
        let (precision, isa) = fastest()?;
        let pack = |block: MatRef<'_, f32>| PackedB::with_isa(precision, isa, block.t());
        let packed = centered
            .chunks(VECTORS_AT_ONCE * dim)
            .map(|block| Ok(pack(MatRef::new(block, block.len() / dim, dim)?)?))
            .collect::<Result<_>>()?;
        Ok(NearestNeighbours {
            dim,
            vectors,
            mean,
            half_norms: norms.iter().map(|norm| norm / 2.0).collect(),
            largest_norm: norms.into_iter().fold(0.0, f32::max),
            packed,
            precision,
        })
    }

    /// Channels of a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How many vectors there are.
    pub fn count(&self) -> usize {
        self.half_norms.len()
    }

    /// The vectors, `[count, dim]`.
    pub fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// Vector `index`.
    ///
    /// # Panics
    /// Where `index` is not below [`NearestNeighbours::count`], as a slice would.
    pub fn vector(&self, index: usize) -> &[f32] {
        &self.vectors[index * self.dim..(index + 1) * self.dim]
    }

    /// The `wanted` vectors nearest to each of the queries `[queries, dim]`: `[queries, wanted]`, nearest first, equally near
    /// ones by index.
    ///
    /// The result is that of measuring every pair in f32 as the sum of squared differences. It takes
    /// 2·queries·count·dim operations as a matrix product, and never holds more than a block of the distances.
    ///
    /// # Errors
    /// [`Error::Shape`] where `queries` is not a whole number of rows; [`Error::Config`] where `wanted` is not in
    /// 1..=count; [`Error::ScoreNotFinite`] where the square of a query is not finite.
    pub fn nearest(&self, queries: &[f32], wanted: usize) -> Result<Vec<Neighbour>> {
        let count = count_rows("queries", queries, self.dim)?;
        if wanted == 0 || wanted > self.count() {
            return Err(Error::Config {
                field: "nearest".into(),
                value: wanted as f64,
                expected: "between 1 and the number of vectors",
            });
        }
        let mut neighbours = Vec::with_capacity(count * wanted);
        // Blocks of about the same size: 784 queries are 392 twice.
        let at_once = count.div_ceil(count.div_ceil(QUERIES_AT_ONCE).max(1)).max(1);
        let mut products = vec![0.0; at_once * VECTORS_AT_ONCE.min(self.count())];
        for (block, queries) in queries.chunks(at_once * self.dim).enumerate() {
            let candidates = self.candidates(queries, wanted, &mut products);
            let candidates = candidates.map_err(|error| match error {
                Error::ScoreNotFinite { row } => Error::ScoreNotFinite {
                    row: block * at_once + row,
                },
                other => other,
            })?;
            let found: Vec<Vec<Neighbour>> = candidates
                .into_par_iter()
                .zip(queries.par_chunks_exact(self.dim))
                .with_min_len(16)
                .map(|(candidates, query)| self.measure(query, candidates))
                .collect();
            neighbours.extend(found.into_iter().flatten());
        }
        Ok(neighbours)
    }

    /// All that could be among the nearest, by the closeness that the matrix product gives.
    fn candidates(&self, queries: &[f32], wanted: usize, products: &mut [f32]) -> Result<Vec<Candidates>> {
        let (dim, count) = (self.dim, queries.len() / self.dim);
        let mut centered = queries.to_vec();
        subtract(&mut centered, &self.mean);
        let slack = |query: &[f32]| tolerance(dim, squared_norm(query) + self.largest_norm, self.precision);
        let mut candidates: Vec<Candidates> = centered
            .par_chunks_exact(dim)
            .with_min_len(64)
            .map(|query| Candidates::new(wanted, slack(query)))
            .collect();
        // Without a finite slack the product may overflow.
        if let Some(row) = candidates.iter().position(|candidates| !candidates.slack.is_finite()) {
            return Err(Error::ScoreNotFinite { row });
        }
        let queries = MatRef::new(&centered, count, dim)?;
        for (block, packed) in self.packed.iter().enumerate() {
            let (first, width) = (block * VECTORS_AT_ONCE, packed.cols());
            let products = &mut products[..count * width];
            gemm_packed(
                queries,
                packed,
                MatMut::new(products, count, width)?,
                Accumulate::Overwrite,
            )?;
            let half_norms = &self.half_norms[first..first + width];
            candidates
                .par_iter_mut()
                .zip(products.par_chunks_exact(width))
                .with_min_len(16)
                .for_each(|(candidates, products)| candidates.look_through(products, half_norms, first));
        }
        Ok(candidates)
    }

    fn measure(&self, query: &[f32], mut candidates: Candidates) -> Vec<Neighbour> {
        candidates.sift();
        let measured = candidates.found.iter().map(|&(_, index)| {
            let index = index as usize;
            let squared_distance = squared_distance(query, self.vector(index));
            Neighbour {
                index,
                squared_distance,
            }
        });
        let mut measured: Vec<Neighbour> = measured.collect();
        measured.sort_unstable_by(|a, b| {
            let by_distance = a.squared_distance.total_cmp(&b.squared_distance);
            by_distance.then(a.index.cmp(&b.index))
        });
        measured.truncate(candidates.wanted);
        measured
    }
}

impl Candidates {
    fn new(wanted: usize, slack: f32) -> Candidates {
        Candidates {
            wanted,
            slack,
            floor: f32::NEG_INFINITY,
            found: Vec::new(),
            full: 2 * wanted + 64,
        }
    }

    fn look_through(&mut self, products: &[f32], half_norms: &[f32], first: usize) {
        let stretches = products.chunks(STRETCH).zip(half_norms.chunks(STRETCH)).enumerate();
        for (stretch, (products, half_norms)) in stretches {
            let largest = largest_closeness(products, half_norms);
            if largest < self.floor {
                continue;
            }
            if self.wanted == 1 {
                self.floor = self.floor.max(largest - self.slack);
            }
            for (place, (product, half_norm)) in products.iter().zip(half_norms).enumerate() {
                let closeness = product - half_norm;
                if closeness < self.floor {
                    continue;
                }
                self.found.push((closeness, (first + stretch * STRETCH + place) as u32));
                if self.found.len() >= self.full {
                    self.sift();
                }
            }
        }
    }

    /// Forgets what has become too far away.
    fn sift(&mut self) {
        let last = self.wanted - 1;
        if self.found.len() <= last {
            return;
        }
        let (_, &mut (kth, _), _) = self.found.select_nth_unstable_by(last, |a, b| b.0.total_cmp(&a.0));
        self.floor = self.floor.max(kth - self.slack);
        self.found.retain(|&(closeness, _)| closeness >= self.floor);
        // Where many are equally near they all stay, and are not sifted again for each of them.
        self.full = 2 * self.found.len() + 64;
    }
}
