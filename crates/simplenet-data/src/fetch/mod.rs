//! Downloads data sets and pretrained weights, once, and checks what is there.
//!
//! A [`Manifest`] (`data/manifest.toml`) names every source with its sum and licence. [`mvtec`], [`cifar10`] and [`weights`]
//! bring one of them into a data folder; [`verify`] tells which of them are there and whole. They are made of two parts that
//! stand alone: [`download`], which resumes and ends with the right bytes or an error, and [`extract`], which writes nothing
//! outside its folder.
//!
//! Everything appears under its final name only when it is complete and checked: `DATA/.download/NAME.part` becomes
//! `DATA/.download/NAME`, and `DATA/TARGET.tmp` becomes `DATA/TARGET`. Nothing is printed: a function that takes time tells a
//! callback how far it is, as [`Event`]s.
//!
//! ```
//! use simplenet_data::fetch::{self, Manifest, State};
//!
//! let manifest = Manifest::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/manifest.toml"))?;
//! assert_eq!(manifest.category("bottle")?.train, 209);
//!
//! # let data = tempfile::tempdir()?;
//! let findings = fetch::verify(&manifest, data.path(), &mut |_| {})?;
//! assert!(findings.iter().all(|finding| matches!(finding.state, State::Missing(_))));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod download;
mod error;
mod extract;
mod files;
mod http;
mod install;
mod manifest;
mod part;
mod sum;
mod verify;

use std::path::Path;
use std::time::Duration;

pub use download::{Download, Retry, download};
pub use error::{Error, Result};
pub use extract::{Limits, extract};
pub use install::{Installed, Options, cifar10, mvtec, weights, weights_with};
pub use manifest::{Archive, Cifar10Source, ImageCounts, Licence, Manifest, MvtecSource, WeightsSource};
pub use sum::{Sum, sha256};
pub use verify::{Finding, State, verify};

/// Who is told how far something is.
pub type Progress<'a> = &'a mut dyn FnMut(Event<'_>);

/// What happens while a function works. `name` is the name of the file it works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A request goes out.
    Requested {
        /// The file.
        name: &'a str,
        /// Where it comes from.
        url: &'a str,
    },
    /// A download goes on where an earlier one ended.
    Resuming {
        /// The file.
        name: &'a str,
        /// What is there.
        bytes: u64,
    },
    /// What is there is of no use; a download begins from nothing.
    Restarting {
        /// The file.
        name: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// Bytes came.
    Received {
        /// The file.
        name: &'a str,
        /// Those there are now.
        bytes: u64,
        /// Those there will be, if known.
        total: Option<u64>,
    },
    /// The connection failed; the next try follows after a pause.
    Retrying {
        /// The file.
        name: &'a str,
        /// Why.
        reason: &'a str,
        /// The pause.
        wait: Duration,
        /// Number of the next try since the last progress, from 2.
        attempt: u32,
        /// The last number before giving up.
        attempts: u32,
    },
    /// Bytes were read for a sum.
    Hashed {
        /// The file.
        name: &'a str,
        /// Those that were read.
        bytes: u64,
        /// Its size.
        total: u64,
    },
    /// Files were written.
    Extracted {
        /// The archive.
        name: &'a str,
        /// Bytes of the archive that were read.
        bytes: u64,
        /// Its size.
        total: u64,
    },
    /// A target that is damaged was moved away, not deleted: it may hold work.
    MovedAside {
        /// What it was.
        from: &'a Path,
        /// Where it is now.
        to: &'a Path,
    },
}

/// The last component of a path, for people.
fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
