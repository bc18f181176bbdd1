//! What a detector is trained with, and the defaults that were measured.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use simplenet_backbone::{Arch, Embedding, Precision, Stage};
use simplenet_data::MaskRule;
use simplenet_heads::patchcore::Reweight;
use simplenet_heads::{Adaptor, Loss, Optimizer, Rule, TrainConfig};

use super::file::MAX_BYTES;
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
    /// SimpleNet trains until held-out good images and the same with noise move no further apart, at most as long as
    /// without.
    pub auto_stop: bool,
    /// Squares of `preprocess.crop` pixels cover the whole picture, and neighbours share at least this many pixels; `None`
    /// for one square in the middle.
    pub overlap: Option<usize>,
    /// PatchCore remembers at most this many patches: beyond it training would take time by the square of the images.
    pub max_vectors: usize,
    /// Seed of weights, noise, order, coreset and channels.
    pub seed: u64,
    /// Into how many parts the images are divided for held-out scores; every part is scored by a model that was
    /// fitted to the others.
    pub folds: usize,
    /// The share of good parts that may be rejected.
    pub max_false_reject: f64,
    /// Whether that is to hold with 95 % confidence, and not only on average.
    pub confident: bool,
    /// A region with fewer source pixels is no defect.
    pub min_defect_area: u64,
    /// A mask of the images' size: only its white part is judged and learnt from.
    pub roi: Option<PathBuf>,
    /// A mask of the images' size: its white part is not judged and not learnt from.
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
                preprocess: Sizes { resize: 256, crop: 256 },
                features: Features {
                    backbone: Arch::EfficientNetLite0,
                    stages: vec![Stage::Layer2, Stage::Layer3],
                    patch: 3,
                    embedding: Embedding::Mean,
                    precision: Precision::F32,
                },
                method: Method::patchcore(),
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
            auto_stop: false,
            overlap: Some(64),
            max_vectors: 5_000,
            seed: 0,
            folds: 5,
            max_false_reject: 0.01,
            confident: false,
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

    /// The same with another method.
    pub fn with_method(mut self, method: Method) -> DetectorConfig {
        self.model.method = method;
        self
    }

    /// Refuses what cannot train.
    ///
    /// # Errors
    /// [`Error::Config`], or as [`Config::check`].
    pub fn check(&self) -> Result<(), Error> {
        if self.max_vectors == 0 {
            return Err(Error::Config(
                "`max-vectors` is 0; PatchCore needs something to remember".into(),
            ));
        }
        let dim = self.model.feature_config().dim(self.model.features.backbone);
        let bytes = (self.max_vectors as u64).saturating_mul(4 * dim as u64);
        if self.model.method.is_patchcore() && bytes > MAX_BYTES / 2 {
            return Err(Error::Config(format!(
                "`max-vectors` is {}, and with {dim} channels that is {} MB of memory; at most {} fit a detector file",
                self.max_vectors,
                bytes >> 20,
                MAX_BYTES / 2 / (4 * dim as u64),
            )));
        }
        if let Method::Padim(padim) = &self.model.method {
            let [rows, columns] = self
                .model
                .feature_config()
                .grid(self.model.preprocess.crop, self.model.preprocess.crop);
            let channels = padim.channels.min(dim) as u64;
            // A mean and half of a symmetric matrix for each position.
            let bytes = (4 * (rows * columns) as u64).saturating_mul(channels * (channels + 3) / 2);
            if bytes > MAX_BYTES / 2 {
                return Err(Error::Config(format!(
                    "PaDiM with {channels} channels at {rows} x {columns} positions is {} MB, and at most {} fit a detector file\n\nhint: choose a smaller picture, or another method",
                    bytes >> 20,
                    MAX_BYTES >> 21
                )));
            }
        }
        if let Some(overlap) = self.overlap {
            self.check_resize(overlap)?;
            self.check_tiles(overlap)?;
        }
        if let Method::PatchCore(patchcore) = &self.model.method
            && patchcore.scoring.reweight != Reweight::None
        {
            return Err(Error::Config(
                "`reweight` is for experiments; in a detector an image scores what its largest patch does, so that tiles and regions of interest mean the same for all methods".into(),
            ));
        }
        if self.steps == Some(0) {
            return Err(Error::Config("`steps` is 0; a head learns in steps".into()));
        }
        if self.folds < 2 {
            return Err(Error::Config(format!(
                "`folds` is {}\n\nhint: held-out scores take at least 2 parts",
                self.folds
            )));
        }
        if !(self.max_false_reject > 0.0 && self.max_false_reject < 1.0) {
            return Err(Error::Config(format!(
                "`max-false-reject` is {}\n\nhint: it is a rate between 0 and 1; 0.01 is one good part in a hundred",
                self.max_false_reject
            )));
        }
        self.model.check()
    }

    /// The squares follow from this size where nobody chose them, so it is to blame first.
    fn check_resize(&self, overlap: usize) -> Result<(), Error> {
        let resize = self.model.preprocess.resize;
        let stride = self.model.features.stages.first().map_or(1, |stage| stage.stride());
        let (patches, count) = if overlap == 0 {
            (1, "one patch")
        } else {
            (2, "two patches")
        };
        let least = patches * stride;
        if resize < least {
            return Err(Error::Config(format!(
                "`preprocess.resize` is {resize}\n\nhint: the shorter side takes at least {least} pixels, {count} of {stride}"
            )));
        }
        Ok(())
    }

    fn check_tiles(&self, overlap: usize) -> Result<(), Error> {
        let crop = self.model.preprocess.crop;
        let stride = self.model.features.stages.first().map_or(1, |stage| stage.stride());
        let wrong = |reason: String| Err(Error::Config(reason));
        if !crop.is_multiple_of(stride) {
            return wrong(format!(
                "`preprocess.crop` is {crop}\n\nhint: the side of squares that join is a multiple of {stride}, the side of a patch"
            ));
        }
        if overlap > crop / 2 {
            return wrong(format!(
                "`overlap` is {overlap}; at most half of `preprocess.crop` = {crop} makes sense"
            ));
        }
        // Squares overlap by whole patches, and each has to reach beyond the one before.
        if overlap.div_ceil(stride) >= crop / stride {
            return wrong(format!(
                "`preprocess.crop` is {crop}, {} times the {stride} pixels of a patch, and `overlap` = {overlap} takes all of them; make \
                 the squares larger or the overlap smaller",
                crop / stride
            ));
        }
        Ok(())
    }

    /// Epochs for a set of `images`, or squares of images.
    pub(crate) fn epochs(&self, images: usize) -> usize {
        let steps_per_epoch = images.div_ceil(self.model.train.batch_images.max(1)).max(1);
        self.steps
            .map_or(self.model.train.epochs, |steps| steps.div_ceil(steps_per_epoch))
    }
}
