//! Files that are there whole or not at all.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Writes `bytes` to a temporary file in the same folder, makes it durable and renames it to `path`.
///
/// # Errors
/// [`Error::Write`]. What stood at `path` is then unchanged, or whole and replaced where only its folder could not be made
/// durable.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::Write {
        path: path.to_owned(),
        source,
    };
    let folder = folder_of(path);
    // Opened here and not by `tempfile`: it would make the file private, and name it in the reason of an error, where a person
    // looks for the name that they typed. This one becomes a result that others may read; the umask applies.
    let open = |path: &Path| File::options().write(true).create_new(true).open(path);
    let builder = &mut tempfile::Builder::new();
    let made = builder.prefix(".").suffix(".tmp").make_in(&folder, open);
    let mut temporary = made.map_err(failed)?;
    temporary.as_file_mut().write_all(bytes).map_err(failed)?;
    temporary.as_file().sync_all().map_err(failed)?;
    temporary.persist(path).map_err(|error| failed(error.error))?;
    // The rename is durable only with its folder. Windows cannot open folders and needs no such call.
    #[cfg(unix)]
    File::open(&folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)?;
    Ok(())
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
