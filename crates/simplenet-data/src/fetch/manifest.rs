use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;

use super::sum::Sum;
use super::{Error, Result};

/// Every source of data and weights: `data/manifest.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// MVTec AD.
    pub mvtec: MvtecSource,
    /// CIFAR-10 in its binary version.
    pub cifar10: Cifar10Source,
    /// Pretrained weights by the name of their network.
    pub weights: BTreeMap<String, WeightsSource>,
}

/// Where MVTec AD comes from and how many images each category has.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MvtecSource {
    /// Its name for people.
    pub title: String,
    /// Folder below the data folder.
    pub target: String,
    /// The publication to cite.
    pub citation: String,
    /// The download.
    pub archive: Archive,
    /// What may be done with it.
    pub licence: Licence,
    /// Number of images by category.
    pub images: BTreeMap<String, ImageCounts>,
}

/// Images of one category. Every anomalous one has a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageCounts {
    /// In `train/good`.
    pub train: usize,
    /// In `test`, normal and anomalous.
    pub test: usize,
    /// Width and height of each in pixels, where that is written down.
    #[serde(default)]
    pub side: Option<usize>,
}

/// Where CIFAR-10 comes from and how large its files are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cifar10Source {
    /// Its name for people.
    pub title: String,
    /// Folder below the data folder.
    pub target: String,
    /// The publication to cite.
    pub citation: String,
    /// The download.
    pub archive: Archive,
    /// What may be done with it.
    pub licence: Licence,
    /// Bytes by file name.
    pub files: BTreeMap<String, u64>,
}

/// Where pretrained weights come from. They go to `weights/ARCH/model.safetensors` below the data folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsSource {
    /// Repository on the Hugging Face hub.
    pub repository: String,
    /// File in it.
    pub file: String,
    /// Its sum; `None` where none is known before the first download.
    pub sum: Option<Sum>,
    /// What may be done with them.
    pub licence: Licence,
}

/// A file to download and extract.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Where it lies.
    pub url: String,
    /// Its name below the data folder's `.download`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its sum.
    pub sum: Sum,
}

/// Terms of use.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// Its short name.
    pub name: String,
    /// Where its text lies.
    pub url: String,
    /// What has to be accepted before anything is downloaded; `None` where nothing has to.
    pub accept: Option<String>,
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn read(path: impl AsRef<Path>) -> Result<Manifest> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Manifest::parse(&text, path)
    }

    /// Checks the text of a manifest; `path` names it in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Manifest> {
        let wrong = |reason: String| Error::Manifest {
            path: path.to_owned(),
            reason,
        };
        let manifest: Manifest = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let names = [
            &manifest.mvtec.target,
            &manifest.mvtec.archive.name,
            &manifest.cifar10.target,
            &manifest.cifar10.archive.name,
        ];
        let names = names
            .into_iter()
            .chain(manifest.mvtec.images.keys())
            .chain(manifest.cifar10.files.keys())
            .chain(manifest.weights.keys());
        for name in names {
            if !is_plain_name(name) {
                return Err(wrong(format!("`{name}` must be one name without separators")));
            }
        }
        Ok(manifest)
    }

    /// The weights of a network, or an error that lists those there are.
    pub fn weights(&self, arch: &str) -> Result<&WeightsSource> {
        self.weights.get(arch).ok_or_else(|| Error::Unknown {
            what: "weights",
            name: arch.to_owned(),
            known: known(self.weights.keys()),
        })
    }

    /// The number of images of a category, or an error that lists the categories.
    pub fn category(&self, name: &str) -> Result<ImageCounts> {
        self.mvtec.images.get(name).copied().ok_or_else(|| Error::Unknown {
            what: "category",
            name: name.to_owned(),
            known: known(self.mvtec.images.keys()),
        })
    }
}

fn known<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Whether a name stays in the folder it is joined to.
pub(super) fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!(components.next(), Some(Component::Normal(first)) if first == name) && components.next().is_none()
}
