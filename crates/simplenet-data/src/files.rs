//! What lies in a folder, always in order of name: the order that a directory gives differs between machines.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "tif", "tiff"];

/// The image files directly in `folder`. Other files and hidden ones are passed over.
pub(crate) fn images(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(all(folder)?
        .into_iter()
        .filter(|path| is_image(path) && path.is_file())
        .collect())
}

/// The folders directly in `folder` with their names, without hidden ones.
pub(crate) fn folders(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    all(folder)?
        .into_iter()
        .filter(|path| path.is_dir())
        .map(|path| match path.file_name().and_then(|name| name.to_str()) {
            Some(name) => Ok((name.to_owned(), path)),
            None => Err(Error::FolderName { path }),
        })
        .collect()
}

/// Everything directly in `folder` that is not hidden.
pub(crate) fn all(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::read(folder, source);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // Hidden: macOS writes a `._000.png` beside every `000.png` on foreign disks.
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Whether a file has the name of an image that is decoded: PNG, JPEG, BMP or TIFF by its ending.
pub fn is_image(path: &Path) -> bool {
    let Some(extension) = path.extension().and_then(|extension| extension.to_str()) else {
        return false;
    };
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}
