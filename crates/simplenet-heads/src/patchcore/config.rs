//! How a memory is chosen and how it scores, as data: read from an experiment file, checked once.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// PatchCore, whole: everything that decides a score, except the features and the seed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PatchCoreConfig {
    /// Which rows of the bank are kept.
    pub coreset: Coreset,
    /// How rows are scored with them.
    pub scoring: Scoring,
}

/// Which rows of the bank become the memory (Section 3.2, Algorithm 1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Coreset {
    /// Share of the bank's rows, in (0, 1] (0.01, 0.1 and 0.25 in the paper); rounded down, but at least one row. With
    /// 1 every row is kept, in the bank's order.
    pub fraction: f64,
    /// Where the greedy selection begins.
    pub sampler: Sampler,
    /// Channels of the Gaussian random projection that distances are measured in while selecting (128 in the authors'
    /// code). Features of no more channels than that are not projected.
    pub projection: usize,
}

/// Where the greedy selection begins: every row has a first bound on its distance to the coreset, and the row with the
/// largest one is taken. From then on both are the same: take the row that is farthest from all rows taken before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Sampler {
    /// With the distances to all rows (`GreedyCoresetSampler`), which begins with the row farthest from the mean. The
    /// authors store the n×n matrix for it; here it costs one pass, because Σⱼ‖xᵢ−xⱼ‖² = n‖xᵢ−μ‖² + Σⱼ‖xⱼ−μ‖².
    Greedy,
    /// With the mean distance to a few random rows (`ApproximateGreedyCoresetSampler`, the authors' published runs).
    ApproximateGreedy {
        /// How many random rows (10 in the authors' code); no more than the bank has.
        starting_points: usize,
    },
}

/// How rows are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scoring {
    /// A patch scores the mean distance to this many nearest memory vectors (1 in the paper and in the published runs).
    pub nearest: usize,
    /// What a distance is.
    pub distance: Distance,
    /// How patch scores make the image's score.
    pub reweight: Reweight,
}

/// What the score of a patch is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// ‖x − m‖, as in Eq. 6.
    Euclidean,
    /// ‖x − m‖², which is what faiss's `IndexFlatL2` gives and so what the authors' code scores with. Patches are ordered as
    /// with [`Distance::Euclidean`] where `nearest` is 1; maps differ, because they interpolate scores.
    Squared,
}

/// How patch scores make the image's score. Either way it is that of the patch with the largest score; of equal ones, the
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Reweight {
    /// Eq. 7: s = (1 − exp‖x − m*‖ / Σ exp‖x − m‖) · s*, where m* is the memory vector nearest to x and the sum goes over
    /// the b memory vectors nearest to m*, m* itself among them. A patch whose nearest memory vector stands alone counts
    /// for more.
    Paper {
        /// b, at least 2: with 1 every image would score 0.
        neighbours: usize,
    },
    /// The patch's score as it is, which is what the authors' code does (`patchcore.py`, `PatchMaker.score`).
    None,
}

impl PatchCoreConfig {
    /// Refuses numbers that make no sense: a fraction outside (0, 1], no starting points, no neighbours, ...
    pub fn check(&self) -> Result<()> {
        self.coreset.check()?;
        self.scoring.check()
    }
}

impl Coreset {
    pub(super) fn check(&self) -> Result<()> {
        if !(self.fraction > 0.0 && self.fraction <= 1.0) {
            return Err(wrong("coreset.fraction", self.fraction, "a share in (0, 1]"));
        }
        at_least("coreset.projection", self.projection, 1, "at least 1")?;
        match self.sampler {
            Sampler::Greedy => Ok(()),
            Sampler::ApproximateGreedy { starting_points } => {
                at_least("coreset.starting-points", starting_points, 1, "at least 1")
            }
        }
    }

    /// Rows that a bank of `rows` rows keeps.
    pub(super) fn count(&self, rows: usize) -> usize {
        // As the authors round (`int(len(features) * percentage)`).
        ((rows as f64 * self.fraction) as usize).clamp(1, rows)
    }
}

impl Scoring {
    pub(super) fn check(&self) -> Result<()> {
        at_least("scoring.nearest", self.nearest, 1, "at least 1")?;
        match self.reweight {
            Reweight::None => Ok(()),
            Reweight::Paper { neighbours } => at_least("scoring.neighbours", neighbours, 2, "at least 2"),
        }
    }

    /// Refuses to ask for more memory vectors than there are.
    pub(super) fn check_memory(&self, vectors: usize) -> Result<()> {
        const EXPECTED: &str = "at most the number of memory vectors";
        let neighbours = match self.reweight {
            Reweight::Paper { neighbours } => neighbours,
            Reweight::None => 0,
        };
        for (field, value) in [("scoring.nearest", self.nearest), ("scoring.neighbours", neighbours)] {
            if value > vectors {
                return Err(wrong(field, value as f64, EXPECTED));
            }
        }
        Ok(())
    }
}

fn at_least(field: &str, value: usize, least: usize, expected: &'static str) -> Result<()> {
    if value >= least {
        return Ok(());
    }
    Err(wrong(field, value as f64, expected))
}

fn wrong(field: &str, value: f64, expected: &'static str) -> Error {
    Error::Config {
        field: field.to_string(),
        value,
        expected,
    }
}
