//! Patch embedding on the host: feature maps of several layers to one row per patch.
//!
//! A patch is a position of the grid of the FIRST map; its row gathers the `p × p` neighbourhood of that position in
//! every map. Two ways are known:
//!
//! - [`mean_embed`], the text of SimpleNet (Eq. 1 to 3, Liu et al. 2023): the neighbourhood's mean in each layer, layers
//!   resized to the first, channels concatenated.
//! - [`code_embed`], the authors' code (`simplenet.py::_embed`, `common.py`): the neighbourhood as a vector of length
//!   `C · p · p`, averaged down to a fixed length per layer and again over all layers, so that channels mix.
//!
//! Neither unfolds a neighbourhood into memory: every average is linear, so it is taken on a layer's own, smaller grid
//! before that layer is resized. Rows do not depend on the number of threads.

mod bilinear;
mod code;
mod layers;
mod mean;

use thiserror::Error;

pub use self::layers::{Layer, Multiplied, Scratch, join, multiply_and_reduce};

use crate::engine::FeatureMap;
use crate::gemm::GemmError;

/// Patch features: one row per patch, image by image, top to bottom, left to right.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Images.
    pub n: usize,
    /// Rows of the patch grid.
    pub h: usize,
    /// Columns of the patch grid.
    pub w: usize,
    /// Length of a row.
    pub dim: usize,
    /// `[n * h * w, dim]`, row-major.
    pub data: Vec<f32>,
}

/// Why feature maps cannot be embedded.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatchError {
    /// There is no map.
    #[error("no feature map to embed")]
    NoMaps,
    /// A patch has no centre.
    #[error("a patch of side {0} has no centre\n\nhint: the patch size is odd: 1, 3, 5")]
    EvenPatch(usize),
    /// A dimension to embed into is zero.
    #[error("{0} is 0, and a row needs at least one value")]
    ZeroDimension(&'static str),
    /// A map holds nothing.
    #[error("feature map {map} is empty: {n} images of {h}×{w}×{c}")]
    EmptyMap {
        /// Which of the maps, from 0.
        map: usize,
        /// Images.
        n: usize,
        /// Rows.
        h: usize,
        /// Columns.
        w: usize,
        /// Channels.
        c: usize,
    },
    /// A map's data does not have its shape.
    #[error("feature map {map} holds {found} values, its shape asks for {expected}")]
    Length {
        /// Which of the maps, from 0.
        map: usize,
        /// As given.
        found: usize,
        /// As its shape says.
        expected: usize,
    },
    /// A matrix is not for its map.
    #[error(transparent)]
    Gemm(#[from] GemmError),
    /// A layer does not fit its columns of the row.
    #[error("layer {map} has {channels} channels and columns {columns:?}")]
    Columns {
        /// Which of the layers, from 0.
        map: usize,
        /// Of the row.
        columns: std::ops::Range<usize>,
        /// Of the layer.
        channels: usize,
    },
    /// Images that are not there.
    #[error("images {images:?} of {n}")]
    Image {
        /// As asked for.
        images: std::ops::Range<usize>,
        /// How many there are.
        n: usize,
    },
    /// Two maps belong to different batches.
    #[error("feature map {map} is of {found} images, the first one of {expected}")]
    Batch {
        /// Which of the maps, from 0.
        map: usize,
        /// Its images.
        found: usize,
        /// Images of the first map.
        expected: usize,
    },
}

/// The embedding of SimpleNet's text: zero-padded `patch × patch` mean in each map (zeros count: `count_include_pad`),
/// bilinear to the first map's grid (`align_corners = false`), channels one map after the other.
///
/// `maps[i]` is `[n, h_i, w_i, c_i]`; a row has `Σ c_i` values.
///
/// ```
/// use simplenet_kernels::{engine::FeatureMap, patch::mean_embed};
/// let map = FeatureMap { n: 1, h: 1, w: 3, c: 1, data: vec![9.0, 18.0, 27.0] };
/// let rows = mean_embed(&[&map], 3)?;
/// assert_eq!(rows.data, [3.0, 6.0, 5.0]);
/// # Ok::<(), simplenet_kernels::patch::PatchError>(())
/// ```
pub fn mean_embed(maps: &[&FeatureMap], patch: usize) -> Result<Rows, PatchError> {
    check(maps, patch)?;
    Ok(mean::embed(maps, patch))
}

/// The embedding of the authors' code: each map's zero-padded `patch × patch` neighbourhood as a vector in the order
/// (channel, row, column), resized bilinearly to the first map's grid, pooled adaptively to `pretrain_dim`; the vectors
/// of all maps one after the other, pooled adaptively to `target_dim`.
///
/// Adaptive bin `j` of `n` over `L` values covers `⌊jL/n⌋` up to, not including, `⌈(j+1)L/n⌉`: bins overlap where `L/n`
/// is fractional and repeat values where `L < n`, as PyTorch's do.
pub fn code_embed(
    maps: &[&FeatureMap],
    patch: usize,
    pretrain_dim: usize,
    target_dim: usize,
) -> Result<Rows, PatchError> {
    check(maps, patch)?;
    check_dimensions(pretrain_dim, target_dim)?;
    Ok(code::embed(maps, patch, pretrain_dim, target_dim))
}

/// [`mean_embed`] before layers are resized and joined.
///
/// # Errors
/// As [`mean_embed`].
pub fn mean_layers(maps: &[&FeatureMap], patch: usize) -> Result<Vec<Layer>, PatchError> {
    check(maps, patch)?;
    Ok(mean::layers(maps, patch))
}

/// [`code_embed`] before layers are resized and joined.
///
/// # Errors
/// As [`code_embed`].
pub fn code_layers(
    maps: &[&FeatureMap],
    patch: usize,
    pretrain_dim: usize,
    target_dim: usize,
) -> Result<Vec<Layer>, PatchError> {
    check(maps, patch)?;
    check_dimensions(pretrain_dim, target_dim)?;
    Ok(code::layers(maps, patch, pretrain_dim, target_dim))
}

/// The bins `[start, end)` of adaptive average pooling of `length` values to `bins`.
pub(crate) fn adaptive_bins(length: usize, bins: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..bins).map(move |bin| (bin * length / bins, ((bin + 1) * length).div_ceil(bins)))
}

fn check_dimensions(pretrain_dim: usize, target_dim: usize) -> Result<(), PatchError> {
    for (what, dim) in [("pretrain_dim", pretrain_dim), ("target_dim", target_dim)] {
        if dim == 0 {
            return Err(PatchError::ZeroDimension(what));
        }
    }
    Ok(())
}

fn check(maps: &[&FeatureMap], patch: usize) -> Result<(), PatchError> {
    let first = maps.first().ok_or(PatchError::NoMaps)?;
    if patch.is_multiple_of(2) {
        return Err(PatchError::EvenPatch(patch));
    }
    for (map, &&FeatureMap { n, h, w, c, ref data }) in maps.iter().enumerate() {
        let expected = n * h * w * c;
        if expected == 0 {
            return Err(PatchError::EmptyMap { map, n, h, w, c });
        }
        if data.len() != expected {
            let found = data.len();
            return Err(PatchError::Length { map, found, expected });
        }
        if n != first.n {
            let (found, expected) = (n, first.n);
            return Err(PatchError::Batch { map, found, expected });
        }
    }
    Ok(())
}
