//! Images to patch rows, on the host or on a device.

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use simplenet_kernels::candle_graph::CandleGraph;
use simplenet_kernels::engine::{Engine, EngineConfig, Precision};
use simplenet_kernels::graph::ValueId;
use simplenet_kernels::isa::Isa;
use simplenet_kernels::patch::{self, Layer, PatchError, Rows};
use simplenet_kernels::patch_candle;

use crate::arch::{Arch, Stage};
use crate::backbone::Backbone;
use crate::error::BackboneError;

/// Which features describe a patch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureConfig {
    /// The stages that are joined. The first one gives the patch grid; the others are resized to it.
    pub stages: Vec<Stage>,
    /// Side of the neighbourhood that a patch gathers, in positions of each stage's own grid. Odd.
    pub patch: usize,
    /// How the neighbourhoods of all stages become one row.
    pub embedding: Embedding,
}

/// How the neighbourhoods of all stages become one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Embedding {
    /// The paper's text (Eq. 1 to 3, Liu et al. 2023): means, channels of the stages one after the other. See
    /// [`patch::mean_embed`].
    Mean,
    /// The authors' code (`common.py`): two adaptive poolings, in which channels mix. See [`patch::code_embed`].
    Code {
        /// Values per stage after the first pooling.
        pretrain_dim: usize,
        /// Length of a row.
        target_dim: usize,
    },
}

/// Images to patch rows on the host, through our own convolution engine.
pub struct Extractor {
    engine: Engine,
    source: Source,
}

/// Images to patch rows on a device of candle: a GPU, or the host as the reference.
pub struct DeviceExtractor {
    network: CandleGraph,
    source: Source,
}

/// What an extractor remembers of its backbone.
pub(crate) struct Source {
    pub(crate) arch: Arch,
    pub(crate) identity: String,
    pub(crate) config: FeatureConfig,
}

impl FeatureConfig {
    /// Length of a row.
    pub fn dim(&self, arch: Arch) -> usize {
        match self.embedding {
            Embedding::Mean => self.stages.iter().map(|stage| arch.channels(*stage)).sum(),
            Embedding::Code { target_dim, .. } => target_dim,
        }
    }

    /// Rows and columns of the patch grid for images of `height × width`.
    pub fn grid(&self, height: usize, width: usize) -> [usize; 2] {
        // Every convolution and pooling of the backbones halves a side upwards, or keeps it.
        let stride = self.stages.first().map_or(1, |stage| stage.stride());
        [height.div_ceil(stride), width.div_ceil(stride)]
    }

    /// The outputs of the backbone that it names.
    pub(crate) fn outputs(&self, backbone: &Backbone) -> Result<Vec<ValueId>, BackboneError> {
        let repeated = |at: usize| self.stages[..at].contains(&self.stages[at]);
        if self.stages.is_empty() || (0..self.stages.len()).any(repeated) {
            return Err(BackboneError::Stages(self.stages.clone()));
        }
        if self.patch.is_multiple_of(2) {
            return Err(PatchError::EvenPatch(self.patch).into());
        }
        if let Embedding::Code {
            pretrain_dim,
            target_dim,
        } = self.embedding
        {
            for (what, dim) in [("pretrain_dim", pretrain_dim), ("target_dim", target_dim)] {
                if dim == 0 {
                    return Err(PatchError::ZeroDimension(what).into());
                }
            }
        }
        self.stages.iter().map(|stage| backbone.tap(*stage)).collect()
    }
}

impl Extractor {
    /// Packs the backbone's weights for this processor, up to the last stage that `config` names. Fails where `config`
    /// contradicts itself or names a stage that is not loaded.
    pub fn new(backbone: &Backbone, config: FeatureConfig, precision: Precision) -> Result<Extractor, BackboneError> {
        let outputs = config.outputs(backbone)?;
        let isa = Isa::detect()?;
        let engine = Engine::compile(backbone.graph(), &outputs, EngineConfig { precision, isa })?;
        let source = Source::new(backbone, config);
        Ok(Extractor { engine, source })
    }

