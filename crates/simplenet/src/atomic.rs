//! Files that are there whole or not at all.

use std::path::Path;

use crate::error::Error;

/// [`simplenet_files::write_atomic`].
///
/// # Errors
/// [`Error::Write`] with the path.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    simplenet_files::write_atomic(path, bytes).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}
