//! Which weights a backbone gets.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use simplenet_backbone::{Arch, Backbone, BackboneError, Checkpoint, Stage};

/// Weights that were found, with their identity.
pub(crate) enum Weights {
    /// A file.
    File { path: PathBuf, identity: String },
    /// In this program.
    Embedded { identity: String },
}

/// Where weights are looked for.
pub(crate) struct Arsenal<'a> {
    root: &'a Path,
    /// `--weights`, and the backbone that they are for.
    named: Option<(Arch, &'a Path)>,
}

impl<'a> Arsenal<'a> {
    pub(crate) fn new(root: &'a Path, backbone: Arch, file: Option<&'a Path>) -> Arsenal<'a> {
        Arsenal {
            root,
            named: file.map(|file| (backbone, file)),
        }
    }

    /// Whether `--weights` is for this backbone, so that it must not be left out.
    pub(crate) fn is_named(&self, arch: Arch) -> bool {
        self.named.is_some_and(|(named, _)| named == arch)
    }

    /// `--weights`, else data/weights, else the embedded ones. Weights of another backbone are refused.
    pub(crate) fn find(&self, arch: Arch) -> Result<Weights> {
        let description = arch.describe();
        let given = self
            .named
            .filter(|(named, _)| *named == arch)
            .map(|(_, file)| file.to_path_buf());
        let local = self
            .root
            .join("data/weights")
            .join(arch.name())
            .join("model.safetensors");
        if let Some(path) = given.or_else(|| local.is_file().then_some(local)) {
            let checkpoint = Checkpoint::open(&path)?;
            if let Some(found) = checkpoint.looks_like().filter(|found| *found != arch) {
                let expected = arch;
                bail!(BackboneError::OtherArch { path, found, expected });
            }
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
