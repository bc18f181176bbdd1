//! From names on the command line to image files.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use simplenet::Source;
use simplenet_data::folder;

/// Formats that are decoded; a file named by itself may have any name.
const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "tif", "tiff"];

/// An image to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    /// Its name in folders of heatmaps and masks: relative, and no other input has it.
    pub(crate) label: PathBuf,
}

/// The images of good parts in a folder, a category or a glob.
pub(crate) fn training(good: &Path) -> Result<Vec<Source>> {
    if is_glob(good) {
        return Ok(matches(good)?.into_iter().map(Source::File).collect());
    }
    if good.is_file() {
        bail!(
            "{} is one file\n\nhint: name the folder it lies in; a detector learns from many images",
            good.display()
        );
    }
    let dataset = folder::load(good)?;
    Ok(dataset.train.into_iter().map(|sample| sample.source).collect())
}

/// The images behind the names: files as they are, folders to the bottom, globs. Each file once, in the order named.
pub(crate) fn images(names: &[PathBuf]) -> Result<Vec<Input>> {
    let mut found = Vec::new();
    for name in names {
        if name.is_dir() {
            let before = found.len();
            walk(name, name, &mut found)?;
            if found.len() == before {
                bail!(
                    "no images in {}\n\nhint: PNG, JPEG, BMP and TIFF files are looked for",
                    name.display()
                );
            }
        } else if is_glob(name) {
            found.extend(matches(name)?.into_iter().map(Input::alone));
        } else {
            found.push(Input::alone(name.clone()));
        }
    }
    let mut seen = HashSet::new();
    found.retain(|input| seen.insert(input.path.clone()));
    // `a/0.png` and `b/0.png` are told apart by as much of their paths as it takes, and then all are named that way; whole
    // paths always do.
    let common = common_folder(&found);
    for prefix in [common.as_path(), Path::new("")] {
        let labels: HashSet<&Path> = found.iter().map(|input| input.label.as_path()).collect();
        if labels.len() == found.len() {
            break;
        }
        for input in &mut found {
            input.label = whole_label(input.path.strip_prefix(prefix).unwrap_or(&input.path));
        }
    }
    Ok(found)
}

/// Every image in a folder, to the bottom; there may be none.
pub(crate) fn folder(folder: &Path) -> Result<Vec<Input>> {
    let mut found = Vec::new();
    walk(folder, folder, &mut found)?;
    Ok(found)
}

impl Input {
    pub(crate) fn alone(path: PathBuf) -> Input {
        let label = path.file_name().map_or_else(|| whole_label(&path), PathBuf::from);
        Input { path, label }
    }

    /// For a stream, whose later names are not known: the whole path.
    pub(crate) fn streamed(path: PathBuf) -> Input {
        let label = whole_label(&path);
        Input { path, label }
    }
}

/// The folder in which all inputs lie.
fn common_folder(inputs: &[Input]) -> PathBuf {
    let mut folders = inputs.iter().filter_map(|input| input.path.parent());
    let first = folders.next().map(Path::to_owned).unwrap_or_default();
    folders.fold(first, |common, folder| {
        let shared = common.components().zip(folder.components());
        shared.take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
    })
}

/// The path without what would lead out of a folder.
fn whole_label(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect()
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<Input>) -> Result<()> {
    let failed = || format!("cannot read {}", folder.display());
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        // A link to a folder is not followed: it may lead in a circle.
        let is_folder = entry.file_type().with_context(failed)?.is_dir();
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push((entry.path(), is_folder));
        }
    }
    entries.sort();
    for (path, is_folder) in entries {
        if is_folder {
            walk(root, &path, found)?;
        } else if is_image(&path) && path.is_file() {
            let label = path.strip_prefix(root).unwrap_or(&path).to_owned();
            found.push(Input { path, label });
        }
    }
    Ok(())
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

/// A pattern, unless a file happens to have that name.
fn is_glob(path: &Path) -> bool {
    !path.exists()
        && path
            .to_str()
            .is_some_and(|text| text.contains(['*', '?']) || (text.contains('[') && text.contains(']')))
}

fn matches(pattern: &Path) -> Result<Vec<PathBuf>> {
    let text = pattern.to_str().unwrap_or_default();
    let paths = glob::glob(text).with_context(|| format!("`{text}` is not a pattern"))?;
    let mut found = Vec::new();
    for path in paths {
        let path = path.with_context(|| format!("cannot search for `{text}`"))?;
        if path.is_file() && is_image(&path) {
            found.push(path);
        }
    }
    if found.is_empty() {
        bail!("no image matches `{text}`\n\nhint: PNG, JPEG, BMP and TIFF files are looked for");
    }
    Ok(found)
}
