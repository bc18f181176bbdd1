//! PatchCore (Roth et al., "Towards total recall in industrial anomaly detection", CVPR 2022).
//!
//! A [`PatchCore`] keeps a [`Coreset`] of the patch features of normal images, its memory. A patch scores its distance to
//! the nearest memory vector, an image the largest score of its patches, re-weighted or not ([`Reweight`]). There is
//! nothing to train: [`coreset_rows`] chooses the memory, [`NearestNeighbours`] searches it, both exactly.
//!
//! ```
//! use simplenet_heads::BankBuilder;
//! use simplenet_heads::patchcore::{Coreset, Distance, PatchCore, PatchCoreConfig, Reweight, Sampler, Scoring};
//!
//! // Four images of 25 patches with 3 channels, on a circle in the plane z = 1.
//! let mut bank = BankBuilder::new(3, 25, 1 << 20, &std::env::temp_dir())?;
//! for image in 0..4 {
//!     let angles = (0..25).map(|patch| (image * 25 + patch) as f32 * std::f32::consts::TAU / 100.0);
//!     let rows: Vec<f32> = angles.flat_map(|angle| [angle.cos(), angle.sin(), 1.0]).collect();
//!     bank.push(&rows)?;
//! }
//! let config = PatchCoreConfig {
//!     coreset: Coreset { fraction: 0.2, sampler: Sampler::Greedy, projection: 128 },
//!     scoring: Scoring { nearest: 1, distance: Distance::Euclidean, reweight: Reweight::Paper { neighbours: 3 } },
//! };
//! let patchcore = PatchCore::fit(&bank.finish()?, &config, 0)?;
//! assert_eq!(patchcore.vectors(), 20);
//!
//! // On the circle, and two above it.
//! let scores = patchcore.score_image(&[1.0, 0.0, 1.0, 0.0, 1.0, 3.0])?;
//! assert!(scores.patches[0] < 0.2 && (scores.patches[1] - 2.0).abs() < 0.01);
//! assert!(scores.image > 0.5 * scores.patches[1] && scores.image < scores.patches[1]);
//! # Ok::<(), simplenet_heads::Error>(())
//! ```
//!
//! The authors' code (amazon-science/patchcore-inspection) departs from the paper in what [`Distance::Squared`] and
//! [`Reweight::None`] say; [`Sampler`] has both of its samplers. Features are whatever rows the bank holds: the paper's are
//! the second and third stage, locally averaged, which is what SimpleNet took over.

mod config;
mod coreset;
mod distance;
mod file;
mod greedy;
mod landmarks;
mod neighbours;

use rayon::prelude::*;

pub use self::config::{Coreset, Distance, PatchCoreConfig, Reweight, Sampler, Scoring};
pub use self::coreset::coreset_rows;
pub use self::greedy::greedy_k_center;
pub use self::landmarks::Landmarks;
pub use self::neighbours::{NearestNeighbours, Neighbour};
use crate::bank::Bank;
use crate::error::{Error, Result};
use crate::scores::ImageScores;

/// A memory of normal patch features.
#[derive(Debug)]
pub struct PatchCore {
    scoring: Scoring,
    memory: NearestNeighbours,
}

impl PatchCore {
    /// Chooses the memory among the rows of a bank of normal images.
    ///
    /// Memory and time are those of [`coreset_rows`], and 8·kept·dim bytes that stay.
    ///
    /// # Errors
    /// As [`coreset_rows`]; [`Error::Config`] where the scoring asks for more memory vectors than there are.
    pub fn fit(bank: &Bank, config: &PatchCoreConfig, seed: u64) -> Result<PatchCore> {
        config.check()?;
        let kept = coreset_rows(bank, &config.coreset, seed)?;
        PatchCore::of_rows(bank, &kept, config.scoring)
    }

    /// The memory that consists of `rows` of a bank, from 0 over all its images.
    ///
    /// # Errors
    /// [`Error::Config`] where the scoring makes no sense or asks for more memory vectors than there are, or where the bank
    /// does not have a row.
    pub fn of_rows(bank: &Bank, rows: &[usize], scoring: Scoring) -> Result<PatchCore> {
        let (dim, per_image) = (bank.dim(), bank.rows_per_image());
        let mut vectors = Vec::with_capacity(rows.len() * dim);
        for &row in rows {
            if row >= bank.rows() {
                return Err(Error::Config {
                    field: "row".into(),
                    value: row as f64,
                    expected: "below the number of rows of the bank",
                });
            }
            let place = row % per_image * dim;
            vectors.extend_from_slice(&bank.image(row / per_image)[place..place + dim]);
        }
        PatchCore::new(NearestNeighbours::new(vectors, dim)?, scoring)
    }

