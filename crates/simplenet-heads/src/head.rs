//! Adaptor and discriminator: the parameters of a head, how they begin, and the plain forward pass.

use std::ops::Range;

use simplenet_kernels::engine::Precision;
use simplenet_kernels::gemm::{Accumulate, MatMut, MatRef, gemm};

use crate::config::HeadConfig;
use crate::error::{Error, Result};
use crate::layered::LayeredScorer;
use crate::layout::{Layout, Start};
use crate::random;
use crate::scalar::Scalar;
use crate::scorer::Scorer;
use crate::standardize::Standardizer;

/// Slope of LeakyReLU for negative inputs, in the adaptor and in the discriminator.
pub(crate) const LEAKY_SLOPE: f64 = 0.2;
/// ε of the batch normalisation, PyTorch's default.
pub(crate) const BATCH_NORM_EPSILON: f64 = 1e-5;

/// A feature adaptor (Section 3.2) and a discriminator (Section 3.4): patch features in, anomaly scores out.
///
/// The discriminator is Linear with bias, BatchNorm, LeakyReLU(0.2), Linear to 1 without bias.
#[derive(Debug, Clone, PartialEq)]
pub struct Head<T: Scalar = f32> {
    pub(crate) config: HeadConfig,
    pub(crate) layout: Layout,
    pub(crate) parameters: Vec<T>,
    pub(crate) running_mean: Vec<T>,
    pub(crate) running_var: Vec<T>,
    pub(crate) standardizer: Option<Standardizer>,
}

/// A tensor of a head, as a file has it.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor<'a, T> {
    /// Name, for example `disc.fc1.weight`.
    pub name: &'a str,
    /// Shape; weights are `[outputs, inputs]`.
    pub shape: Vec<usize>,
    /// Values, row-major.
    pub data: &'a [T],
}

impl Head {
    /// The head folded for inference on layers that are not joined yet; `columns` are theirs in the joined row
    /// (`simplenet_kernels::patch::Layer`). `None` with two adaptor layers, between which stands a LeakyReLU.
    ///
    /// # Errors
    /// [`Error::Columns`] where the head does not have them; as [`Head::scorer`].
    pub fn layered_scorer(&self, columns: &[Range<usize>], precision: Precision) -> Result<Option<LayeredScorer>> {
        LayeredScorer::new(self, columns, precision)
    }
}

impl<T: Scalar> Head<T> {
    /// A head that has learnt nothing: Xavier-normal weights and PyTorch's default biases, as the authors begin
    /// (`simplenet.py:27-56`), drawn by `seed` and tensor.
    ///
    /// # Errors
    /// [`Error::Config`] where a size is 0.
    pub fn new(config: HeadConfig, seed: u64) -> Result<Head<T>> {
        config.check()?;
        let layout = Layout::new(&config);
        let mut parameters = vec![T::ZERO; layout.len()];
        for (index, entry) in layout.entries.iter().enumerate() {
            let values = &mut parameters[entry.place.clone()];
            match entry.start {
                Start::Weight => {
                    let sigma = (2.0 / (entry.shape[0] + entry.shape[1]) as f64).sqrt();
                    random::fill_weights(values, seed, index, sigma);
                }
                Start::Bias { inputs } => random::fill_biases(values, seed, index, 1.0 / (inputs as f64).sqrt()),
                Start::Constant(value) => values.fill(T::from_f64(f64::from(value))),
            }
        }
        Ok(Head {
            running_mean: vec![T::ZERO; config.hidden],
            running_var: vec![T::ONE; config.hidden],
            config,
            layout,
            parameters,
            standardizer: None,
        })
    }

    /// Its shape.
    pub fn config(&self) -> &HeadConfig {
        &self.config
    }

    /// What is done to every feature before the adaptor, in training and in scoring alike.
    pub fn standardizer(&self) -> Option<&Standardizer> {
        self.standardizer.as_ref()
    }

