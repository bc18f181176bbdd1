use std::fmt;
use std::path::{Path, PathBuf};

use crate::cifar10::Record;
use crate::{Result, Rgb8, decode};

/// The defect name of a normal sample, as MVTec AD spells it.
pub const GOOD: &str = "good";

/// Where the pixels of a sample lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An image file.
    File(PathBuf),
    /// A record of a CIFAR-10 file, which is held in memory and shared by all its samples.
    Record(Record),
}

impl Source {
    /// Decodes the pixels. See [`Rgb8::open`] for files.
    pub fn decode(&self) -> Result<Rgb8> {
        match self {
            Source::File(path) => Rgb8::open(path),
            Source::Record(record) => Ok(record.pixels()),
        }
    }

    /// Width and height in pixels. A file's header is read, its pixels are not.
    pub fn dimensions(&self) -> Result<(usize, usize)> {
        match self {
            Source::File(path) => decode::dimensions(path),
            Source::Record(_) => Ok((Record::SIDE, Record::SIDE)),
        }
    }

    /// The file that holds the pixels.
    pub fn path(&self) -> &Path {
        match self {
            Source::File(path) => path,
            Source::Record(record) => record.path(),
        }
    }
}

/// The path of a file, or `FILE record N`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => path.display().fmt(f),
            Source::Record(record) => write!(f, "{} record {}", record.path().display(), record.index()),
        }
    }
}

/// One image and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where its pixels lie.
    pub source: Source,
    /// Name of the defect; [`GOOD`] for a normal sample.
    pub defect: String,
    /// Whether a detector should find it.
    pub anomalous: bool,
    /// The file that marks the defect. `None` for a normal sample, and for an anomalous one whose mask is missing.
    pub mask: Option<PathBuf>,
}

impl Sample {
    /// A normal sample.
    pub fn normal(source: Source) -> Sample {
        Sample {
            source,
            defect: GOOD.to_owned(),
            anomalous: false,
            mask: None,
        }
    }
}

/// Samples to learn normality from and samples to judge it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Name of the whole, such as `mvtec` or `cifar10`.
    pub name: String,
    /// The part of it that one detector is trained for: a product, a class.
    pub category: String,
    /// Normal samples, in order of their names.
    pub train: Vec<Sample>,
    /// Normal and anomalous samples, in order of defect and name. May be empty for a plain folder.
    pub test: Vec<Sample>,
}

impl Dataset {
    /// Whether any test sample has a mask. If not, only image metrics are defined.
    pub fn has_masks(&self) -> bool {
        self.test.iter().any(|sample| sample.mask.is_some())
    }

    /// The number of anomalous test samples without a mask. Pixel metrics over the others would be of another test set.
    pub fn missing_masks(&self) -> usize {
        self.test
            .iter()
            .filter(|sample| sample.anomalous && sample.mask.is_none())
            .count()
    }
}
