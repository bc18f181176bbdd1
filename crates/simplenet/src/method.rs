//! The three ways from patch features to scores, as configured and as fitted.

use std::ops::ControlFlow;
use std::sync::OnceLock;

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use simplenet_backbone::Layer;
use simplenet_heads::padim::{Padim, PadimConfig};
use simplenet_heads::patchcore::{Coreset, Distance, PatchCore, PatchCoreConfig, Reweight, Sampler, Scoring};
use simplenet_heads::{
    Adaptor, Bank, EpochReport, Head, ImageScores, LayeredScorer, Precision, Scorer, Standardizer, StoredTensor, train,
};

use crate::config::{Config, FeatureScale};
use crate::error::Error;

/// How patch features become scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Adaptor and discriminator, as [`Config::head`] and [`Config::train`] say.
    #[default]
    SimpleNet,
    /// The distance to a memory of normal features (Roth et al. 2022).
    PatchCore(PatchCoreConfig),
    /// The distance from a Gaussian for each position (Defard et al. 2021).
    Padim(PadimConfig),
}

/// A method, fitted to the features of normal images.
pub enum Model {
    /// See [`Method::SimpleNet`].
    SimpleNet(Box<Network>),
    /// See [`Method::PatchCore`].
    PatchCore(Box<PatchCore>),
    /// See [`Method::Padim`].
    Padim(Box<Padim>),
}

/// A trained head, and the same folded for inference.
pub struct Network {
    /// As trained.
    pub head: Head,
    /// As used.
    pub scorer: Scorer,
    /// As used where the stages are not joined yet; made when the first ones come.
    layered: OnceLock<Option<LayeredScorer>>,
    precision: Precision,
}

impl Network {
    /// A trained head, to score in a precision.
    ///
    /// # Errors
    /// As [`Head::scorer_in`].
    pub fn new(head: Head, precision: Precision) -> Result<Network, Error> {
        Ok(Network {
            scorer: head.scorer_in(precision)?,
            head,
            layered: OnceLock::new(),
            precision,
        })
    }

    /// Whether nothing but linear maps stands before the hidden units.
    pub fn is_linear(&self) -> bool {
        self.head.config().adaptor != Adaptor::Mlp
    }

    /// Patch scores of stages that are not joined yet: one for each position of the first one's grid, image by image;
    /// higher is more anomalous. The first call decides how the stages divide the head.
    ///
    /// # Errors
    /// As [`LayeredScorer::score`]; [`Error::Features`] where the head [is not linear](Network::is_linear).
    pub fn score_layers(&self, layers: &[Layer]) -> Result<Vec<f32>, Error> {
        let scorer = match self.layered.get() {
            Some(scorer) => scorer,
            None => {
                let columns: Vec<_> = layers.iter().map(|layer| layer.columns.clone()).collect();
                let made = self.head.layered_scorer(&columns, self.precision)?;
                self.layered.get_or_init(|| made)
            }
        };
        let scorer = scorer.as_ref().ok_or(Error::Features("an adaptor of two layers"))?;
        Ok(scorer.score(layers)?)
    }
}

impl Method {
    /// PatchCore with 10 % of the patches, selected as the authors' code does, and scored by distances as in Eq. 6.
    pub fn patchcore() -> Method {
        Method::PatchCore(PatchCoreConfig {
            coreset: Coreset {
                fraction: 0.1,
                sampler: Sampler::ApproximateGreedy { starting_points: 10 },
                projection: 128,
            },
            scoring: Scoring {
                nearest: 1,
                distance: Distance::Euclidean,
                reweight: Reweight::None,
            },
        })
    }

    /// PaDiM with 100 channels, the paper's for ResNet-18.
    pub fn padim() -> Method {
        Method::Padim(PadimConfig {
            channels: 100,
            regularisation: 0.01,
        })
    }

    /// Its name: `simplenet`, `patchcore` or `padim`.
    pub fn name(&self) -> &'static str {
        match self {
            Method::SimpleNet => "simplenet",
            Method::PatchCore(_) => "patchcore",
            Method::Padim(_) => "padim",
        }
    }

    /// Refuses numbers that make no sense.
    ///
    /// # Errors
    /// [`Error::Heads`].
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Method::SimpleNet => Ok(()),
            Method::PatchCore(config) => Ok(config.check()?),
            Method::Padim(config) => Ok(config.check()?),
        }
    }

    /// Whether it remembers features.
    pub(crate) fn is_patchcore(&self) -> bool {
        matches!(self, Method::PatchCore(_))
    }

    /// Whether it is trained by steps, with epochs to look at.
    pub(crate) fn is_simplenet(&self) -> bool {
        *self == Method::SimpleNet
    }
}

