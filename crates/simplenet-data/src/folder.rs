//! A plain folder of images, as it comes from a camera:
//!
//! ```text
//! FOLDER/0001.png               train: images of normal parts
//! FOLDER/test/good/0001.png     optional
//! FOLDER/test/DEFECT/0001.png   optional; `bad` is as good a name as any
//! FOLDER/ground_truth/DEFECT/0001_mask.png   optional
//! ```
//!
//! or a folder laid out like one category of [`mvtec`], with the training images in `train/good`. Images to measure by need
//! none to learn from beside them: [`labelled`].

use std::path::Path;

pub use crate::labelled::labelled;
use crate::sample::{Dataset, GOOD, Sample, Source};
use crate::{Error, Result, files, mvtec};

/// Lists a folder: nothing is decoded. Fails when it holds no training images, or holds them in both places.
pub fn load(folder: impl AsRef<Path>) -> Result<Dataset> {
    let folder = folder.as_ref();
    if !folder.is_dir() {
        return Err(Error::NotThere {
            path: folder.to_owned(),
            hint: "expected a folder with images of normal parts".to_owned(),
        });
    }
    let images = files::images(folder)?;
    let train = match (images.is_empty(), folder.join("train").is_dir()) {
        (false, false) => images
            .into_iter()
            .map(|path| Sample::normal(Source::File(path)))
            .collect(),
        (true, true) => mvtec::train(folder)?,
        (false, true) => {
            return Err(Error::Ambiguous {
                path: folder.to_owned(),
                first: "images in the folder itself",
                second: "images in train/good",
            });
        }
        (true, false) => {
            return Err(Error::NoImages {
                path: folder.to_owned(),
                hint: empty_hint(folder)?,
            });
        }
    };
    let test = if folder.join("test").is_dir() {
        mvtec::test(folder)?
    } else {
        Vec::new()
    };
    Ok(Dataset {
        name: "folder".to_owned(),
        category: name(folder),
        train,
        test,
    })
}

/// Every image directly in `folder`, for prediction: nothing is known about them. In order of name.
pub fn images(folder: impl AsRef<Path>) -> Result<Vec<Source>> {
    let folder = folder.as_ref();
    let images = files::images(folder)?;
    if images.is_empty() {
        return Err(Error::NoImages {
            path: folder.to_owned(),
            hint: empty_hint(folder)?,
        });
    }
    Ok(images.into_iter().map(Source::File).collect())
}

/// Says where images lie, if they lie one folder further down.
fn empty_hint(folder: &Path) -> Result<String> {
    let mut folders = files::folders(folder)?;
    // Who has `bad` and `good` wants to learn from the good ones.
    folders.sort_by_key(|(name, _)| name != GOOD);
    // A glob would take defects and masks as well, where they are known to lie there.
    let has_others = folders
        .iter()
        .any(|(name, _)| [GOOD, "test", "ground_truth"].contains(&name.as_str()));
    let mut with_images = Vec::new();
    for (name, path) in folders {
        if !files::images(&path)?.is_empty() {
            with_images.push(name);
        } else if with_images.is_empty() && path.join("train").join(GOOD).is_dir() {
            return Ok(format!("its folder {name} has a train/good; name that one"));
        }
    }
    match &with_images[..] {
        [] => {}
        // Any of them may be of defects, and so may what a glob takes.
        [first, _, ..] if !has_others => {
            return Ok(format!(
                "there are images in its folder {first} and {} more; name the one of good parts, or, where all are good parts, all of \
                 them with a glob in quotes: '{}'",
                with_images.len() - 1,
                folder.join("**").join("*").display()
            ));
        }
        [first, ..] => return Ok(format!("there are images in its folder {first}; name that one")),
    }
    Ok("PNG, JPEG, BMP and TIFF files are looked for, not in folders further down".to_owned())
}

/// The folder's own name, also for `.` and `..`.
fn name(folder: &Path) -> String {
    let resolved = folder.canonicalize();
    let path = resolved.as_deref().unwrap_or(folder);
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}
