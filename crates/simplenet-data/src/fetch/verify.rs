use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::download::recorded;
use super::manifest::ImageCounts;
use super::{Manifest, Progress, Result, Sum};
use crate::cifar10::Cifar10;
use crate::{Source, mvtec};

/// What [`verify`] says about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its name, such as `mvtec/bottle`.
    pub name: String,
    /// Its file or folder.
    pub path: PathBuf,
    /// How it is.
    pub state: State,
}

/// How something in the data folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Whole; what was checked.
    Ok(String),
    /// Not there; how to get it.
    Missing(String),
    /// There, but not as it should be; all that is wrong.
    Damaged(Vec<String>),
}

/// Checks everything that the manifest names in a data folder: images and masks of MVTec AD by number and by how their files
/// begin and end, CIFAR-10 by size and labels, archives and weights by their sums. Damage is a finding, not an error.
pub fn verify(manifest: &Manifest, data: &Path, progress: Progress<'_>) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut found = |name: String, path: PathBuf, state| findings.push(Finding { name, path, state });

    let root = data.join(&manifest.mvtec.target);
    if root.is_dir() {
        for (name, counts) in &manifest.mvtec.images {
            let state = category(&root.join(name), name, *counts);
            found(format!("{}/{name}", manifest.mvtec.target), root.join(name), state);
        }
    } else {
        let state = State::Missing("cargo xtask data fetch mvtec --accept-license".to_owned());
        found(manifest.mvtec.target.clone(), root, state);
    }

    let root = data.join(&manifest.cifar10.target);
    let state = cifar10_files(&root, &manifest.cifar10.files);
    found(manifest.cifar10.target.clone(), root, state);

    for (arch, source) in &manifest.weights {
        let path = data.join("weights").join(arch).join("model.safetensors");
        let record = path.with_added_extension("sha256");
        let state = if path.is_file() {
            file(&path, source.sum.as_ref(), &record, progress)?
        } else {
            State::Missing(format!("cargo xtask data fetch weights --backbone {arch}"))
        };
        found(format!("weights/{arch}"), path, state);
    }

    // Archives are only there when they were kept, so a missing one is nothing to mention.
    for archive in [&manifest.mvtec.archive, &manifest.cifar10.archive] {
        let path = data.join(".download").join(&archive.name);
        if path.is_file() {
            let state = file(&path, Some(&archive.sum), &path, progress)?;
            found(archive.name.clone(), path, state);
        }
    }
    Ok(findings)
}

fn file(path: &Path, known: Option<&Sum>, record: &Path, progress: Progress<'_>) -> Result<State> {
    let (expected, origin) = match known {
        Some(sum) => (sum.clone(), "as the manifest says"),
        None => match recorded(record)? {
            Some(sum) => (sum, "as at its download"),
            None => {
                let sum = super::sha256(path, progress)?;
                return Ok(State::Ok(format!("{sum}, which nothing is known to compare with")));
            }
        },
    };
    let found = expected.of_same_kind(path, progress)?;
    Ok(if found == expected {
        State::Ok(format!("{found}, {origin}"))
    } else {
        State::Damaged(vec![format!("{found}, but {expected} is expected")])
    })
}

/// How the folder of the category `name` of MVTec AD is, whatever its own name.
pub(super) fn category(folder: &Path, name: &str, expected: ImageCounts) -> State {
    let place = folder.parent().zip(folder.file_name().and_then(|name| name.to_str()));
    let Some((root, own_name)) = place.filter(|_| folder.is_dir()) else {
        return State::Missing(format!(
            "cargo xtask data fetch mvtec --category {name} --accept-license"
        ));
    };
    let dataset = match mvtec::load(root, own_name) {
        Ok(dataset) => dataset,
        Err(error) => return State::Damaged(vec![first_line(&error.to_string())]),
    };
    let mut problems = Vec::new();
    let mut count = |what: &str, found: usize, expected: usize| {
        if found != expected {
            problems.push(format!("{what} has {found} images, not {expected}"));
        }
    };
    count("train", dataset.train.len(), expected.train);
    count("test", dataset.test.len(), expected.test);

    let samples = dataset.train.iter().chain(&dataset.test);
    let without_mask = samples
        .clone()
        .filter(|sample| sample.anomalous && sample.mask.is_none());
    problems.extend(some(
        "without a mask",
        without_mask.map(|sample| sample.source.to_string()),
    ));
    let images = samples.clone().filter_map(|sample| match &sample.source {
        Source::File(path) => Some(path),
        _ => None,
    });
    let masks: Vec<&PathBuf> = samples.clone().filter_map(|sample| sample.mask.as_ref()).collect();
    let cut = images.chain(masks.iter().copied()).filter(|path| !is_whole_png(path));
    problems.extend(some("not a whole PNG file", cut.map(|path| path.display().to_string())));
    if !problems.is_empty() {
        return State::Damaged(problems);
    }
    State::Ok(format!(
        "{} train, {} test, {} masks",
        dataset.train.len(),
        dataset.test.len(),
        masks.len()
    ))
}

/// How CIFAR-10 in `folder` is. A folder of classes is accepted as it is, and named so.
pub(super) fn cifar10_files(folder: &Path, expected: &BTreeMap<String, u64>) -> State {
    let missing = || State::Missing("cargo xtask data fetch cifar10".to_owned());
    let records = [folder.to_owned(), folder.join("cifar-10-batches-bin")]
        .into_iter()
        .find(|folder| expected.keys().any(|name| folder.join(name).is_file()));
    let Some(records) = records else {
        if !folder.is_dir() {
            return missing();
        }
        return match Cifar10::open(folder) {
            Ok(data) => State::Ok(format!(
                "{} train, {} test as folders of classes, not the official pixels",
                data.train().len(),
                data.test().len()
            )),
            Err(error) => State::Damaged(vec![first_line(&error.to_string())]),
        };
    };
    let mut problems = Vec::new();
    for (name, bytes) in expected {
        match std::fs::metadata(records.join(name)) {
            Ok(file) if file.len() == *bytes => {}
            Ok(file) => problems.push(format!("{name} has {} bytes, not {bytes}", file.len())),
            Err(error) => problems.push(format!("{name}: {error}")),
        }
    }
    if !problems.is_empty() {
        return State::Damaged(problems);
    }
    match Cifar10::open_records(&records) {
        Ok(data) => State::Ok(format!("{} train, {} test", data.train().len(), data.test().len())),
        Err(error) => State::Damaged(vec![first_line(&error.to_string())]),
    }
}

/// The number of names and the first of them, if there are any.
fn some(what: &str, mut names: impl Iterator<Item = String>) -> Option<String> {
    let first = names.next()?;
    Some(match names.count() {
        0 => format!("{first} is {what}"),
        more => format!("{first} and {more} more are {what}"),
    })
}

/// Whether a file begins and ends as PNG does. Copies in other formats are not looked into.
fn is_whole_png(path: &Path) -> bool {
    if path
        .extension()
        .is_none_or(|extension| !extension.eq_ignore_ascii_case("png"))
    {
        return true;
    }
    let ends = || -> std::io::Result<([u8; 8], [u8; 12])> {
        let (mut start, mut end) = ([0; 8], [0; 12]);
        let mut file = File::open(path)?;
        file.read_exact(&mut start)?;
        file.seek(SeekFrom::End(-12))?;
        file.read_exact(&mut end)?;
        Ok((start, end))
    };
    ends().is_ok_and(|(start, end)| start == *b"\x89PNG\r\n\x1a\n" && end == *b"\0\0\0\0IEND\xaeB`\x82")
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
