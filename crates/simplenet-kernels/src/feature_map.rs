//! What a convolution network gives back on the host.

/// Feature maps of a batch on the host, channels last: element `(b, y, x, channel)` lies at
/// `((b * h + y) * w + x) * c + channel`.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureMap {
    /// Images.
    pub n: usize,
    /// Rows of the grid.
    pub h: usize,
    /// Columns of the grid.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// `n * h * w * c` values.
    pub data: Vec<f32>,
}
