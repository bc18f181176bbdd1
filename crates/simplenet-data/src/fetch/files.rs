//! Writing that survives a crash, and one writer at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::{Error, Result};

/// Writes a small file, whole or not at all.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    simplenet_files::write_atomic(path, text.as_bytes()).map_err(Error::io("write", path))
}

pub(super) fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(Error::io("create", path))
}

/// Renames and makes the new name durable.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(Error::io("rename to", to))?;
    let folder = simplenet_files::folder_of(to);
    simplenet_files::sync_folder(folder).map_err(Error::io("sync", folder))
}

/// Removes a file that may not be there.
pub(super) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A folder beside a target, where the target grows until it is whole. Dropped, it is gone: a failed extraction gives its
/// space back.
pub(super) struct Staging(PathBuf);

impl Staging {
    /// `TARGET.tmp`, without what an aborted run left there. The caller holds the target's lock.
    pub(super) fn beside(target: &Path) -> Result<Staging> {
        let path = target.with_added_extension("tmp");
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
            _ => Ok(Staging(path)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Nothing can be reported here; the next run removes what stays.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Held until dropped; two processes must not write the same file.
pub(super) fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(Error::io("write", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Busy { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", path)(error)),
    }
}
