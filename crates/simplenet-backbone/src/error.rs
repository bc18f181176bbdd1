//! What can go wrong between a file and a row.

use std::path::PathBuf;

use simplenet_kernels::engine::EngineError;
use simplenet_kernels::graph::GraphError;
use simplenet_kernels::isa::IsaError;
use simplenet_kernels::patch::PatchError;
use thiserror::Error;

use crate::arch::{Arch, Stage};

/// Why a backbone could not be loaded or run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackboneError {
    // === Names ===
    /// Not a backbone.
    #[error("`{0}` is not a backbone\n\nhint: one of {names}", names = names(Arch::ALL.map(Arch::name)))]
    UnknownArch(String),
    /// Not a stage.
    #[error("`{0}` is not a stage\n\nhint: one of {names}", names = names(Stage::ALL.map(Stage::name)))]
    UnknownStage(String),

    // === Checkpoints ===
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a whole checkpoint.
    #[error(
        "{} is not a whole checkpoint: {reason}\n\nhint: .safetensors and PyTorch's .pth are read; if the download was cut \
         short, fetch the file again",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The checkpoint is of another backbone.
    #[error("{} looks like {found}, not {expected}\n\nhint: name the backbone {found}, or the weights of {expected}", path.display())]
    OtherArch {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        found: Arch,
        /// What was asked for.
        expected: Arch,
    },
    /// A tensor is not there.
    #[error("{} has no tensor `{tensor}`, which {arch} needs", path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// Its name.
        tensor: String,
        /// The backbone.
        arch: Arch,
    },
    /// A tensor has another shape.
    #[error("{}: `{tensor}` has shape {found:?}, expected {expected:?}", path.display())]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// Its name.
        tensor: String,
        /// As in the file.
        found: Vec<usize>,
        /// As the backbone has it.
        expected: Vec<usize>,
    },
    /// A tensor does not hold floating-point numbers that we read.
    #[error("{}: `{tensor}` holds {found}, expected f32, f16, bf16 or f64", path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// Its name.
        tensor: String,
        /// The type in the file.
        found: String,
    },
    /// A weight is NaN or infinite.
    #[error("{}: `{tensor}` holds NaN or infinite values", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// Its name.
        tensor: String,
    },
    /// There are no embedded weights.
    #[error("no weights of {0} are embedded\n\nhint: name a file of weights, or use efficientnet_lite0")]
    NotEmbedded(Arch),

    // === Features ===
    /// A stage is asked for that the backbone was not loaded up to.
    #[error("{arch} was loaded up to {last}, and {stage} is asked for\n\nhint: the embedded weights end at layer3")]
    StageNotLoaded {
        /// The backbone.
        arch: Arch,
        /// As asked.
        stage: Stage,
        /// The last there is.
        last: Stage,
    },
    /// No stage, or one twice.
    #[error("the stages {0:?} are no list of different stages")]
    Stages(Vec<Stage>),

    // === From below ===
    /// The network or its input does not fit.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The images cannot be run on this processor.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// `SIMPLENET_ISA` names something that cannot be used.
    #[error(transparent)]
    Isa(#[from] IsaError),
    /// The feature maps cannot be embedded.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// The device failed.
    #[error("the device failed")]
    Device(#[from] candle_core::Error),
}

fn names<const N: usize>(names: [&str; N]) -> String {
    names.join(", ")
}
