//! Which weights a backbone gets.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use simplenet_backbone::{Arch, Backbone, Checkpoint, Stage};

/// Weights that were found, with their identity.
pub(crate) enum Weights {
    /// A file.
    File { path: PathBuf, identity: String },
    /// In this program.
    Embedded { identity: String },
}

/// `--weights`, else data/weights, else the embedded ones.
pub(crate) fn find(arch: Arch, given: Option<&Path>, root: &Path) -> Result<Weights> {
    let description = arch.describe();
    let local = root.join("data/weights").join(arch.name()).join("model.safetensors");
    let file = given
        .map(Path::to_path_buf)
        .or_else(|| local.is_file().then_some(local));
    if let Some(path) = file {
        let checkpoint = Checkpoint::open(&path)?;
        return Ok(Weights::File {
            path,
            identity: checkpoint.identity().to_string(),
        });
    }
    match description.embedded {
        Some(last) => Ok(Weights::Embedded {
            identity: Backbone::embedded(arch, last)?.identity().to_string(),
        }),
        None => bail!(
            "there are no weights for `{arch}`\n\nhint: `cargo xtask data fetch weights --backbone {arch}`, or name a checkpoint with \
             `--weights FILE`, or take the embedded `--backbone efficientnet_lite0`"
        ),
    }
}

impl Weights {
    /// The sha256 of the file, or of the embedded one.
    pub(crate) fn identity(&self) -> &str {
        match self {
            Weights::File { identity, .. } | Weights::Embedded { identity } => identity,
        }
    }

    /// The backbone up to and including `last`.
    pub(crate) fn load(&self, arch: Arch, last: Stage) -> Result<Backbone> {
        Ok(match self {
            Weights::File { path, .. } => Backbone::load(arch, path, last)?,
            Weights::Embedded { .. } => Backbone::embedded(arch, last)?,
        })
    }
}
