//! A memory as safetensors: one tensor, `memory` `[vectors, dim]`.

use safetensors::SafeTensors;

use super::{NearestNeighbours, PatchCore, Scoring};
use crate::error::{Error, Result};
use crate::file::{StoredTensor, only_known, read, shape, store};

const MEMORY: &str = "memory";

impl PatchCore {
    /// Every tensor that makes this detector, each name behind `prefix`, for a file that holds other things as well.
    /// [`PatchCore::scoring`] is not a tensor and is for the caller to keep.
    pub fn stored_tensors(&self, prefix: &str) -> Vec<StoredTensor> {
        let shape = vec![self.vectors(), self.dim()];
        vec![store(format!("{prefix}{MEMORY}"), shape, self.memory.vectors())]
    }

    /// The detector whose tensors begin with `prefix`, to score as `scoring` says.
    ///
    /// # Errors
    /// [`Error::NotAHead`] where a tensor is missing, superfluous, of the wrong shape or type, or has unusable values;
    /// [`Error::Config`] where the scoring makes no sense or asks for more memory vectors than there are.
    pub fn from_tensors(file: &SafeTensors<'_>, prefix: &str, scoring: Scoring) -> Result<PatchCore> {
        only_known(file, prefix, &[MEMORY])?;
        let shape = shape(file, prefix, MEMORY)?;
        let &[vectors, dim] = shape.as_slice() else {
            return Err(Error::NotAHead(format!(
                "{prefix}{MEMORY} has shape {shape:?}, expected [vectors, dim]"
            )));
        };
        if vectors == 0 || dim == 0 {
            return Err(Error::NotAHead(format!(
                "{prefix}{MEMORY} has shape {shape:?}, which is empty"
            )));
        }
        let memory = read(file, prefix, MEMORY, &shape)?;
        PatchCore::new(NearestNeighbours::new(memory, dim)?, scoring)
    }
}
