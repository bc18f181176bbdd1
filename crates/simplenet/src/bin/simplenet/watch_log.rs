//! The log of judged files: appended, synced, and read again at the start.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::rows::Line;

/// What tells a file from another one of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) bytes: u64,
    /// Nanoseconds since 1970.
    pub(crate) modified_ns: u64,
}

/// A line of the log.
#[derive(Serialize)]
pub(crate) struct Entry<'a> {
    #[serde(skip)]
    pub(crate) name: PathBuf,
    #[serde(flatten)]
    pub(crate) line: Line<'a>,
    /// Which detector file judged it.
    pub(crate) model: &'a str,
    /// When: UTC.
    pub(crate) time: &'a str,
    #[serde(flatten)]
    pub(crate) stamp: Stamp,
}

/// What of a line is read back.
#[derive(Deserialize)]
struct Key {
    file: String,
    #[serde(flatten)]
    stamp: Stamp,
    /// Older programs wrote none.
    model: Option<String>,
}

pub(crate) struct Log {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    length: u64,
    /// 16 bytes per judged file: a million of them take 32 MB.
    judged: HashSet<[u8; 16]>,
    /// Lines of other detectors, and whether the last line is one of them.
    others: usize,
    last_is_other: bool,
}

impl Log {
    /// Reads a log, or begins one. Half a line at its end, from a process that was killed in the middle of it, is cut off:
    /// that file is judged again and gets its only line. `model` is the detector that will go on.
    pub(crate) fn open(path: &Path, model: &str) -> Result<Log> {
        let failed = || format!("cannot open the log {}", path.display());
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .with_context(failed)?;
        let mut log = Log {
            path: path.to_owned(),
            file: file.try_clone().with_context(failed)?,
            length: 0,
            judged: HashSet::new(),
            others: 0,
            last_is_other: false,
        };
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).with_context(failed)?;
            if read == 0 || line.last() != Some(&b'\n') {
                break;
            }
            let key: Key = serde_json::from_slice(&line).with_context(|| {
                format!(
                    "{} is damaged at byte {}\n\nhint: move it away and keep it; a new one begins with all files that are in the folder",
                    path.display(),
                    log.length
                )
            })?;
            log.judged.insert(digest(Path::new(&key.file), key.stamp));
            log.length += read as u64;
            log.last_is_other = key.model.is_some_and(|of| of != model);
            log.others += usize::from(log.last_is_other);
        }
        log.file.set_len(log.length).with_context(failed)?;
        log.file.seek(SeekFrom::Start(log.length)).with_context(failed)?;
        // The file's name is durable only with its folder.
        #[cfg(unix)]
        if let Some(folder) = path.parent() {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .with_context(failed)?;
        }
        Ok(log)
    }

    /// Number of files that are judged.
    pub(crate) fn len(&self) -> usize {
        self.judged.len()
    }

    /// What to say where another detector wrote the last line: its files keep their verdicts.
    pub(crate) fn of_another(&self) -> Option<String> {
        let files = match self.others {
            1 => "1 file in the log was judged by another detector, or with another threshold, and is not judged again"
                .into(),
            others => format!(
                "{others} files in the log were judged by another detector, or with another threshold, and are not judged again"
            ),
        };
        self.last_is_other
            .then(|| format!("note: {files}; a new --out judges all anew"))
    }

    pub(crate) fn has(&self, name: &Path, stamp: Stamp) -> bool {
        self.judged.contains(&digest(name, stamp))
    }

    /// Appends lines and makes them durable. Where that fails, on a full disk, none of them is left.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> Result<()> {
        let mut text = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut text, entry)?;
            text.push(b'\n');
        }
        let written = self.file.write_all(&text).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // The next start cuts half a line off as well; this keeps whole lines out that were not made durable.
            let _ = self.file.set_len(self.length);
            return Err(error).with_context(|| format!("cannot write the log {}", self.path.display()));
        }
        self.length += text.len() as u64;
        for entry in entries {
            self.judged.insert(digest(&entry.name, entry.stamp));
        }
        Ok(())
    }
}

fn digest(name: &Path, stamp: Stamp) -> [u8; 16] {
    let text = format!("{}\n{}\n{}", name.display(), stamp.bytes, stamp.modified_ns);
    let whole: [u8; 32] = Sha256::digest(text).into();
    std::array::from_fn(|index| whole[index])
}
