//! A pretrained network with its named outputs.

use std::path::Path;

use simplenet_kernels::graph::{Graph, ValueId};

use crate::arch::{Arch, Stage};
use crate::checkpoint::Checkpoint;
use crate::error::BackboneError;
use crate::resnet::Shape;
use crate::{efficientnet, resnet};

/// Stages and the values of the graph they are.
pub(crate) type Taps = Vec<(Stage, ValueId)>;

/// Provenance and licence: data/backbones/README.md.
static EMBEDDED: &[u8] = include_bytes!("../../../data/backbones/efficientnet_lite0.safetensors");

/// A pretrained network with its named outputs, batch normalisation folded.
#[derive(Debug, Clone)]
pub struct Backbone {
    graph: Graph,
    taps: Taps,
    arch: Arch,
    identity: String,
}

impl Backbone {
    /// Loads a file of weights, up to and including stage `last`; nothing behind it has to be in the file.
    pub fn load(arch: Arch, weights: &Path, last: Stage) -> Result<Backbone, BackboneError> {
        Backbone::from_checkpoint(arch, &Checkpoint::open(weights)?, last)
    }

    /// The weights inside this program, up to and including stage `last`: EfficientNet-Lite0 up to
    /// [`Stage::Layer3`]. Fails for every other backbone and for [`Stage::Layer4`].
    pub fn embedded(arch: Arch, last: Stage) -> Result<Backbone, BackboneError> {
        let reach = arch.describe().embedded.ok_or(BackboneError::NotEmbedded(arch))?;
        if last > reach {
            let (stage, last) = (last, reach);
            return Err(BackboneError::StageNotLoaded { arch, stage, last });
        }
        let checkpoint = Checkpoint::from_bytes(Path::new("embedded efficientnet_lite0"), EMBEDDED)?;
        Backbone::from_checkpoint(arch, &checkpoint, last)
    }

    /// Builds the network up to and including stage `last` from a checkpoint with torchvision's (ResNets) or timm's names,
    /// whose convolutions are followed by batch normalisation or have it folded into their biases.
    pub fn from_checkpoint(arch: Arch, checkpoint: &Checkpoint, last: Stage) -> Result<Backbone, BackboneError> {
        if let Some(found) = checkpoint.looks_like().filter(|found| *found != arch) {
            let path = checkpoint.path().to_path_buf();
            let expected = arch;
            return Err(BackboneError::OtherArch { path, found, expected });
        }
        let resnet = |blocks, bottleneck, width| {
            let shape = Shape {
                blocks,
                bottleneck,
                width,
            };
            resnet::build(arch, &shape, checkpoint, last)
        };
        let (graph, taps) = match arch {
            Arch::ResNet18 => resnet([2, 2, 2, 2], false, 64),
            Arch::ResNet34 => resnet([3, 4, 6, 3], false, 64),
            Arch::ResNet50 => resnet([3, 4, 6, 3], true, 64),
            Arch::ResNet101 => resnet([3, 4, 23, 3], true, 64),
            Arch::WideResNet50_2 => resnet([3, 4, 6, 3], true, 128),
            Arch::EfficientNetLite0 => efficientnet::build(checkpoint, last),
        }?;
        let identity = checkpoint.identity().to_string();
        Ok(Backbone {
            graph,
            taps,
            arch,
            identity,
        })
    }

    /// Which network it is.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// The SHA-256 of the weights' file ([`Checkpoint::identity`]).
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The network.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The loaded stages in the order they run, each with the value of [`Backbone::graph`] that it is.
    pub fn taps(&self) -> &[(Stage, ValueId)] {
        &self.taps
    }

    /// The value of the graph that a stage is.
    pub fn tap(&self, stage: Stage) -> Result<ValueId, BackboneError> {
        let found = self.taps.iter().find(|(loaded, _)| *loaded == stage);
        match (found, self.taps.last()) {
            (Some((_, value)), _) => Ok(*value),
            (None, Some(&(last, _))) => {
                let arch = self.arch;
                Err(BackboneError::StageNotLoaded { arch, stage, last })
            }
            (None, None) => Err(BackboneError::Stages(Vec::new())),
        }
    }
}
