//! Gaussians as safetensors: `channels` `[channels]`, `mean` `[positions, channels]`, `factor`
//! `[positions, channels·(channels + 1)/2]` (the Cholesky factor, column after column from the diagonal down), and `dim` `[1]`,
//! the channels of a feature row.

use safetensors::{Dtype, SafeTensors};

use super::Padim;
use super::cholesky::packed_len;
use crate::error::{Error, Result};
use crate::file::{StoredTensor, only_known, read, read_indices, shape, store};

const DIM: &str = "dim";
const CHANNELS: &str = "channels";
const MEAN: &str = "mean";
const FACTOR: &str = "factor";

impl Padim {
    /// Every tensor that makes this detector, each name behind `prefix`, for a file that holds other things as well.
    pub fn stored_tensors(&self, prefix: &str) -> Vec<StoredTensor> {
        let (positions, count) = (self.positions, self.channels.len());
        let indices = |name: &str, values: &[usize]| StoredTensor {
            name: format!("{prefix}{name}"),
            shape: vec![values.len()],
            dtype: Dtype::I64,
            bytes: values.iter().flat_map(|&value| (value as i64).to_le_bytes()).collect(),
        };
        vec![
            indices(DIM, &[self.dim]),
            indices(CHANNELS, &self.channels),
            store(format!("{prefix}{MEAN}"), vec![positions, count], &self.mean),
            store(
                format!("{prefix}{FACTOR}"),
                vec![positions, packed_len(count)],
                &self.factor,
            ),
        ]
    }

    /// The detector whose tensors begin with `prefix`.
    ///
    /// # Errors
    /// [`Error::NotAHead`] where a tensor is missing, superfluous, of the wrong shape or type, or has unusable values.
    pub fn from_tensors(file: &SafeTensors<'_>, prefix: &str) -> Result<Padim> {
        only_known(file, prefix, &[DIM, CHANNELS, MEAN, FACTOR])?;
        let dim = read_indices(file, prefix, DIM)?;
        let &[dim] = dim.as_slice() else {
            return Err(Error::NotAHead(format!(
                "{prefix}{DIM} has {} values, expected 1",
                dim.len()
            )));
        };
        let channels = read_indices(file, prefix, CHANNELS)?;
        let rising = channels.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || channels.last().is_none_or(|&last| last >= dim) {
            return Err(Error::NotAHead(format!(
                "{prefix}{CHANNELS} is not a rising list of channels below {dim}"
            )));
        }
        let shape = shape(file, prefix, MEAN)?;
        let positions = shape.first().copied().unwrap_or(0);
        if positions == 0 {
            return Err(Error::NotAHead(format!("{prefix}{MEAN} has no positions")));
        }
        let mean = read(file, prefix, MEAN, &[positions, channels.len()])?;
        let size = packed_len(channels.len());
        let factor: Vec<f32> = read(file, prefix, FACTOR, &[positions, size])?;
        for (position, factor) in factor.chunks_exact(size).enumerate() {
            let mut diagonal = 0;
            for length in (1..=channels.len()).rev() {
                if factor[diagonal] <= 0.0 {
                    let value = factor[diagonal];
                    return Err(Error::NotAHead(format!(
                        "{prefix}{FACTOR} has {value} on the diagonal of position {position}"
                    )));
                }
                diagonal += length;
            }
        }
        Ok(Padim {
            dim,
            channels,
            positions,
            mean,
            factor,
        })
    }
}
