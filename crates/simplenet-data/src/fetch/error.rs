use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::sum::Sum;

/// Result of everything in [`crate::fetch`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a server and a folder of data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The manifest is not as it must be.
    #[error("{} is no manifest: {reason}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line.
        reason: String,
    },

    /// A name that the manifest does not have.
    #[error("the manifest has no {what} `{name}`\n\nhint: there are {known}")]
    Unknown {
        /// Weights or category.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },

    /// Nothing was downloaded, because the terms were not accepted.
    #[error(
        "{title} is under {licence} ({url}):\n\n    {terms}\n\nhint: run again with `--accept-license` if you accept this"
    )]
    Licence {
        /// What was asked for.
        title: String,
        /// Short name of the licence.
        licence: String,
        /// Where its text lies.
        url: String,
        /// What must be accepted.
        terms: String,
    },

    /// The operating system refused.
    #[error("cannot {action} {}: {source}{}", path.display(), io_hint(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// File or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// Another process works on the same file.
    #[error("another process holds {}\n\nhint: wait until it has finished", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
    },

    /// The server cannot be reached, or not trusted.
    #[error("cannot reach {url}: {reason}\n\nhint: {hint}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What the network layer said.
        reason: String,
        /// What to look at.
        hint: &'static str,
    },

    /// An answer that no second try will change.
    #[error("{url} answered {status}\n\nhint: {hint}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What to do.
        hint: &'static str,
    },

    /// The connection failed too often without a byte gained.
    #[error(
        "gave up on {url} after {attempts} tries without progress: {reason}\n\nhint: {bytes} bytes are kept; the same command goes on from there"
    )]
    GaveUp {
        /// What was asked for.
        url: String,
        /// Tries since the last progress.
        attempts: u32,
        /// The last reason.
        reason: String,
        /// What is on disk.
        bytes: u64,
    },

    /// The server offers a file of another size.
    #[error(
        "{url} offers {offered} bytes, but the file has {expected}\n\nhint: the address leads to another file now, or to a web page; open it in a browser, or name another source with `--url`"
    )]
    Size {
        /// What was asked for.
        url: String,
        /// From the manifest.
        expected: u64,
        /// From the server.
        offered: u64,
    },

    /// The download is complete but it is not the file.
    #[error(
        "{url} is not the expected file and was removed:\n    expected {expected}\n    received {received} ({bytes} bytes)\n\nhint: {hint}"
    )]
    WrongSum {
        /// Where it came from.
        url: String,
        /// From the manifest or an earlier download.
        expected: Sum,
        /// Of what came.
        received: Sum,
        /// Size of what came.
        bytes: u64,
        /// What to do.
        hint: &'static str,
    },

    /// A download that should be weights but is something else.
    #[error(
        "{url} is not a safetensors file and was removed\n\nhint: the server answered with something else, such as a web page; open the address in a browser"
    )]
    NotSafetensors {
        /// Where it came from.
        url: String,
    },

    /// An archive that ends too soon or whose bytes do not decode.
    #[error("archive {} is damaged: {source}\n\nhint: remove it, and the same command downloads it again", path.display())]
    DamagedArchive {
        /// The archive.
        path: PathBuf,
        /// The decoder's reason.
        source: std::io::Error,
    },

    /// Neither xz nor gzip.
    #[error("{} is no archive that can be read\n\nhint: tar files compressed with xz or gzip are recognised by their content", path.display())]
    ArchiveFormat {
        /// The file.
        path: PathBuf,
    },

    /// An entry that must not be extracted.
    #[error("refused entry `{entry}` of archive {}: {reason}\n\nhint: the archive is not what it claims to be; nothing was installed", path.display())]
    RefusedEntry {
        /// The archive.
        path: PathBuf,
        /// Name of the entry.
        entry: String,
        /// Why.
        reason: String,
    },

    /// More entries or bytes than an archive of images has.
    #[error("archive {} holds more than {limit} {what}\n\nhint: the archive is not what it claims to be; nothing was installed", path.display())]
    ArchiveLimit {
        /// The archive.
        path: PathBuf,
        /// Entries or bytes.
        what: &'static str,
        /// The most accepted.
        limit: u64,
    },

    /// The archive could be read, but does not hold the data.
    #[error("archive {} does not hold {wanted}: {problem}", path.display())]
    Contents {
        /// The archive.
        path: PathBuf,
        /// What was looked for.
        wanted: String,
        /// What is missing.
        problem: String,
    },
}

impl Error {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }
}

fn io_hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "\n\nhint: the disk is full; free some space (MVTec AD needs 11 GB while it is extracted) and run the same command again, it goes on from what is there"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "\n\nhint: choose a folder that you may write to"
        }
        ErrorKind::NotADirectory => "\n\nhint: a part of this path is a file, not a folder",
        _ => "",
    }
}
