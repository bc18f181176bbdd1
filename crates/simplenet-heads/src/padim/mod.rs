//! PaDiM (Defard et al., "PaDiM: a patch distribution modeling framework for anomaly detection and localization", ICPR
//! 2021 workshops).
//!
//! A [`Padim`] keeps a Gaussian for every position of the patch grid, over some randomly chosen channels. A patch scores
//! its Mahalanobis distance from the Gaussian of its position, an image the largest score of its patches. The same position
//! must mean the same part of the object in every image; what moves or turns is better served by
//! [`patchcore`](crate::patchcore).
//!
//! ```
//! use simplenet_heads::BankBuilder;
//! use simplenet_heads::padim::{Padim, PadimConfig};
//!
//! // 50 images of two patches with three channels: the first patch varies in channel 0, the second in channel 1.
//! let mut bank = BankBuilder::new(3, 2, 1 << 20, &std::env::temp_dir())?;
//! for image in 0..50 {
//!     let x = (image % 5) as f32 - 2.0;
//!     bank.push(&[x, 0.0, 1.0, 0.0, x, 1.0])?;
//! }
//! let config = PadimConfig { channels: 3, regularisation: 0.01 };
//! let padim = Padim::fit(&bank.finish()?, &config, 0)?;
//!
//! // What is normal at the first position is not at the second.
//! let scores = padim.score_image(&[2.0, 0.0, 1.0, 2.0, 0.0, 1.0])?;
//! assert!(scores.patches[0] < 1.5 && scores.patches[1] > 19.0);
//! assert_eq!(scores.image, scores.patches[1]);
//! # Ok::<(), simplenet_heads::Error>(())
//! ```
//!
//! The paper's features are stages 1 to 3 of the network, enlarged to the grid of the first and concatenated without any
//! averaging; here they are whatever rows the bank holds, so a comparison on one bank is one of the methods and not of the
//! features. The paper takes an image's score from its smoothed map, this one from its patches, as the other methods here
//! do.

mod cholesky;
mod file;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use simplenet_kernels::gemm::{Accumulate, MatMut, MatRef, gemm};

use self::cholesky::{Room, factorize, pack, packed_len, squared_length_solved};
use crate::bank::Bank;
use crate::error::{Error, Result};
use crate::random;
use crate::scores::ImageScores;

/// How the Gaussians are fitted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PadimConfig {
    /// Channels that are kept, drawn by the seed: 100 for ResNet-18 and 550 for WideResNet-50 in the paper. No more than
    /// the features have.
    pub channels: usize,
    /// ε, added to the variances: Σ + ε I (0.01 in the paper, Eq. 1). Without it fewer images than channels would leave Σ
    /// singular.
    pub regularisation: f64,
}

/// A Gaussian for every position of the patch grid.
///
/// Takes 4·positions·(channels + channels·(channels + 1)/2) bytes: 16 MB for 28×28 positions and 100 channels, 1.9 GB for
/// 56×56 and 550. Scoring an image reads all of it once.
#[derive(Debug, Clone, PartialEq)]
pub struct Padim {
    /// Channels of a feature row.
    dim: usize,
    /// Those that are kept, rising.
    channels: Vec<usize>,
    positions: usize,
    /// `[positions, channels]`.
    mean: Vec<f32>,
    /// For each position the Cholesky factor of its covariance, packed by columns.
    factor: Vec<f32>,
}

/// What one thread needs to fit a Gaussian; kept from one position to the next.
#[derive(Default)]
struct Workspace {
    mean: Vec<f64>,
    /// `[images, channels]`, centred.
    samples: Vec<f64>,
    /// `[channels, channels]`.
    covariance: Vec<f64>,
    room: Room,
}

impl PadimConfig {
    /// Refuses numbers that make no sense.
    pub fn check(&self) -> Result<()> {
        let wrong = |field: &str, value: f64, expected: &'static str| {
            let field = field.to_string();
            Err(Error::Config { field, value, expected })
        };
        if self.channels == 0 {
            return wrong("channels", 0.0, "at least 1");
        }
        if !(self.regularisation >= 0.0 && self.regularisation.is_finite()) {
            return wrong("regularisation", self.regularisation, "zero or a positive number");
        }
        Ok(())
    }
}

impl Padim {
    /// Fits mean and covariance (divided by images − 1) of every position over the images of a bank, in f64.
    ///
    /// Reads the bank once, position by position, so a bank in a file may be larger than memory. Beside the result each
    /// thread takes 8·channels·(images + channels) bytes. Time: positions·channels²·(2·images + channels/3) operations.
    ///
    /// # Errors
    /// [`Error::Config`] where the configuration makes no sense, asks for more channels than there are, or the bank has a
    /// single image; where a covariance is singular because `regularisation` is too small for the scale of the features.
    pub fn fit(bank: &Bank, config: &PadimConfig, seed: u64) -> Result<Padim> {
        config.check()?;
        if config.channels > bank.dim() {
            return Err(Error::Config {
                field: "channels".into(),
                value: config.channels as f64,
                expected: "at most the number of channels of the features",
            });
        }
        if bank.images() < 2 {
            return Err(Error::Config {
                field: "images".into(),
                value: bank.images() as f64,
                expected: "at least 2, to have a covariance",
            });
        }
        let channels = random::channels(config.channels, bank.dim(), seed);
        let (count, positions) = (channels.len(), bank.rows_per_image());
        let mut mean = vec![0.0; positions * count];
        let mut factor = vec![0.0; positions * packed_len(count)];
        mean.par_chunks_exact_mut(count)
            .zip(factor.par_chunks_exact_mut(packed_len(count)))
            .enumerate()
            .try_for_each_init(Workspace::default, |work, (position, (mean, factor))| {
                work.gather(bank, position, &channels);
                work.factorize(bank.images(), config.regularisation)?;
                mean.iter_mut()
                    .zip(&work.mean)
                    .for_each(|(out, &mean)| *out = mean as f32);
                pack(&work.covariance, count, factor);
                Ok::<(), Error>(())
            })?;
        Ok(Padim {
            dim: bank.dim(),
            channels,
            positions,
            mean,
            factor,
        })
    }

