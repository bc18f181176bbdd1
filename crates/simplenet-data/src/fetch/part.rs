//! A file that is not complete yet, and the note of which version its bytes are.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use ureq::http::HeaderMap;

use super::{Error, Result, files, http};

/// `NAME.part` with its note `NAME.part.toml`.
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) note: Option<Note>,
    file: File,
    note_path: PathBuf,
}

/// Which version of which file the bytes of a part belong to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Note {
    url: String,
    etag: Option<String>,
    last_modified: Option<String>,
    /// Size of the whole file.
    pub(super) total: Option<u64>,
}

impl Part {
    /// Opens what an earlier run left, or begins with nothing. A note that cannot be understood is no note.
    pub(super) fn open(folder: &Path, name: &str) -> Result<Part> {
        let path = folder.join(format!("{name}.part"));
        let note_path = folder.join(format!("{name}.part.toml"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io("write", &path))?;
        let note = match std::fs::read_to_string(&note_path) {
            Ok(text) => toml::from_str(&text).ok(),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io("read", &note_path)(error)),
        };
        Ok(Part {
            path,
            note,
            file,
            note_path,
        })
    }

    pub(super) fn length(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(Error::io("read", &self.path))?.len())
    }

    /// Back to nothing.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(Error::io("write", &self.path))?;
        self.note = None;
        files::remove(&self.note_path)
    }

    /// Writes the note, before the first byte that it is about, so that no byte is ever without one.
    pub(super) fn begin(&mut self, note: Note) -> Result<()> {
        let text = toml::to_string(&note).map_err(|error| Error::Manifest {
            path: self.note_path.clone(),
            reason: error.to_string(),
        })?;
        files::write(&self.note_path, &text)?;
        self.note = Some(note);
        Ok(())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .seek(SeekFrom::End(0))
            .and_then(|_| self.file.write_all(bytes))
            .map_err(Error::io("write", &self.path))
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(Error::io("write", &self.path))
    }

    /// Gives the complete file its name.
    pub(super) fn finish(self, target: &Path) -> Result<()> {
        files::rename(&self.path, target)?;
        files::remove(&self.note_path)
    }

    pub(super) fn remove(&self) -> Result<()> {
        files::remove(&self.path)?;
        files::remove(&self.note_path)
    }
}

impl Note {
    pub(super) fn new(url: &str, headers: &HeaderMap, total: Option<u64>) -> Note {
        let text = |name| http::header(headers, name).map(str::to_owned);
        Note {
            url: url.to_owned(),
            etag: text("etag"),
            last_modified: text("last-modified"),
            total,
        }
    }

    /// What `If-Range` may hold: a weak `ETag` does not promise equal bytes.
    pub(super) fn validator(&self) -> Option<&str> {
        let strong = self.etag.as_deref().filter(|etag| !etag.starts_with("W/"));
        strong.or(self.last_modified.as_deref())
    }

    /// Whether `have` bytes of this version can be completed. Without a validator, only a sum tells in the end that nothing
    /// was mixed.
    pub(super) fn allows_resuming(&self, url: &str, have: u64, has_sum: bool) -> bool {
        self.url == url && (has_sum || self.validator().is_some()) && self.total.is_none_or(|total| have <= total)
    }

    /// Whether something that both know is not the same.
    pub(super) fn contradicts(&self, other: &Note) -> bool {
        fn differ<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
            one.zip(other).is_some_and(|(one, other)| one != other)
        }
        differ(self.etag.as_ref(), other.etag.as_ref())
            || differ(self.last_modified.as_ref(), other.last_modified.as_ref())
            || differ(self.total.as_ref(), other.total.as_ref())
    }
}
