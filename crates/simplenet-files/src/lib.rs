//! Files that are there whole or not at all, for every crate that writes results: a reader sees the old file or the new one,
//! and a crash or a full disk leaves the old one.
//!
//! Errors are the system's own, without a path: who calls knows which file was asked for, and says it in its own words.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Writes `bytes` to a temporary file in the same folder, makes it durable and renames it to `path`.
///
/// # Errors
/// Where the folder is missing or cannot be written, or `path` cannot be replaced. What stood there is then unchanged, or whole
/// and replaced where only its folder could not be made durable.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    // Opened here and not by `tempfile`: it would make the file private, and name it in the reason of an error, where a person
    // looks for the name that they typed. This one becomes a result that others may read; the umask applies.
    let open = |path: &Path| File::options().write(true).create_new(true).open(path);
    let mut temporary = tempfile::Builder::new()
        .prefix(".")
        .suffix(".tmp")
        .make_in(folder, open)?;
    temporary.as_file_mut().write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// Makes what was created, renamed or removed in a folder durable. Elsewhere than on Unix a folder cannot be opened for that,
/// and nothing is done.
///
/// # Errors
/// Where the folder cannot be opened or the system cannot write.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(folder)?.sync_all(),
        false => Ok(()),
    }
}

/// The folder in which a path lies; `.` where it is a name alone.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
