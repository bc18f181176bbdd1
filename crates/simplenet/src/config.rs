//! Everything that decides what a detector computes, as one typed, checked value.

use serde::{Deserialize, Serialize};
use simplenet_backbone::{Arch, Embedding, FeatureConfig, Precision, Stage};
use simplenet_data::MaskRule;
use simplenet_heads::{Adaptor, HeadConfig, PrecisionName, TrainConfig};

use crate::error::Error;
use crate::method::Method;

/// A detector's configuration: from the size of the image to the optimisers.
///
/// It is the wire format of the experiment files (TOML, keys in kebab-case) and of the detector file. There are no defaults:
/// a configuration states everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Sizes in pixels.
    pub preprocess: Sizes,
    /// Backbone and patch embedding.
    pub features: Features,
    /// What makes scores of the features. Absent means SimpleNet, the subject of the experiment files, which were written
    /// and hashed before there was a choice; `scale`, `head` and `train` are SimpleNet's.
    #[serde(default, skip_serializing_if = "Method::is_simplenet")]
    pub method: Method,
    /// What the noise σ refers to.
    pub scale: FeatureScale,
    /// The trainable part.
    pub head: HeadShape,
    /// Its training.
    pub train: TrainConfig,
    /// How test images are scored and judged.
    pub evaluate: Evaluate,
}

/// The image's way to the backbone: shorter side to `resize`, then the central `crop` × `crop` pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sizes {
    /// Shorter side after resizing.
    pub resize: usize,
    /// Side of the crop.
    pub crop: usize,
}

/// The patch features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Features {
    /// The frozen network.
    pub backbone: Arch,
    /// Its stages, in the order of concatenation; the first gives the grid.
    pub stages: Vec<Stage>,
    /// Side p of the neighbourhood (Eq. 1), odd.
    pub patch: usize,
    /// How a neighbourhood becomes a vector.
    pub embedding: Embedding,
    /// Arithmetic of inference: of the backbone, and of the head where it scores. That of training is
    /// [`TrainConfig::precision`].
    #[serde(with = "PrecisionName")]
    pub precision: Precision,
}

/// What the noise σ refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeatureScale {
    /// The backbone's own units, as in the paper.
    Absolute,
    /// Features standardised per channel on the training images; σ is a fraction of a standard deviation.
    Standardised,
}

/// The head without its input width, which the features decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HeadShape {
    /// The feature adaptor (Eq. 5).
    pub adaptor: Adaptor,
    /// Width of the discriminator's hidden layer.
    pub hidden: usize,
}

/// How test images are scored and judged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Evaluate {
    /// Epochs between two evaluations on the test set; the last epoch is always one.
    pub every: usize,
    /// Which pixels of a resized mask are defective.
    pub mask: MaskRule,
    /// σ of the Gaussian that smooths the anomaly map, in pixels.
    pub blur_sigma: f32,
    /// False-positive rate up to which AUPRO integrates.
    pub aupro_limit: f64,
}

/// Beyond these a configuration is a mistake, or damaged: no backbone has a grid so large, or so many channels.
const LARGEST_PATCH: usize = 63;
const LARGEST_DIM: usize = 1 << 16;

impl Config {
    /// Refuses what no field's type can refuse: a crop larger than the image, an even neighbourhood, no stages.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::Config(what));
        let Sizes { resize, crop } = self.preprocess;
        if crop == 0 || crop > resize {
            return wrong(format!(
                "`preprocess.crop` is {crop}; it must be between 1 and `preprocess.resize` = {resize}"
            ));
        }
        if self.features.stages.is_empty() {
            return wrong("`features.stages` is empty; name at least one stage".into());
        }
        let stages = &self.features.stages;
        if let Some(twice) = (1..stages.len()).find(|&at| stages[..at].contains(&stages[at])) {
            return wrong(format!(
                "`features.stages` names `{}` twice; each stage is joined once",
                stages[twice].name()
            ));
        }
        if self.head.hidden == 0 || self.head.hidden > LARGEST_DIM {
            return wrong(format!(
                "`head.hidden` is {}; a discriminator has 1 to {LARGEST_DIM} hidden units",
                self.head.hidden
            ));
        }
        if self.features.patch > LARGEST_PATCH {
            return wrong(format!(
                "`features.patch` is {}; a neighbourhood has a side of at most {LARGEST_PATCH}",
                self.features.patch
            ));
        }
        if let Embedding::Code {
            pretrain_dim,
            target_dim,
        } = self.features.embedding
            && (pretrain_dim.min(target_dim) == 0 || pretrain_dim.max(target_dim) > LARGEST_DIM)
        {
            return wrong(format!(
                "`features.embedding.code` has {pretrain_dim} and {target_dim} channels; 1 to {LARGEST_DIM} make sense"
            ));
        }
        if self.features.patch.is_multiple_of(2) {
            return wrong(format!(
                "`features.patch` is {}; a neighbourhood has an odd side",
                self.features.patch
            ));
        }
        if self.evaluate.every == 0 {
            return wrong("`evaluate.every` is 0; it counts epochs and starts at 1".into());
        }
        if !(self.evaluate.aupro_limit > 0.0 && self.evaluate.aupro_limit <= 1.0) {
            return wrong(format!(
                "`evaluate.aupro-limit` is {}; it is a rate in (0, 1]",
                self.evaluate.aupro_limit
            ));
        }
        if !(self.evaluate.blur_sigma >= 0.0 && self.evaluate.blur_sigma.is_finite()) {
            return wrong(format!(
                "`evaluate.blur-sigma` is {}; it is a length in pixels",
                self.evaluate.blur_sigma
            ));
        }
        self.method.check()?;
        self.train.check().map_err(Error::Heads)
    }

    /// What the extractor needs of it.
    pub fn feature_config(&self) -> FeatureConfig {
        let Features {
            stages,
            patch,
            embedding,
            ..
        } = &self.features;
        FeatureConfig {
            stages: stages.clone(),
            patch: *patch,
            embedding: *embedding,
        }
    }

    /// What the head needs of it, for features of `dim` channels.
    pub fn head_config(&self, dim: usize) -> HeadConfig {
        HeadConfig {
            dim,
            hidden: self.head.hidden,
            adaptor: self.head.adaptor,
        }
    }
}
