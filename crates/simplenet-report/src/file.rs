//! Whole files, and one writer at a time.

use std::fs::{File, OpenOptions};
use std::path::Path;

use crate::{Error, Result};

/// [`simplenet_files::write_atomic`].
///
/// # Errors
/// As there, with the path.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    simplenet_files::write_atomic(path, bytes).map_err(|error| Error::io("write", path, error))
}

/// An exclusive lock that every writer of one file takes; released when dropped, also when the process dies.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock of `path`. The lock file stays: removing it would let two writers lock different files.
    pub(crate) fn exclusive(path: &Path) -> Result<Lock> {
        let lock_path = path.with_added_extension("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|e| Error::io("open", &lock_path, e))?;
        file.lock().map_err(|e| Error::io("lock", &lock_path, e))?;
        Ok(Lock { _file: file })
    }
}
