//! What a head is and how it is trained, as data: read from an experiment file, checked once.

use serde::{Deserialize, Serialize};
use simplenet_kernels::engine::Precision;

use crate::error::{Error, Result};

/// The shape of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HeadConfig {
    /// Channels of a patch feature (1536 in the paper).
    pub dim: usize,
    /// Width of the discriminator's hidden layer (1024 in the authors' run).
    pub hidden: usize,
    /// What stands between the backbone's features and the discriminator.
    pub adaptor: Adaptor,
}

/// The feature adaptor (Section 3.2). Every layer maps `dim` channels to `dim` channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Adaptor {
    /// None: the discriminator sees the features as they are ("w/o FA" of Table 3).
    None,
    /// One fully connected layer. The paper says without bias, the authors' code has one (`simplenet.py:73`).
    Linear {
        /// Whether the layer has a bias.
        bias: bool,
    },
    /// Two fully connected layers with bias and LeakyReLU(0.2) between them ("Complex-FA" of Table 3;
    /// `--pre_proj 2 --proj_layer_type 2` of the authors' code).
    Mlp,
}

impl Adaptor {
    /// How many fully connected layers it has.
    pub fn layers(self) -> usize {
        match self {
            Adaptor::None => 0,
            Adaptor::Linear { .. } => 1,
            Adaptor::Mlp => 2,
        }
    }

    /// Whether its layers have biases.
    pub fn has_bias(self) -> bool {
        matches!(self, Adaptor::Linear { bias: true } | Adaptor::Mlp)
    }
}

/// How a head is trained. Nothing here has a hidden default: an experiment states it all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the training images (160 in the paper).
    pub epochs: usize,
    /// Images per step (4 in the paper, 8 in the authors' run). The last batch of an epoch may be smaller.
    pub batch_images: usize,
    /// Standard deviation σ of the Gaussian noise that makes an anomalous feature of a normal one (Eq. 6; 0.015).
    pub noise: f64,
    /// What the discriminator is asked to minimise.
    pub loss: Loss,
    /// The optimiser of the adaptor. Without an adaptor it has nothing to do.
    pub adaptor_optimizer: Optimizer,
    /// The optimiser of the discriminator, biases and batch norm included.
    pub discriminator_optimizer: Optimizer,
    /// What the factors of matrix products are rounded to. Sums, weights, moments and everything elementwise are f32 either
    /// way. Not written where it is f32, which is what a configuration without it means: it keeps the meaning, and the
    /// SHA-256, that it had before there was a choice.
    #[serde(with = "PrecisionName", default = "full", skip_serializing_if = "is_full")]
    pub precision: Precision,
}

/// How a [`Precision`] is written, for `#[serde(with)]`; the kernels know no serialisation.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Precision", rename_all = "kebab-case")]
pub enum PrecisionName {
    /// `f32`.
    F32,
    /// `bf16`.
    Bf16,
}

fn full() -> Precision {
    Precision::F32
}

fn is_full(precision: &Precision) -> bool {
    *precision == Precision::F32
}

/// The training loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Loss {
    /// Truncated L1 (Eq. 7): mean of max(0, th⁺ − D(normal)) plus mean of max(0, −th⁻ + D(noised)).
    TruncatedL1 {
        /// th⁺ (0.5): a normal feature that scores above it teaches nothing any more.
        positive_margin: f64,
        /// th⁻ (−0.5): a noised feature that scores below it teaches nothing any more.
        negative_margin: f64,
    },
    /// Cross entropy with D as the logit of "normal": mean of softplus(−D(normal)) plus mean of softplus(D(noised)).
    CrossEntropy,
}

/// Adam or a relative of it, with PyTorch's β₁ = 0.9, β₂ = 0.999 and ε = 1e-8.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Optimizer {
    /// Where the weight decay enters.
    pub rule: Rule,
    /// Step size.
    pub learning_rate: f64,
    /// Weight decay; what it means is the rule's matter.
    pub weight_decay: f64,
}

/// Where the weight decay enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// `torch.optim.Adam`: the decay is added to the gradient, so the moments see it (L2).
    Adam,
    /// `torch.optim.AdamW`: every step first shrinks the parameter by `learning_rate × weight_decay` (decoupled).
    AdamW,
}

impl HeadConfig {
    /// Refuses a head without channels.
    pub fn check(&self) -> Result<()> {
        positive("dim", self.dim)?;
        positive("hidden", self.hidden)
    }
}

impl TrainConfig {
    /// Refuses numbers that cannot train: zero epochs, a noise that is not positive, margins that overlap, ...
    pub fn check(&self) -> Result<()> {
        positive("epochs", self.epochs)?;
        positive("batch-images", self.batch_images)?;
        require("noise", self.noise, self.noise > 0.0, "a positive number")?;
        if let Loss::TruncatedL1 {
            positive_margin,
            negative_margin,
        } = self.loss
        {
            require("positive-margin", positive_margin, true, "a number")?;
            let below = negative_margin < positive_margin;
            require(
                "negative-margin",
                negative_margin,
                below,
                "a number below positive-margin",
            )?;
        }
        self.adaptor_optimizer.check("adaptor-optimizer")?;
        self.discriminator_optimizer.check("discriminator-optimizer")
    }
}

impl Optimizer {
    fn check(&self, whose: &str) -> Result<()> {
        let rate = self.learning_rate;
        require(&format!("{whose}.learning-rate"), rate, rate > 0.0, "a positive number")?;
        let decay = self.weight_decay;
        require(
            &format!("{whose}.weight-decay"),
            decay,
            decay >= 0.0,
            "zero or a positive number",
        )
    }
}

fn positive(field: &str, value: usize) -> Result<()> {
    require(field, value as f64, value > 0, "at least 1")
}

fn require(field: &str, value: f64, holds: bool, expected: &'static str) -> Result<()> {
    if holds && value.is_finite() {
        return Ok(());
    }
    Err(Error::Config {
        field: field.to_string(),
        value,
        expected,
    })
}