    fn new(memory: NearestNeighbours, scoring: Scoring) -> Result<PatchCore> {
        scoring.check()?;
        scoring.check_memory(memory.count())?;
        Ok(PatchCore { scoring, memory })
    }

    /// How it scores.
    pub fn scoring(&self) -> Scoring {
        self.scoring
    }

    /// Channels of a feature row.
    pub fn dim(&self) -> usize {
        self.memory.dim()
    }

    /// Number of memory vectors.
    pub fn vectors(&self) -> usize {
        self.memory.count()
    }

    /// The memory, to search in.
    pub fn memory(&self) -> &NearestNeighbours {
        &self.memory
    }

    /// Scores of feature rows `[rows, dim]`, one per row: the mean distance to the nearest memory vectors (Eq. 6).
    ///
    /// # Errors
    /// [`Error::Shape`] where `rows` is not a whole number of rows, [`Error::ScoreNotFinite`] where a row holds NaN.
    pub fn score(&self, rows: &[f32]) -> Result<Vec<f32>> {
        let neighbours = self.memory.nearest(rows, self.scoring.nearest)?;
        self.patch_scores(&neighbours)
    }

    /// Scores of the feature rows `[patches, dim]` of one image, and the score of the image ([`Reweight`]).
    ///
    /// # Errors
    /// As [`PatchCore::score`]; [`Error::Shape`] where there is no row.
    pub fn score_image(&self, rows: &[f32]) -> Result<ImageScores> {
        let neighbours = self.memory.nearest(rows, self.scoring.nearest)?;
        let patches = self.patch_scores(&neighbours)?;
        let patch = first_largest(&patches)?;
        let image = match self.scoring.reweight {
            Reweight::None => patches[patch],
            Reweight::Paper { neighbours: count } => {
                let row = &rows[patch * self.dim()..(patch + 1) * self.dim()];
                let nearest = neighbours[patch * self.scoring.nearest];
                (self.weight(row, nearest, count)? * f64::from(patches[patch])) as f32
            }
        };
        Ok(ImageScores { patches, image })
    }

    fn patch_scores(&self, neighbours: &[Neighbour]) -> Result<Vec<f32>> {
        let distance = |neighbour: &Neighbour| match self.scoring.distance {
            Distance::Euclidean => f64::from(neighbour.squared_distance).sqrt(),
            Distance::Squared => f64::from(neighbour.squared_distance),
        };
        let count = self.scoring.nearest;
        let scores: Vec<f32> = neighbours
            .chunks_exact(count)
            .map(|nearest| (nearest.iter().map(distance).sum::<f64>() / count as f64) as f32)
            .collect();
        match scores.iter().position(|score| !score.is_finite()) {
            Some(row) => Err(Error::ScoreNotFinite { row }),
            None => Ok(scores),
        }
    }

    /// The first factor of Eq. 7 for the feature `row`, whose nearest memory vector is `nearest`.
    fn weight(&self, row: &[f32], nearest: Neighbour, count: usize) -> Result<f64> {
        let around = self.memory.nearest(self.memory.vector(nearest.index), count)?;
        let exponent = f64::from(nearest.squared_distance).sqrt();
        // exp(a) / Σ exp(b) = 1 / Σ exp(b − a), which cannot overflow in the numerator; where the sum does, the limit
        // 1/∞ = 0 is right.
        let sum: f64 = around
            .iter()
            .map(|neighbour| distance::squared_distance(row, self.memory.vector(neighbour.index)))
            .map(|squared| (f64::from(squared).sqrt() - exponent).exp())
            .sum();
        Ok(1.0 - 1.0 / sum)
    }
}

/// Index of the largest score; of equal ones, the first.
fn first_largest(scores: &[f32]) -> Result<usize> {
    let mut order = (0..scores.len()).rev();
    let last = order.next().ok_or_else(|| Error::Shape {
        what: "rows".into(),
        found: 0,
        expected: "at least one patch".into(),
    })?;
    Ok(order.fold(
        last,
        |best, index| if scores[index] >= scores[best] { index } else { best },
    ))
}

/// The mean of rows `[rows, dim]`, summed in f64 in blocks of fixed size. Of no rows it is NaN.
fn mean_row(rows: &[f32], dim: usize) -> Vec<f32> {
    const ROWS_PER_PARTIAL: usize = 1024;
    let partials: Vec<Vec<f64>> = rows
        .par_chunks(ROWS_PER_PARTIAL * dim)
        .map(|rows| {
            let mut sums = vec![0.0; dim];
            for row in rows.chunks_exact(dim) {
                sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
            }
            sums
        })
        .collect();
    let count = (rows.len() / dim) as f64;
    let total = |channel: usize| partials.iter().map(|sums| sums[channel]).sum::<f64>();
    (0..dim).map(|channel| (total(channel) / count) as f32).collect()
}