    /// Standardises features from now on (not in the paper; for features whose channels differ much in scale).
    ///
    /// # Errors
    /// [`Error::Dim`] where the channels differ from the head's.
    pub fn set_standardizer(&mut self, standardizer: Standardizer) -> Result<()> {
        if standardizer.dim() != self.config.dim {
            return Err(Error::Dim {
                left: "the head",
                left_dim: self.config.dim,
                right: "the standardisation",
                right_dim: standardizer.dim(),
            });
        }
        self.standardizer = Some(standardizer);
        Ok(())
    }

    /// Every tensor that training makes, in a fixed order: trainable ones, then `disc.bn.running_mean|running_var`.
    pub fn tensors(&self) -> impl Iterator<Item = NamedTensor<'_, T>> {
        let trainable = self.layout.entries.iter().map(|entry| NamedTensor {
            name: &entry.name,
            shape: entry.shape.clone(),
            data: &self.parameters[entry.place.clone()],
        });
        let statistics = [
            ("disc.bn.running_mean", &self.running_mean),
            ("disc.bn.running_var", &self.running_var),
        ];
        trainable.chain(statistics.into_iter().map(|(name, data)| NamedTensor {
            name,
            shape: vec![data.len()],
            data,
        }))
    }

    /// Anomaly scores −D(adaptor(x)) of feature rows `[rows, dim]`, one per row, batch norm in evaluation mode (Eq. 9).
    ///
    /// Folds the head first; to score many times with the same head keep its [`Head::scorer`].
    ///
    /// # Errors
    /// See [`Scorer::score`].
    pub fn score(&self, rows: &[T]) -> Result<Vec<T>> {
        self.scorer()?.score(rows)
    }

    /// The head folded for inference.
    ///
    /// # Errors
    /// [`Error::Gemm`] where `SIMPLENET_ISA` is wrong.
    pub fn scorer(&self) -> Result<Scorer<T>> {
        self.scorer_in(Precision::F32)
    }

    /// The head folded for inference in a precision.
    ///
    /// # Errors
    /// As [`Head::scorer`].
    pub fn scorer_in(&self, precision: Precision) -> Result<Scorer<T>> {
        Scorer::new(self, precision)
    }

    /// Adapted features of feature rows `[rows, dim]`, the same shape (Eq. 5; what Figure 4 of the paper looks at).
    ///
    /// # Errors
    /// [`Error::Shape`] where `rows` is not a whole number of rows.
    pub fn adapt(&self, rows: &[T]) -> Result<Vec<T>> {
        let dim = self.config.dim;
        let count = count_rows("rows", rows, dim)?;
        let mut current = rows.to_vec();
        if let Some(standardizer) = &self.standardizer {
            standardizer.apply(&mut current)?;
        }
        for (layer, linear) in self.layout.adaptor.iter().enumerate() {
            if layer > 0 {
                current.iter_mut().for_each(|x| *x = leaky(*x));
            }
            let mut next = vec![T::ZERO; current.len()];
            let into = if let Some(bias) = &linear.bias {
                let bias = &self.parameters[bias.clone()];
                next.chunks_exact_mut(dim).for_each(|row| row.copy_from_slice(bias));
                Accumulate::Add
            } else {
                Accumulate::Overwrite
            };
            let weight = MatRef::new(&self.parameters[linear.weight.clone()], dim, dim)?;
            let input = MatRef::new(&current, count, dim)?;
            gemm(input, weight.t(), MatMut::new(&mut next, count, dim)?, into)?;
            current = next;
        }
        Ok(current)
    }
}

/// LeakyReLU; written as a maximum, which is one instruction.
#[inline(always)]
pub(crate) fn leaky<T: Scalar>(x: T) -> T {
    let scaled = x * T::from_f64(LEAKY_SLOPE);
    if x > scaled { x } else { scaled }
}

/// The number of rows of `dim` values in `rows`.
pub(crate) fn count_rows<T>(what: &str, rows: &[T], dim: usize) -> Result<usize> {
    if rows.len().is_multiple_of(dim) {
        return Ok(rows.len() / dim);
    }
    Err(Error::Shape {
        what: what.to_string(),
        found: rows.len(),
        expected: format!("a multiple of {dim}, the number of channels"),
    })
}
