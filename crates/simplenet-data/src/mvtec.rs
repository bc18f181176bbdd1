//! MVTec AD (Bergmann et al., CVPR 2019), and any folder laid out like it:
//!
//! ```text
//! ROOT/CATEGORY/train/good/000.png
//! ROOT/CATEGORY/test/good/000.png
//! ROOT/CATEGORY/test/DEFECT/000.png
//! ROOT/CATEGORY/ground_truth/DEFECT/000_mask.png
//! ```

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::sample::{Dataset, GOOD, Sample, Source};
use crate::{Error, Result, files};

/// What a category shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A surface that fills the image.
    Texture,
    /// A thing in front of a background.
    Object,
}

/// The 15 categories of MVTec AD in the order of the paper's table 1: textures, then objects.
pub const CATEGORIES: [(&str, Kind); 15] = [
    ("carpet", Kind::Texture),
    ("grid", Kind::Texture),
    ("leather", Kind::Texture),
    ("tile", Kind::Texture),
    ("wood", Kind::Texture),
    ("bottle", Kind::Object),
    ("cable", Kind::Object),
    ("capsule", Kind::Object),
    ("hazelnut", Kind::Object),
    ("metal_nut", Kind::Object),
    ("pill", Kind::Object),
    ("screw", Kind::Object),
    ("toothbrush", Kind::Object),
    ("transistor", Kind::Object),
    ("zipper", Kind::Object),
];

/// The kind of a category of MVTec AD, or `None` for a category of one's own.
pub fn kind(category: &str) -> Option<Kind> {
    CATEGORIES
        .iter()
        .find(|(name, _)| *name == category)
        .map(|(_, kind)| *kind)
}

/// The categories that `root` holds, in order of name: its folders with a `train/good` in them.
pub fn categories(root: impl AsRef<Path>) -> Result<Vec<String>> {
    let root = root.as_ref();
    if !root.is_dir() {
        return Err(Error::NotThere {
            path: root.to_owned(),
            hint: "expected a folder of categories, each with train/good, test and ground_truth".to_owned(),
        });
    }
    let names: Vec<String> = files::folders(root)?
        .into_iter()
        .filter(|(_, folder)| folder.join("train").join(GOOD).is_dir())
        .map(|(name, _)| name)
        .collect();
    if !names.is_empty() {
        return Ok(names);
    }
    let hint = if root.join("train").join(GOOD).is_dir() {
        "this folder is itself a category; name the folder around it"
    } else {
        "expected at least one category in this folder"
    };
    Err(Error::NotThere {
        path: root.join("CATEGORY").join("train").join(GOOD),
        hint: hint.to_owned(),
    })
}

/// Lists one category: nothing is decoded. Fails when `train/good` or `test` is missing or holds no image.
pub fn load(root: impl AsRef<Path>, category: &str) -> Result<Dataset> {
    let folder = root.as_ref().join(category);
    if !folder.is_dir() {
        let hint = match categories(root) {
            Ok(names) => format!("the categories there are {}", names.join(", ")),
            Err(_) => "expected ROOT/CATEGORY/train/good".to_owned(),
        };
        return Err(Error::NotThere { path: folder, hint });
    }
    let train = train(&folder)?;
    let test_folder = folder.join("test");
    if !test_folder.is_dir() {
        return Err(Error::NotThere {
            path: test_folder,
            hint: "expected test/good and a folder for each defect, such as test/scratch".to_owned(),
        });
    }
    let test = test(&folder)?;
    if test.is_empty() {
        return Err(Error::NoImages {
            path: test_folder,
            hint: "images lie in test/good and test/DEFECT, not in test itself".to_owned(),
        });
    }
    Ok(Dataset {
        name: "mvtec".to_owned(),
        category: category.to_owned(),
        train,
        test,
    })
}

/// The samples of `folder/train/good`.
pub(crate) fn train(folder: &Path) -> Result<Vec<Sample>> {
    let good = folder.join("train").join(GOOD);
    if !good.is_dir() {
        return Err(Error::NotThere {
            path: good,
            hint: "images of normal parts lie in train/good".to_owned(),
        });
    }
    let paths = files::images(&good)?;
    if paths.is_empty() {
        return Err(Error::NoImages {
            path: good,
            hint: "a detector learns from images of normal parts (PNG, JPEG, BMP or TIFF) in this folder".to_owned(),
        });
    }
    Ok(paths
        .into_iter()
        .map(|path| Sample::normal(Source::File(path)))
        .collect())
}

/// The samples of `folder/test/*` with their masks. `folder/test` is a folder.
pub(crate) fn test(folder: &Path) -> Result<Vec<Sample>> {
    labelled(&folder.join("test"), &folder.join("ground_truth"))
}

/// The samples of `folder/*`, with the masks in `ground_truth/*` where there are any.
pub(crate) fn labelled(folder: &Path, ground_truth: &Path) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for (defect, path) in files::folders(folder)? {
        let images = files::images(&path)?;
        if defect == GOOD {
            samples.extend(images.into_iter().map(|path| Sample::normal(Source::File(path))));
            continue;
        }
        let masks = masks(&ground_truth.join(&defect))?;
        samples.extend(images.into_iter().map(|path| {
            let mask = path.file_stem().and_then(|stem| masks.get(stem)).cloned();
            Sample {
                source: Source::File(path),
                defect: defect.clone(),
                anomalous: true,
                mask,
            }
        }));
    }
    Ok(samples)
}

/// The masks in `folder` by the name of their image: `000_mask.png`, or else `000.png`, belongs to `000.*`.
fn masks(folder: &Path) -> Result<HashMap<OsString, PathBuf>> {
    let mut masks = HashMap::new();
    if !folder.is_dir() {
        return Ok(masks);
    }
    let mut plain = Vec::new();
    for path in files::images(folder)? {
        let Some(stem) = path.file_stem() else { continue };
        match stem.to_str().and_then(|stem| stem.strip_suffix("_mask")) {
            Some(image) => drop(masks.insert(OsString::from(image), path)),
            None => plain.push((stem.to_owned(), path)),
        }
    }
    for (stem, path) in plain {
        masks.entry(stem).or_insert(path);
    }
    Ok(masks)
}
