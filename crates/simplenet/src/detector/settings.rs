//! What a detector is trained with, and the defaults that were measured.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use simplenet_backbone::{Arch, Embedding, Precision, Stage};
use simplenet_data::MaskRule;
use simplenet_heads::{Adaptor, Loss, Optimizer, Rule, TrainConfig};

use crate::config::{Config, Evaluate, FeatureScale, Features, HeadShape, Sizes};
use crate::error::Error;
use crate::method::Method;

/// Everything that [`crate::Detector::train`] needs to know besides the images. [`DetectorConfig::default`] is what
/// docs/detector.md measures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DetectorConfig {
    /// Features, head and training. `train.epochs` applies where [`DetectorConfig::steps`] is `None`.
    pub model: Config,
    /// Training steps; the number of epochs follows from the number of images, so that training takes as long for 40 images
    /// as for 400.
    pub steps: Option<usize>,
    /// Seed of weights, noise and order.
    pub seed: u64,
    /// Into how many parts the images are divided for held-out scores; every part is scored by a head that the others
    /// trained.
    pub folds: usize,
    /// The share of good parts that may be rejected.
    pub max_false_reject: f64,
    /// A region with fewer source pixels is no defect.
    pub min_defect_area: u64,
    /// A mask of the images' size: only its white part is judged.
    pub roi: Option<PathBuf>,
    /// A mask of the images' size: its white part is not judged.
    pub ignore: Option<PathBuf>,
    /// Weights of the backbone; `None` for those in this program.
    pub weights: Option<PathBuf>,
    /// Bytes of features that are kept in memory; beyond that they go to a temporary file.
    pub memory: u64,
}

impl Default for DetectorConfig {
    fn default() -> DetectorConfig {
        let adam = |learning_rate| Optimizer {
            rule: Rule::Adam,
            learning_rate,
            weight_decay: 1e-5,
        };
        DetectorConfig {
            model: Config {
                preprocess: Sizes { resize: 256, crop: 224 },
                features: Features {
                    backbone: Arch::EfficientNetLite0,
                    stages: vec![Stage::Layer2, Stage::Layer3],
                    patch: 3,
                    embedding: Embedding::Mean,
                    precision: Precision::F32,
                },
                method: Method::SimpleNet,
                scale: FeatureScale::Standardised,
                head: HeadShape {
                    adaptor: Adaptor::Linear { bias: false },
                    // The features have 152 channels, a tenth of the paper's; so has the hidden layer, roughly.
                    hidden: 256,
                },
                train: TrainConfig {
                    epochs: 160,
                    batch_images: 4,
                    noise: 0.3,
                    loss: Loss::TruncatedL1 {
                        positive_margin: 0.5,
                        negative_margin: -0.5,
                    },
                    adaptor_optimizer: adam(1e-4),
                    discriminator_optimizer: adam(2e-4),
                    precision: Precision::F32,
                },
                evaluate: Evaluate {
                    every: 4,
                    mask: MaskRule::Half,
                    blur_sigma: 4.0,
                    aupro_limit: 0.3,
                },
            },
            steps: Some(640),
            seed: 0,
            folds: 3,
            max_false_reject: 0.01,
            min_defect_area: 0,
            roi: None,
            ignore: None,
            weights: None,
            memory: 2 << 30,
        }
    }
}

impl DetectorConfig {
    /// The defaults for a backbone: 1024 hidden channels for the wide features of a ResNet, and the paper's noise for the
    /// paper's backbone, whose features it is a length in. The others have their features standardised.
    pub fn for_backbone(backbone: Arch) -> DetectorConfig {
        let mut config = DetectorConfig::default();
        config.model.features.backbone = backbone;
        if backbone != Arch::EfficientNetLite0 {
            config.model.head.hidden = 1024;
        }
        if backbone == Arch::WideResNet50_2 {
            config.model.scale = FeatureScale::Absolute;
            config.model.train.noise = 0.015;
        }
        config
    }

    /// Refuses what cannot train.
    ///
    /// # Errors
    /// [`Error::Config`], or as [`Config::check`].
    pub fn check(&self) -> Result<(), Error> {
        if self.steps == Some(0) {
            return Err(Error::Config("`steps` is 0; a head learns in steps".into()));
        }
        if self.folds < 2 {
            return Err(Error::Config(format!(
                "`folds` is {}; held-out scores take at least 2 parts",
                self.folds
            )));
        }
        if !(self.max_false_reject > 0.0 && self.max_false_reject < 1.0) {
            return Err(Error::Config(format!(
                "`max-false-reject` is {}; it is a rate between 0 and 1, 0.01 for one good part in a hundred",
                self.max_false_reject
            )));
        }
        self.model.check()
    }

    /// Epochs for a set of `images`.
    pub(crate) fn epochs(&self, images: usize) -> usize {
        let steps_per_epoch = images.div_ceil(self.model.train.batch_images.max(1)).max(1);
        self.steps
            .map_or(self.model.train.epochs, |steps| steps.div_ceil(steps_per_epoch))
    }
}
