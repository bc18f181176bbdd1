//! What a detector says of one image.

/// The scores of an image; higher is more anomalous.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageScores {
    /// One score per patch, in the order of the rows.
    pub patches: Vec<f32>,
    /// The score of the whole image.
    pub image: f32,
}

impl ImageScores {
    /// An image is as anomalous as its most anomalous patch; −∞ without patches.
    pub fn largest(patches: Vec<f32>) -> ImageScores {
        let image = patches.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        ImageScores { patches, image }
    }
}
