//! Labelled images: a folder `good`, and one for each kind of defect.

use std::path::{Path, PathBuf};

use crate::sample::{GOOD, Sample};
use crate::{Error, Result, files, mvtec};

/// MVTec AD's name for the folder of masks.
const MASKS: &str = "ground_truth";
const TEST: &str = "test";
const TRAIN: &str = "train";

/// Lists labelled images, to measure by: nothing is decoded, and images to learn from are not looked at. `folder` is one of
///
/// ```text
/// FOLDER/test/good/0001.png, FOLDER/test/DEFECT/0001.png    such as a category of MVTec AD
/// FOLDER/good/0001.png, FOLDER/DEFECT/0001.png              such as its folder `test`
/// ```
///
/// with masks, where there are any, in `ground_truth/DEFECT/0001_mask.png` beside the folder `test`, or beside `good`. So
/// `ground_truth` is no kind of defect, and `train` is none either. Fails where good or defective images are missing.
pub fn labelled(folder: impl AsRef<Path>) -> Result<Vec<Sample>> {
    let folder = folder.as_ref();
    if !folder.is_dir() {
        return Err(Error::NotThere {
            path: folder.to_owned(),
            hint: format!("expected a folder with labelled images: {LAYOUT}"),
        });
    }
    let (images, masks) = places(folder)?;
    let mut samples = mvtec::labelled(&images, &masks)?;
    samples.retain(|sample| ![MASKS, TRAIN].contains(&sample.defect.as_str()));
    for (is_missing, path, what) in [
        (
            samples.iter().all(|sample| sample.anomalous),
            images.join(GOOD),
            "labelled images take good parts as well",
        ),
        (
            !samples.iter().any(|sample| sample.anomalous),
            images.join("DEFECT"),
            "labelled images take a folder for each kind of defect; `bad` is as good a name as any",
        ),
    ] {
        if is_missing {
            return Err(Error::NoImages {
                path,
                hint: format!("{what}: {LAYOUT}{}", elsewhere(&images)?),
            });
        }
    }
    Ok(samples)
}

const LAYOUT: &str =
    "`good` and a folder for each defect, with images directly in them, in this folder or in its folder `test`";

/// The folder of `good`, and that of the masks.
fn places(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let (test, beside) = (folder.join(TEST), folder.join(MASKS));
    if test.is_dir() {
        if test.join(GOOD).is_dir() && folder.join(GOOD).is_dir() {
            return Err(Error::Ambiguous {
                path: folder.to_owned(),
                first: "labelled images in test/good",
                second: "labelled images in good",
            });
        }
        // A kind of defect may be called `test`.
        if test.join(GOOD).is_dir() || !folder.join(GOOD).is_dir() {
            return Ok((test, beside));
        }
    }
    // Also for `.`, which has no name of its own.
    let whole = folder.canonicalize().map_err(|source| Error::read(folder, source))?;
    let masks = match whole.parent() {
        Some(parent) if !beside.is_dir() && whole.ends_with(TEST) => parent.join(MASKS),
        _ => beside,
    };
    Ok((folder.to_owned(), masks))
}

/// Says where labelled images lie, if good parts have another name or all lie further down.
fn elsewhere(folder: &Path) -> Result<String> {
    let folders = files::folders(folder)?;
    let is_misspelt = |name: &str| name != GOOD && name.eq_ignore_ascii_case(GOOD);
    if let Some((name, _)) = folders.iter().find(|(name, _)| is_misspelt(name)) {
        return Ok(format!("; its folder {name} is not `{GOOD}`, rename it"));
    }
    for (name, path) in &folders {
        if path.join(GOOD).is_dir() || path.join(TEST).join(GOOD).is_dir() {
            return Ok(format!("; its folder {name} has them, name that one"));
        }
    }
    for (name, path) in folders
        .iter()
        .filter(|(name, _)| ![MASKS, TRAIN].contains(&name.as_str()))
    {
        for (below, path) in files::folders(path)? {
            if !files::images(&path)?.is_empty() {
                return Ok(format!(
                    "; images further down, as in {name}/{below}, are not looked at"
                ));
            }
        }
    }
    Ok(String::new())
}