    /// Channels of a feature row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The channels that are looked at, rising.
    pub fn channels(&self) -> &[usize] {
        &self.channels
    }

    /// Patches of an image.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Scores of the feature rows `[images · positions, dim]` of whole images, one per row: the Mahalanobis distance (Eq. 2).
    ///
    /// # Errors
    /// [`Error::Shape`] where that is not a whole number of images, [`Error::ScoreNotFinite`] where a row holds NaN.
    pub fn score(&self, rows: &[f32]) -> Result<Vec<f32>> {
        let size = self.positions * self.dim;
        if !rows.len().is_multiple_of(size) {
            return Err(Error::Shape {
                what: "rows".into(),
                found: rows.len(),
                expected: format!(
                    "a multiple of {size} (images of {} rows of {} channels)",
                    self.positions, self.dim
                ),
            });
        }
        let (images, count) = (rows.len() / size, self.channels.len());
        // By position first, so that a Gaussian is read once for all images.
        let mut by_position = vec![0.0; images * self.positions];
        by_position
            .par_chunks_exact_mut(images.max(1))
            .zip(self.mean.par_chunks_exact(count))
            .zip(self.factor.par_chunks_exact(packed_len(count)))
            .enumerate()
            .with_min_len(8)
            .for_each_init(
                || vec![0.0; count],
                |difference, (position, ((scores, mean), factor))| {
                    for (score, image) in scores.iter_mut().zip(rows.chunks_exact(size)) {
                        let row = &image[position * self.dim..(position + 1) * self.dim];
                        for ((out, &channel), mean) in difference.iter_mut().zip(&self.channels).zip(mean) {
                            *out = row[channel] - mean;
                        }
                        *score = squared_length_solved(factor, difference).sqrt();
                    }
                },
            );
        let by_image = (0..images).flat_map(|image| by_position.iter().skip(image).step_by(images));
        let scores: Vec<f32> = by_image.copied().collect();
        match scores.iter().position(|score| !score.is_finite()) {
            Some(row) => Err(Error::ScoreNotFinite { row }),
            None => Ok(scores),
        }
    }

    /// Scores of the feature rows `[positions, dim]` of one image, and the largest of them as the score of the image.
    ///
    /// # Errors
    /// As [`Padim::score`]; [`Error::Shape`] where it is not one image.
    pub fn score_image(&self, rows: &[f32]) -> Result<ImageScores> {
        if rows.len() != self.positions * self.dim {
            return Err(Error::Shape {
                what: "rows".into(),
                found: rows.len(),
                expected: format!("{} rows of {} channels", self.positions, self.dim),
            });
        }
        let patches = self.score(rows)?;
        let image = patches.iter().copied().fold(0.0, f32::max);
        Ok(ImageScores { patches, image })
    }
}

impl Workspace {
    /// Mean and centred samples of a position.
    fn gather(&mut self, bank: &Bank, position: usize, channels: &[usize]) {
        let dim = bank.dim();
        self.samples.clear();
        for image in 0..bank.images() {
            let row = &bank.image(image)[position * dim..(position + 1) * dim];
            self.samples
                .extend(channels.iter().map(|&channel| f64::from(row[channel])));
        }
        self.mean.clear();
        self.mean.resize(channels.len(), 0.0);
        for sample in self.samples.chunks_exact(channels.len()) {
            self.mean.iter_mut().zip(sample).for_each(|(sum, x)| *sum += x);
        }
        self.mean.iter_mut().for_each(|sum| *sum /= bank.images() as f64);
        for sample in self.samples.chunks_exact_mut(channels.len()) {
            sample.iter_mut().zip(&self.mean).for_each(|(x, mean)| *x -= mean);
        }
    }

    /// The covariance of the samples, regularised, and then its Cholesky factor in its place.
    fn factorize(&mut self, images: usize, regularisation: f64) -> Result<()> {
        let count = self.mean.len();
        self.covariance.resize(count * count, 0.0);
        let samples = MatRef::new(&self.samples, images, count)?;
        let out = MatMut::new(&mut self.covariance, count, count)?;
        gemm(samples.t(), samples, out, Accumulate::Overwrite)?;
        let degrees = (images - 1) as f64;
        self.covariance.iter_mut().for_each(|x| *x /= degrees);
        self.covariance
            .iter_mut()
            .step_by(count + 1)
            .for_each(|x| *x += regularisation);
        if factorize(&mut self.covariance, count, &mut self.room)? {
            return Ok(());
        }
        Err(Error::Config {
            field: "regularisation".into(),
            value: regularisation,
            expected: "larger: beside it the covariance of a patch is singular",
        })
    }
}
