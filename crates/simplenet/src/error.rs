//! What can go wrong between a folder of images and a verdict.

use std::path::PathBuf;

use thiserror::Error;

/// An error of one of the parts, or of their composition.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration whose values contradict each other.
    #[error("{0}")]
    Config(String),
    /// Reading images.
    #[error(transparent)]
    Data(#[from] simplenet_data::Error),
    /// Loading or running the backbone.
    #[error(transparent)]
    Backbone(#[from] simplenet_backbone::BackboneError),
    /// Training or running the head.
    #[error(transparent)]
    Heads(#[from] simplenet_heads::Error),
    /// A device that is not there, or cannot do what was asked.
    #[error("{0}")]
    Device(String),

    /// Stages that are not joined were to be scored by something that needs rows.
    #[error(
        "{0} scores joined rows, but was given the stages of the backbone\n\nhint: `Pipeline::features_for` makes what a model scores"
    )]
    Features(&'static str),
    /// Post-processing of maps.
    #[error(transparent)]
    Maps(#[from] simplenet_kernels::maps::MapError),
    /// A metric that is not defined on what it was given.
    #[error(transparent)]
    Metric(#[from] simplenet_metrics::Error),
    /// Scores or a rate that give no threshold.
    #[error("{0}")]
    Calibration(String),
    /// Too few images to learn from.
    #[error(
        "{readable} images can be read and {unreadable} cannot; at least 4 are needed{}\n\nhint: {}",
        .first.as_ref().map(|error| format!(" ({})", error.split("\n\n").next().unwrap_or(error))).unwrap_or_default(),
        too_few_hint(*.readable, .first.as_deref())
    )]
    TooFewImages {
        /// How many can be read.
        readable: usize,
        /// How many cannot.
        unreadable: usize,
        /// Why the first of these cannot.
        first: Option<String>,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file cannot be written. What was there before still is, unless it was replaced and only its folder could not be made
    /// durable.
    #[error("cannot write {}: {source}\n\nhint: name a place that has room and that you may write to", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file that is no detector, or no longer a whole one.
    #[error(
        "{} is not a whole detector file: {reason}\n\nhint: copy it again, or train it again; `simplenet train` writes such files", path.display()
    )]
    NotADetector {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The backbone at hand is not the one that the head was trained on.
    #[error(
        "{} was trained with a backbone of SHA-256 {expected}, and the one at hand has {found}\n\nhint: name its weights with --weights; --allow-drift uses the other backbone, whose scores mean nothing to this threshold", path.display()
    )]
    OtherBackbone {
        /// The detector file.
        path: PathBuf,
        /// The backbone it was trained with.
        expected: String,
        /// The backbone that was loaded.
        found: String,
    },
    /// A reference image no longer gets the score that is written in the file.
    #[error(
        "the scores of {} have drifted: its reference image {file} should score {expected} and scores {found}\n\nhint: this program computes something else than the one that trained the detector; train it again, or use --allow-drift knowing that the threshold no longer fits", path.display()
    )]
    Drift {
        /// The detector file.
        path: PathBuf,
        /// Name of the reference image.
        file: String,
        /// The score in the file.
        expected: f32,
        /// The score now.
        found: f32,
    },
    /// A state that no input can cause.
    #[error("{0}; this is a fault of the program")]
    Internal(&'static str),
}

/// Where no image can be read the reason of the first is mostly that of all.
fn too_few_hint(readable: usize, first: Option<&str>) -> &str {
    let of_first = first.and_then(|error| Some(error.split_once("\n\nhint: ")?.1));
    of_first
        .filter(|_| readable == 0)
        .unwrap_or("a hundred images of good parts make a good detector, and more make its promises better")
}
