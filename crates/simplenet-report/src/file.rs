//! Atomic writes: a reader sees the old file or the new one, never half of it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

use crate::{Error, Result};

/// Writes `bytes` to a temporary file in the same folder, makes it durable and renames it to `path`.
///
/// # Errors
/// When the folder is missing or cannot be written. What stood at `path` is then unchanged, or whole and replaced where only
/// its folder could not be made durable.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = temporary_beside(path, ".tmp")?;
    temporary.write_all(bytes).map_err(|e| Error::io("write", path, e))?;
    finish(temporary.into_temp_path(), path)
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

fn temporary_beside(path: &Path, suffix: &str) -> Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(suffix);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Temporary files are private by default; this one becomes a result that others may read. The umask applies.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder
        .tempfile_in(folder_of(path))
        .map_err(|e| Error::io("create a file beside", path, e))
}

fn finish(temporary: TempPath, path: &Path) -> Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .open(&temporary)
        .map_err(|e| Error::io("open", &temporary, e))?;
    file.sync_all().map_err(|e| Error::io("make durable", &temporary, e))?;
    drop(file);
    temporary
        .persist(path)
        .map_err(|e| Error::io("replace", path, e.error))?;
    // The rename itself is durable only with its folder. Windows cannot open folders and needs no such call.
    #[cfg(unix)]
    {
        let folder = folder_of(path);
        File::open(&folder)
            .and_then(|f| f.sync_all())
            .map_err(|e| Error::io("make durable", &folder, e))?;
    }
    Ok(())
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
