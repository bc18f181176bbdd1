//! CIFAR-10 (Krizhevsky 2009) as ten one-class data sets: one class is normal, the other nine are anomalous.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sample::{Dataset, GOOD, Sample, Source};
use crate::{Error, Image8, Result, Rgb8, files};

/// The ten classes in order of their labels.
pub const CLASSES: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

/// All images with their labels. Listing and record files are held in memory, once for all ten data sets.
#[derive(Clone, Debug)]
pub struct Cifar10 {
    name: &'static str,
    train: Vec<Labelled>,
    test: Vec<Labelled>,
}

/// An image and its label, an index into [`CLASSES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// Where its pixels lie.
    pub source: Source,
    /// Its class, below 10.
    pub label: usize,
}

impl Cifar10 {
    /// Opens `root` in the layout it has: records if there is a `test_batch.bin` in it or in its
    /// `cifar-10-batches-bin`, else folders of classes.
    pub fn open(root: impl AsRef<Path>) -> Result<Cifar10> {
        let root = root.as_ref();
        for folder in [root.to_owned(), root.join("cifar-10-batches-bin")] {
            if folder.join("test_batch.bin").is_file() {
                return Cifar10::open_records(folder);
            }
        }
        if root.join("train").is_dir() {
            return Cifar10::open_folders(root);
        }
        Err(Error::NotThere {
            path: root.join("test_batch.bin"),
            hint: "expected data_batch_1.bin to data_batch_5.bin and test_batch.bin, or train/CLASS and test/CLASS"
                .to_owned(),
        })
    }

    /// Reads the official binary version: training images from every `data_batch_*.bin`, test images from
    /// `test_batch.bin`. A file may hold any whole number of records; [`Cifar10::is_complete`] tells a part from the whole.
    pub fn open_records(folder: impl AsRef<Path>) -> Result<Cifar10> {
        let folder = folder.as_ref();
        let mut train = Vec::new();
        for path in files::all(folder)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("data_batch_") && name.ends_with(".bin") {
                train.extend(records(path)?);
            }
        }
        if train.is_empty() {
            return Err(Error::NotThere {
                path: folder.join("data_batch_1.bin"),
                hint: "expected data_batch_1.bin to data_batch_5.bin and test_batch.bin".to_owned(),
            });
        }
        let test = records(folder.join("test_batch.bin"))?;
        Ok(Cifar10 {
            name: "cifar10",
            train,
            test,
        })
    }

    /// Lists `train/CLASS/*` and `test/CLASS/*`. Such copies are mostly JPEG and so not of the official pixels: their
    /// data sets are named `cifar10-folders`, so that no table mixes the two.
    pub fn open_folders(root: impl AsRef<Path>) -> Result<Cifar10> {
        let root = root.as_ref();
        let split = |split: &str| -> Result<Vec<Labelled>> {
            let mut images = Vec::new();
            for (label, class) in CLASSES.into_iter().enumerate() {
                let folder = root.join(split).join(class);
                if !folder.is_dir() {
                    let hint = format!("the folders of {split} are {}", CLASSES.join(", "));
                    return Err(Error::NotThere { path: folder, hint });
                }
                let paths = files::images(&folder)?;
                if paths.is_empty() {
                    return Err(Error::NoImages {
                        path: folder,
                        hint: format!("images of the class {class}"),
                    });
                }
                images.extend(paths.into_iter().map(|path| Labelled {
                    source: Source::File(path),
                    label,
                }));
            }
            Ok(images)
        };
        Ok(Cifar10 {
            name: "cifar10-folders",
            train: split("train")?,
            test: split("test")?,
        })
    }

    /// The training images of all classes.
    pub fn train(&self) -> &[Labelled] {
        &self.train
    }

    /// The test images of all classes. The `test` of every [`Cifar10::one_class`] has these sources in this order, so
    /// they need decoding, and their features computing, only once.
    pub fn test(&self) -> &[Labelled] {
        &self.test
    }

    /// `cifar10`, or `cifar10-folders` for a copy in folders.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether every class has its 5000 training and 1000 test images.
    pub fn is_complete(&self) -> bool {
        (0..CLASSES.len()).all(|class| {
            let count = |images: &[Labelled]| images.iter().filter(|image| image.label == class).count();
            count(&self.train) == 5000 && count(&self.test) == 1000
        })
    }

    /// The data set in which `class` (a name of [`CLASSES`]) is normal: it is trained on the training images of that
    /// class and tested on all test images.
    pub fn one_class(&self, class: &str) -> Result<Dataset> {
        let normal = CLASSES
            .iter()
            .position(|name| *name == class)
            .ok_or_else(|| Error::Class {
                class: class.to_owned(),
            })?;
        let train = self.train.iter().filter(|image| image.label == normal);
        let test = self.test.iter().map(|image| Sample {
            source: image.source.clone(),
            defect: if image.label == normal {
                GOOD
            } else {
                CLASSES[image.label]
            }
            .to_owned(),
            anomalous: image.label != normal,
            mask: None,
        });
        Ok(Dataset {
            name: self.name.to_owned(),
            category: class.to_owned(),
            train: train.map(|image| Sample::normal(image.source.clone())).collect(),
            test: test.collect(),
        })
    }
}

/// One image in a file of records: a label byte, then 32 rows of red, 32 of green and 32 of blue.
#[derive(Clone, Debug)]
pub struct Record {
    file: Arc<RecordFile>,
    index: usize,
}

#[derive(Debug)]
struct RecordFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Record {
    /// Width and height of every image.
    pub const SIDE: usize = 32;
    const PLANE: usize = Record::SIDE * Record::SIDE;
    const BYTES: usize = 1 + 3 * Record::PLANE;

    /// The file that holds the record.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The number of the record in its file, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn pixels(&self) -> Rgb8 {
        let planes = &self.file.bytes[self.index * Record::BYTES + 1..][..3 * Record::PLANE];
        let pixels = (0..Record::PLANE)
            .flat_map(|at| [planes[at], planes[Record::PLANE + at], planes[2 * Record::PLANE + at]])
            .collect();
        Image8::from_parts(Record::SIDE, Record::SIDE, pixels)
    }
}

/// Two records are the same when their place is.
impl PartialEq for Record {
    fn eq(&self, other: &Record) -> bool {
        self.index == other.index && self.file.path == other.file.path
    }
}

impl Eq for Record {}

fn records(path: PathBuf) -> Result<Vec<Labelled>> {
    let bytes = std::fs::read(&path).map_err(|source| Error::read(&path, source))?;
    let (records, rest) = (bytes.len() / Record::BYTES, bytes.len() % Record::BYTES);
    if rest != 0 || records == 0 {
        return Err(Error::PartialRecord {
            path,
            bytes: bytes.len(),
            records,
            record_bytes: Record::BYTES,
            rest,
        });
    }
    let file = Arc::new(RecordFile { path, bytes });
    (0..records)
        .map(|index| {
            let label = file.bytes[index * Record::BYTES];
            if usize::from(label) >= CLASSES.len() {
                return Err(Error::Label {
                    path: file.path.clone(),
                    record: index,
                    label,
                });
            }
            let record = Record {
                file: Arc::clone(&file),
                index,
            };
            Ok(Labelled {
                source: Source::Record(record),
                label: usize::from(label),
            })
        })
        .collect()
}
