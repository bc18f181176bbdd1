//! What can go wrong between a folder of images and a verdict.

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
    /// Post-processing of maps.
    #[error(transparent)]
    Maps(#[from] simplenet_kernels::maps::MapError),
    /// A metric that is not defined on what it was given.
    #[error(transparent)]
    Metric(#[from] simplenet_metrics::Error),
}