    /// One row per patch of normalised images `[n, 3, h, w]`, row-major; the result's `[n, h', w']` is
    /// [`FeatureConfig::grid`]. The same bytes for any number of threads. Fails where `images` does not have that shape,
    /// or there is no image.
    pub fn extract(&self, images: &[f32], shape: [usize; 4]) -> Result<Rows, BackboneError> {
        let maps = self.engine.run(images, shape)?;
        let maps: Vec<_> = maps.iter().collect();
        let FeatureConfig { patch, embedding, .. } = self.source.config;
        Ok(match embedding {
            Embedding::Mean => patch::mean_embed(&maps, patch)?,
            Embedding::Code {
                pretrain_dim,
                target_dim,
            } => patch::code_embed(&maps, patch, pretrain_dim, target_dim)?,
        })
    }

    /// What [`Extractor::extract`] makes, before the layers are resized and joined: one [`Layer`] `[n, h_i, w_i, c_i]` per
    /// stage, in the order of [`FeatureConfig::stages`]. Fails as `extract` does.
    pub fn extract_layers(&self, images: &[f32], shape: [usize; 4]) -> Result<Vec<Layer>, BackboneError> {
        let maps = self.engine.run(images, shape)?;
        let maps: Vec<_> = maps.iter().collect();
        let FeatureConfig { patch, embedding, .. } = self.source.config;
        Ok(match embedding {
            Embedding::Mean => patch::mean_layers(&maps, patch)?,
            Embedding::Code {
                pretrain_dim,
                target_dim,
            } => patch::code_layers(&maps, patch, pretrain_dim, target_dim)?,
        })
    }

    /// Of weights and feature maps.
    pub fn precision(&self) -> Precision {
        self.engine.config().precision
    }

    /// Length of a row.
    pub fn dim(&self) -> usize {
        self.source.dim()
    }

    /// As given.
    pub fn config(&self) -> &FeatureConfig {
        &self.source.config
    }

    /// The backbone.
    pub fn arch(&self) -> Arch {
        self.source.arch
    }

    /// The SHA-256 of the backbone's weights.
    pub fn identity(&self) -> &str {
        &self.source.identity
    }
}

impl DeviceExtractor {
    /// Copies the backbone's weights to `device`. Fails as [`Extractor::new`] does, or where the device does.
    pub fn new(backbone: &Backbone, config: FeatureConfig, device: &Device) -> Result<DeviceExtractor, BackboneError> {
        let outputs = config.outputs(backbone)?;
        let network = CandleGraph::new(backbone.graph(), &outputs, device)?;
        let source = Source::new(backbone, config);
        Ok(DeviceExtractor { network, source })
    }

    /// Rows `[n·h'·w', dim]` of normalised images `[n, 3, h, w]`, in the order of [`Extractor::extract`]. The images lie
    /// on the device, the rows stay on it.
    pub fn extract(&self, images: &Tensor) -> Result<Tensor, BackboneError> {
        let maps = self.network.run(images)?;
        let FeatureConfig { patch, embedding, .. } = self.source.config;
        Ok(match embedding {
            Embedding::Mean => patch_candle::mean_embed(&maps, patch)?,
            Embedding::Code {
                pretrain_dim,
                target_dim,
            } => patch_candle::code_embed(&maps, patch, pretrain_dim, target_dim)?,
        })
    }

    /// Length of a row.
    pub fn dim(&self) -> usize {
        self.source.dim()
    }

    /// As given.
    pub fn config(&self) -> &FeatureConfig {
        &self.source.config
    }
}

impl Source {
    pub(crate) fn new(backbone: &Backbone, config: FeatureConfig) -> Source {
        let identity = backbone.identity().to_string();
        Source {
            arch: backbone.arch(),
            identity,
            config,
        }
    }

    pub(crate) fn dim(&self) -> usize {
        self.config.dim(self.arch)
    }
}