impl Model {
    /// Fits the configuration's method to a bank. `after_epoch` hears of SimpleNet's epochs and may end them; the other
    /// methods have none.
    ///
    /// # Errors
    /// As [`train`], [`PatchCore::fit`] or [`Padim::fit`].
    pub fn fit<E: From<Error>>(
        bank: &Bank,
        config: &Config,
        seed: u64,
        mut after_epoch: impl FnMut(&EpochReport, &Head) -> Result<ControlFlow<()>, E>,
    ) -> Result<Model, E> {
        match &config.method {
            Method::SimpleNet => {
                let mut head = Head::new(config.head_config(bank.dim()), seed).map_err(Error::Heads)?;
                if config.scale == FeatureScale::Standardised {
                    head.set_standardizer(Standardizer::fit(bank)).map_err(Error::Heads)?;
                }
                // The loop's error is either its own or the caller's.
                let result = train(&mut head, bank, &config.train, seed, |report, head| {
                    after_epoch(report, head).map_err(Either::Caller)
                });
                result.map_err(|error| match error {
                    Either::Heads(error) => E::from(Error::Heads(error)),
                    Either::Caller(error) => error,
                })?;
                Ok(Model::of_head(head, config.features.precision)?)
            }
            Method::PatchCore(config) => {
                let fitted = PatchCore::fit(bank, config, seed).map_err(Error::Heads)?;
                Ok(Model::PatchCore(Box::new(fitted)))
            }
            Method::Padim(config) => {
                let fitted = Padim::fit(bank, config, seed).map_err(Error::Heads)?;
                Ok(Model::Padim(Box::new(fitted)))
            }
        }
    }

    /// SimpleNet with a trained head, to score in a precision.
    ///
    /// # Errors
    /// As [`Head::scorer_in`].
    pub fn of_head(head: Head, precision: Precision) -> Result<Model, Error> {
        Ok(Model::SimpleNet(Box::new(Network::new(head, precision)?)))
    }

    /// The name of its method.
    pub fn name(&self) -> &'static str {
        match self {
            Model::SimpleNet(_) => "simplenet",
            Model::PatchCore(_) => "patchcore",
            Model::Padim(_) => "padim",
        }
    }

    /// Channels of a feature row.
    pub fn dim(&self) -> usize {
        match self {
            Model::SimpleNet(network) => network.scorer.dim(),
            Model::PatchCore(patchcore) => patchcore.dim(),
            Model::Padim(padim) => padim.dim(),
        }
    }

    /// Scores of the feature rows `[patches, dim]` of one image, one per row; higher is more anomalous.
    ///
    /// # Errors
    /// [`Error::Heads`] for rows of another shape, or a score that is not a number.
    pub fn score(&self, rows: &[f32]) -> Result<Vec<f32>, Error> {
        Ok(match self {
            Model::SimpleNet(network) => network.scorer.score(rows)?,
            Model::PatchCore(patchcore) => patchcore.score(rows)?,
            Model::Padim(padim) => padim.score(rows)?,
        })
    }

    /// The same with the score of the image: the largest one of its patches, which PatchCore may weight (Eq. 7).
    ///
    /// # Errors
    /// As [`Model::score`].
    pub fn score_image(&self, rows: &[f32]) -> Result<ImageScores, Error> {
        match self {
            Model::SimpleNet(_) => Ok(ImageScores::largest(self.score(rows)?)),
            Model::PatchCore(patchcore) => Ok(patchcore.score_image(rows)?),
            Model::Padim(padim) => Ok(padim.score_image(rows)?),
        }
    }

    /// Every tensor of it, each name behind `prefix`.
    pub fn stored_tensors(&self, prefix: &str) -> Vec<StoredTensor> {
        match self {
            Model::SimpleNet(network) => network.head.stored_tensors(prefix),
            Model::PatchCore(patchcore) => patchcore.stored_tensors(prefix),
            Model::Padim(padim) => padim.stored_tensors(prefix),
        }
    }

    /// The model whose tensors begin with `prefix`, for features of `dim` channels and `patches` per image.
    ///
    /// # Errors
    /// [`Error::Heads`] where the tensors are not those of such a model.
    pub fn from_tensors(
        file: &SafeTensors<'_>,
        prefix: &str,
        config: &Config,
        [dim, patches]: [usize; 2],
    ) -> Result<Model, Error> {
        let other = |found: String, expected: String| {
            simplenet_heads::Error::NotAHead(format!("it is for {found}, and its configuration makes {expected}"))
        };
        let model = match &config.method {
            Method::SimpleNet => {
                let head = Head::from_tensors(file, prefix)?;
                let expected = config.head_config(dim);
                if head.config() != &expected {
                    return Err(other(format!("{:?}", head.config()), format!("{expected:?}")).into());
                }
                Model::of_head(head, config.features.precision)?
            }
            Method::PatchCore(config) => {
                Model::PatchCore(Box::new(PatchCore::from_tensors(file, prefix, config.scoring)?))
            }
            Method::Padim(_) => Model::Padim(Box::new(Padim::from_tensors(file, prefix)?)),
        };
        if model.dim() != dim {
            return Err(other(format!("{} channels", model.dim()), dim.to_string()).into());
        }
        if let Model::Padim(padim) = &model
            && padim.positions() != patches
        {
            return Err(other(format!("{} patches per image", padim.positions()), patches.to_string()).into());
        }
        Ok(model)
    }
}

/// An error of the training loop, or of whom it calls.
enum Either<E> {
    Heads(simplenet_heads::Error),
    Caller(E),
}

impl<E> From<simplenet_heads::Error> for Either<E> {
    fn from(error: simplenet_heads::Error) -> Either<E> {
        Either::Heads(error)
    }
}
