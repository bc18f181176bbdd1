//! From names on the command line to image files.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use simplenet::Source;
use simplenet_data::folder;

use crate::message;
use crate::skipped::Skipped;

const LOOKED_FOR: &str = "PNG, JPEG, BMP and TIFF files are looked for";

/// An image to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    /// Its name in folders of heatmaps and masks: relative, and no other input has it.
    pub(crate) label: PathBuf,
}

/// What lies behind the names on the command line.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) images: Vec<Input>,
    /// Names without images, and why; the others go on.
    pub(crate) failed: Vec<(PathBuf, String)>,
    pub(crate) skipped: Skipped,
}

/// The images of good parts in a folder, a category or a glob, and what was passed over beside them.
pub(crate) fn training(good: &Path) -> Result<(Vec<Source>, Skipped)> {
    let mut skipped = Skipped::default();
    if is_glob(good) {
        let images = matches(good, &mut skipped)?.into_iter().map(Source::File).collect();
        return Ok((images, skipped));
    }
    if good.is_file() {
        bail!(
            "{} is one file\n\nhint: name the folder it lies in; a detector learns from many images",
            good.display()
        );
    }
    let loaded = folder::load(good);
    let folder = match &loaded {
        Ok(dataset) => dataset.train.first().and_then(|sample| sample.source.path().parent()),
        Err(simplenet_data::Error::NoImages { path, .. }) => Some(path.as_path()),
        Err(_) => None,
    };
    // Of what cannot be listed the error speaks.
    for (path, _) in folder.map(entries).into_iter().flatten().flatten() {
        skipped.sift(&path);
    }
    match loaded {
        Ok(dataset) => {
            let images = dataset.train.into_iter().map(|sample| sample.source);
            Ok((images.collect(), skipped))
        }
        // The chain of causes comes before the hints.
        Err(error) => Err(match skipped.pictures("not decoded") {
            Some(others) => anyhow::Error::msg(others).context(error.to_string()),
            None => error.into(),
        }),
    }
}

/// The images behind the names: files as they are, folders to the bottom, globs. Each file once, in the order named.
pub(crate) fn images(names: &[PathBuf]) -> Found {
    let mut all = Found::default();
    for name in names {
        if name.is_dir() {
            let before = (all.images.len(), all.failed.len());
            walk(name, name, &mut all);
            if (all.images.len(), all.failed.len()) == before {
                let nothing = format!("no images in {}\n\nhint: {LOOKED_FOR}", name.display());
                all.failed.push((name.clone(), nothing));
            }
        } else if is_glob(name) {
            match matches(name, &mut all.skipped) {
                Ok(paths) => all.images.extend(paths.into_iter().map(Input::alone)),
                Err(error) => all.failed.push((name.clone(), message(&error))),
            }
        } else {
            all.images.push(Input::alone(name.clone()));
        }
    }
    let found = &mut all.images;
    let mut seen = HashSet::new();
    found.retain(|input| seen.insert(input.path.clone()));
    // `a/0.png` and `b/0.png` are told apart by as much of their paths as it takes, and then all are named that way; whole
    // paths always do.
    let common = common_folder(found);
    for prefix in [common.as_path(), Path::new("")] {
        let labels: HashSet<&Path> = found.iter().map(|input| input.label.as_path()).collect();
        if labels.len() == found.len() {
            break;
        }
        for input in found.iter_mut() {
            input.label = whole_label(input.path.strip_prefix(prefix).unwrap_or(&input.path));
        }
    }
    all
}

/// Every image in a folder, to the bottom; there may be none. `failed` has the folders that cannot be listed.
pub(crate) fn folder(folder: &Path) -> Found {
    let mut found = Found::default();
    walk(folder, folder, &mut found);
    found
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

fn walk(root: &Path, folder: &Path, found: &mut Found) {
    let entries = match entries(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let text = format!("cannot read {}: {error}", folder.display());
            return found.failed.push((folder.to_owned(), text));
        }
    };
    for (path, is_folder) in entries {
        if is_folder {
            walk(root, &path, found);
        } else if path.is_dir() {
            found.skipped.link(root, path);
        } else if found.skipped.sift(&path) {
            let label = path.strip_prefix(root).unwrap_or(&path).to_owned();
            found.images.push(Input { path, label });
        }
    }
}

/// What a folder holds and does not hide, in order of name, and whether it is a folder.
fn entries(folder: &Path) -> std::io::Result<Vec<(PathBuf, bool)>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Not for a link to a folder.
        let is_folder = entry.file_type()?.is_dir();
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push((entry.path(), is_folder));
        }
    }
    entries.sort();
    Ok(entries)
}

/// A pattern, unless a file happens to have that name.
fn is_glob(path: &Path) -> bool {
    !path.exists()
        && path
            .to_str()
            .is_some_and(|text| text.contains(['*', '?']) || (text.contains('[') && text.contains(']')))
}

fn matches(pattern: &Path, skipped: &mut Skipped) -> Result<Vec<PathBuf>> {
    let text = pattern.to_str().unwrap_or_default();
    // What is hidden, such as a camera's thumbnails, is not meant, in a folder or with a pattern.
    let options = glob::MatchOptions {
        require_literal_leading_dot: true,
        ..glob::MatchOptions::new()
    };
    let paths = glob::glob_with(text, options).with_context(|| format!("`{text}` is not a pattern"))?;
    let mut found = Vec::new();
    for path in paths {
        let path = path.with_context(|| format!("cannot search for `{text}`"))?;
        if skipped.sift(&path) {
            found.push(path);
        }
    }
    if found.is_empty() {
        bail!("no image matches `{text}`\n\nhint: {LOOKED_FOR}");
    }
    Ok(found)
}
