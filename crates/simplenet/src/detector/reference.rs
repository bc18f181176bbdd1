//! Images kept in the detector file with their scores: if they no longer get them, something has changed.

use serde::{Deserialize, Serialize};
use simplenet_backbone::Precision;
use simplenet_data::Rgb8;

use super::Parts;
use crate::error::Error;

/// How far a score may move. Other instruction sets add in another order, which moves scores by 1e-5; another decoder,
/// network or head moves them by more than this.
const TOLERANCE: f32 = 1e-3;

/// The same in bf16, where another order of additions decides which way a feature is rounded, and instruction sets differ in what
/// else they round (the transformed inputs of Winograd's convolutions).
const TOLERANCE_BF16: f32 = 3e-2;

/// How far a score may move in this precision.
pub(super) fn tolerance(precision: Precision) -> f32 {
    match precision {
        Precision::F32 => TOLERANCE,
        Precision::Bf16 => TOLERANCE_BF16,
    }
}

/// A training image as the network sees it, and its score.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reference {
    pub(super) expected: Expected,
    /// `crop × crop` pixels.
    pub(super) pixels: Rgb8,
}

/// What a reference image is and what it should score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Expected {
    pub(super) file: String,
    pub(super) score: f32,
}

impl Reference {
    /// What the parts make of it now.
    pub(super) fn score(&self, parts: &Parts) -> Result<f32, Error> {
        score_crop(&self.pixels, parts)
    }
}

/// The largest patch score of a square as the network sees it, wherever in it.
pub(super) fn score_crop(crop: &Rgb8, parts: &Parts) -> Result<f32, Error> {
    let input = parts.pipeline.preprocess().normalise(crop);
    let features = parts.pipeline.features_for(parts.model, &input)?;
    let scores = parts.pipeline.score(parts.model, &features)?;
    Ok(scores.into_iter().fold(f32::NEG_INFINITY, f32::max))
}
