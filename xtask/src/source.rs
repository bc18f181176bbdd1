//! Which images an experiment runs on.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use simplenet_data::cifar10::{self, Cifar10};
use simplenet_data::fetch::Manifest;
use simplenet_data::{Dataset, Sample, mvtec, toy};
use simplenet_kernels::noise::{NoiseKey, permutation};

use crate::experiment::{Experiment, Limit, Named};

/// Seed of the procedural set: the same pictures for everybody.
const TOY_SEED: u64 = 0;
/// Seed of the subsets that `--limit-train` and `--limit-test` draw: the same images for every seed of the training.
const SUBSET_SEED: u64 = 0;

/// Folders that the command line names.
pub(crate) struct Given<'a> {
    pub(crate) mvtec: Option<&'a Path>,
    pub(crate) cifar10: Option<&'a Path>,
    pub(crate) limit: Limit,
    pub(crate) is_quick: bool,
}

/// Where the images are and what they are called.
pub(crate) struct Source {
    name: Name,
    /// Name of the run's folder.
    pub(crate) folder: String,
    pub(crate) categories: Vec<String>,
    pub(crate) is_fallback: bool,
    root: PathBuf,
    layout: Layout,
    limit: Limit,
}

/// What rows call the images.
enum Name {
    /// All of them.
    Of(String),
    /// MVTec AD's, each category for itself.
    Mvtec(Box<Manifest>),
}

enum Layout {
    /// A folder per category with training and test images.
    Categories,
    /// The same, but the good test images of all categories are tested together: one normal category, the others novel.
    OneClass,
    Cifar10(Cifar10),
}

impl Source {
    /// The experiment's data set where it is there, else the procedural one.
    pub(crate) fn find(experiment: &Experiment, given: &Given, project: &Path) -> Result<Source> {
        let (named, folder) = match experiment.dataset {
            Named::Mvtec => (given.mvtec, project.join("data/mvtec")),
            Named::Cifar10 => (given.cifar10, project.join("data/cifar10")),
            Named::Toy | Named::ToyOneClass => (None, PathBuf::new()),
        };
        let there = match (given.is_quick, named) {
            (true, _) => None,
            (false, Some(folder)) => Some(folder.to_path_buf()),
            (false, None) => folder.is_dir().then_some(folder),
        };
        let dataset = if there.is_some() {
            experiment.dataset
        } else {
            experiment.fallback.dataset
        };
        let root = match there.clone() {
            Some(folder) => folder,
            None => toy::generate(&project.join("data/toy"), TOY_SEED)?,
        };
        let layout = match dataset {
            Named::Mvtec | Named::Toy => Layout::Categories,
            Named::ToyOneClass => Layout::OneClass,
            Named::Cifar10 => Layout::Cifar10(Cifar10::open(&root)?),
        };
        let mut categories = match &layout {
            Layout::Cifar10(_) => cifar10::CLASSES.map(String::from).to_vec(),
            Layout::Categories | Layout::OneClass => mvtec::categories(&root)?,
        };
        let (name, run) = match (dataset, &layout) {
            (Named::Mvtec, _) => {
                let manifest = Manifest::read(project.join("data/manifest.toml"))?;
                match categories
                    .iter()
                    .all(|category| manifest.mvtec.images.contains_key(category))
                {
                    true => (Name::Mvtec(Box::new(manifest)), "mvtec".to_string()),
                    false => (Name::Of(own_name(&root)), own_name(&root)),
                }
            }
            (Named::Toy, _) => (Name::Of("toy".into()), "toy".into()),
            (Named::ToyOneClass, _) => (Name::Of("toy-one-class".into()), "toy".into()),
            (Named::Cifar10, Layout::Cifar10(set)) if set.is_complete() => {
                (Name::Of(set.name().into()), "cifar10".into())
            }
            (Named::Cifar10, Layout::Cifar10(set)) => (Name::Of(format!("{}{PART}", set.name())), "cifar10".into()),
            (Named::Cifar10, _) => (Name::Of("cifar10".into()), "cifar10".into()),
        };
        let limit = given.limit;
        if given.is_quick {
            categories.retain(|category| experiment.quick.categories.contains(category));
        }
        Ok(Source {
            name,
            folder: if given.is_quick { "quick".into() } else { run },
            categories,
            is_fallback: there.is_none(),
            root,
            layout,
            limit,
        })
    }

    /// What rows call the images of a category; a subset says so.
    pub(crate) fn name(&self, category: &str) -> String {
        self.limit.name(match &self.name {
            Name::Of(name) => name,
            Name::Mvtec(manifest) => mvtec_name(&self.root, category, manifest),
        })
    }

    /// Lists the images of a category.
    pub(crate) fn load(&self, category: &str) -> Result<Dataset> {
        let mut dataset = match &self.layout {
            Layout::Categories => mvtec::load(&self.root, category)?,
            Layout::OneClass => self.one_class(category)?,
            Layout::Cifar10(set) => set.one_class(category)?,
        };
        let Limit { train, test } = self.limit;
        dataset.train = subset(dataset.train, train);
        dataset.test = subset(dataset.test, test);
        Ok(dataset)
    }

    /// Whether a defect without a mask is missing one.
    pub(crate) fn expects_masks(&self) -> bool {
        matches!(self.layout, Layout::Categories)
    }

    /// Changes when a category gets other images.
    pub(crate) fn fingerprint(&self, category: &str) -> Result<String> {
        let folder = match &self.layout {
            Layout::Categories => self.root.join(category),
            Layout::OneClass | Layout::Cifar10(_) => self.root.clone(),
        };
        let files = files(&self.root, &folder)?;
        Ok(match self.limit {
            Limit {
                train: None,
                test: None,
            } => files,
            Limit { train, test } => format!("{files}limit {train:?} {test:?} seed {SUBSET_SEED}\n"),
        })
    }

    fn one_class(&self, category: &str) -> Result<Dataset> {
        let mut dataset = mvtec::load(&self.root, category)?;
        dataset.test.clear();
        for other in &self.categories {
            let good = mvtec::load(&self.root, other)?
                .test
                .into_iter()
                .filter(|sample| !sample.anomalous);
            dataset.test.extend(good.map(|sample| match other == category {
                true => sample,
                false => Sample {
                    defect: other.clone(),
                    anomalous: true,
                    ..sample
                },
            }));
        }
        if self.categories.len() < 2 {
            bail!("`{category}` is the only category, so nothing is novel to it");
        }
        Ok(dataset)
    }
}

/// What the name of a published set ends in where the images are not those, by their number or size.
const PART: &str = "-part";
/// Categories that are not those of MVTec AD, in a folder whose name cannot be theirs.
const OWN: &str = "mvtec-layout";

/// What rows call a category that has the name of one of MVTec AD's: `mvtec` only where the images can be those.
///
/// Numbers of images and the size of the first ones are compared, not the pixels: `cargo xtask data verify` does more.
pub(crate) fn mvtec_name(root: &Path, category: &str, manifest: &Manifest) -> &'static str {
    // One that cannot be read is not the published one; its own row will say why.
    let is_whole = manifest.mvtec.images.get(category).is_some_and(|expected| {
        mvtec::load(root, category).is_ok_and(|dataset| {
            let first = dataset.train.first().and_then(|sample| sample.source.dimensions().ok());
            let has_size = expected.side.is_none_or(|side| first == Some((side, side)));
            (dataset.train.len(), dataset.test.len()) == (expected.train, expected.test) && has_size
        })
    });
    match is_whole {
        true => "mvtec",
        false => "mvtec-part",
    }
}

/// The published set that rows of these images belong to: `mvtec` of `mvtec-part`, a subset's with its size.
pub(crate) fn family(dataset: &str) -> String {
    let (name, size) = dataset.split_at(dataset.find(' ').unwrap_or(dataset.len()));
    let whole = name.strip_suffix(PART).filter(|whole| is_published(whole));
    format!("{}{size}", whole.unwrap_or(name))
}

/// Whether rows of this name are of a part of a published set.
pub(crate) fn is_part(dataset: &str) -> bool {
    family(dataset) != dataset
}

/// Whether the paper has numbers of a set.
pub(crate) fn is_published(name: &str) -> bool {
    ["mvtec", "cifar10"].contains(&name)
}

/// What rows call another data set in that layout: as its folder, which tells most of them apart.
fn own_name(root: &Path) -> String {
    // These have a meaning in rows or as folders of results.
    let is_taken =
        |name: &str| name == "quick" || ["mvtec", "cifar10", "toy"].iter().any(|known| name.starts_with(known));
    let folder = std::path::absolute(root).ok();
    let name = folder
        .as_deref()
        .and_then(Path::file_name)
        .map(|name| name.to_string_lossy());
    match name {
        // A space is what a subset's size stands behind.
        Some(name) if !is_taken(&name) => name.replace(char::is_whitespace, "_"),
        _ => OWN.into(),
    }
}

impl Limit {
    fn name(self, dataset: &str) -> String {
        let count = |what: &str, count: Option<usize>| count.map(|count| format!("{what} {count}"));
        let parts: Vec<String> = [count("train", self.train), count("test", self.test)]
            .into_iter()
            .flatten()
            .collect();
        if parts.is_empty() {
            dataset.to_string()
        } else {
            format!("{dataset} ({})", parts.join(" "))
        }
    }
}

/// `count` samples in their order, the same share of every defect. Defects are told apart but not named, so that the subset
/// of a one-class test set does not depend on which class is the normal one.
fn subset(samples: Vec<Sample>, count: Option<usize>) -> Vec<Sample> {
    let Some(count) = count.filter(|count| *count < samples.len()) else {
        return samples;
    };
    let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
    for (index, sample) in samples.iter().enumerate() {
        match groups.iter_mut().find(|(defect, _)| *defect == sample.defect) {
            Some((_, members)) => members.push(index),
            None => groups.push((&sample.defect, vec![index])),
        }
    }
    // A sample's place in its shuffled group as a fraction: the lowest `count` of all fractions are the same share of each.
    let mut places: Vec<(f64, usize)> = Vec::with_capacity(samples.len());
    for (group, (_, members)) in groups.iter().enumerate() {
        let key = NoiseKey {
            seed: SUBSET_SEED,
            stream: group as u64,
        };
        let order = permutation(members.len(), key);
        let size = members.len() as f64;
        places.extend(
            order
                .iter()
                .enumerate()
                .map(|(place, &member)| ((place as f64 + 0.5) / size, members[member])),
        );
    }
    places.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
    let mut chosen: Vec<usize> = places[..count].iter().map(|(_, index)| *index).collect();
    chosen.sort_unstable();
    chosen.into_iter().map(|index| samples[index].clone()).collect()
}

/// Relative path and size of every file under `folder`: cheap, and changes when an image is added, removed or replaced by
/// one of another size. What is hidden, such as what file managers leave, and links to nothing are no images.
fn files(root: &Path, folder: &Path) -> Result<String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let context = || format!("failed to read `{}`", folder.display());
        for entry in std::fs::read_dir(&folder).with_context(context)? {
            let entry = entry.with_context(context)?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let metadata = match std::fs::metadata(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                metadata => metadata.with_context(context)?,
            };
            if metadata.is_dir() {
                folders.push(path);
            } else {
                let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                files.insert(relative, metadata.len());
            }
        }
    }
    Ok(files.iter().map(|(path, bytes)| format!("{path} {bytes}\n")).collect())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use simplenet_data::{Sample, Source};

    use simplenet_data::fetch::Manifest;

    use super::{family, files, is_part, mvtec_name, own_name, subset};

    #[test]
    fn only_what_may_be_an_image_is_part_of_the_data() {
        let folder = tempfile::tempdir().unwrap();
        let category = folder.path().join("part");
        std::fs::create_dir(&category).unwrap();
        std::fs::write(category.join("0.png"), [0; 7]).unwrap();
        let found = || files(folder.path(), &category).unwrap();
        let before = found();
        assert!(before.ends_with("0.png 7\n"), "{before}");
        std::fs::write(category.join(".DS_Store"), "hidden").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("nothing", category.join("1.png")).unwrap();
        assert_eq!(found(), before);
        std::fs::write(category.join("1.jpg"), [0; 8]).unwrap();
        assert_ne!(found(), before);
    }

    /// Numbers and sizes decide, and a category that cannot be read is not the published one.
    #[test]
    fn a_folder_is_called_mvtec_only_where_its_images_can_be_those() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../data/manifest.toml")).unwrap();
        let small = "bottle = { train = 1, test = 1, side = 900 }";
        let manifest = manifest.replace("bottle = { train = 209, test = 83, side = 900 }", small);
        assert!(manifest.contains(small));
        let manifest = Manifest::parse(&manifest, root).unwrap();
        let picture = |path: &str, side: u32| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            image::GrayImage::new(side, side).save(path).unwrap();
        };
        let name = |category: &str| mvtec_name(root, category, &manifest);
        picture("bottle/train/good/000.png", 900);
        assert_eq!(name("bottle"), "mvtec-part", "there is no test folder");
        picture("bottle/test/good/000.png", 900);
        assert_eq!(name("bottle"), "mvtec");
        assert_eq!(name("nut"), "mvtec-part");
        picture("bottle/train/good/000.png", 450);
        assert_eq!(name("bottle"), "mvtec-part", "of another size");
        picture("bottle/train/good/000.png", 900);
        picture("bottle/train/good/001.png", 900);
        assert_eq!(name("bottle"), "mvtec-part", "one more");
    }

    #[test]
    fn another_set_is_called_as_its_folder() {
        for (folder, name) in [
            ("/data/VisA", "VisA"),
            ("/data/my parts/", "my_parts"),
            ("/data/car-part", "car-part"),
            ("/data/mvtec_loco", "mvtec-layout"),
            ("/data/toys", "mvtec-layout"),
            ("/data/quick", "mvtec-layout"),
            ("/", "mvtec-layout"),
        ] {
            assert_eq!(own_name(Path::new(folder)), name);
        }
    }

    #[test]
    fn a_part_belongs_to_the_published_set_and_not_to_one_that_is_called_so() {
        for (name, whole) in [
            ("mvtec-part", "mvtec"),
            ("cifar10-part (train 300)", "cifar10 (train 300)"),
            ("mvtec (train 3)", "mvtec (train 3)"),
            ("car-part", "car-part"),
            ("toy", "toy"),
        ] {
            assert_eq!(family(name), whole);
            assert_eq!(is_part(name), name != whole);
        }
    }

    /// `normal` of three classes is called good.
    fn samples(normal: usize) -> Vec<Sample> {
        let sample = |index: usize| {
            let class = index % 5 % 3;
            let name = if class == normal {
                "good".to_string()
            } else {
                format!("class{class}")
            };
            Sample {
                defect: name,
                anomalous: class != normal,
                ..Sample::normal(Source::File(PathBuf::from(index.to_string())))
            }
        };
        (0..100).map(sample).collect()
    }

    #[test]
    fn a_subset_keeps_shares_and_order_and_does_not_depend_on_the_normal_class() {
        let sources = |normal| -> Vec<Source> {
            subset(samples(normal), Some(25))
                .into_iter()
                .map(|sample| sample.source)
                .collect()
        };
        assert_eq!(sources(0), sources(2));
        let chosen = subset(samples(0), Some(25));
        let count = |defect: &str| chosen.iter().filter(|sample| sample.defect == defect).count();
        assert_eq!([count("good"), count("class1"), count("class2")], [10, 10, 5]);
        let numbers: Vec<usize> = sources(0)
            .iter()
            .map(|source| source.path().to_string_lossy().parse().unwrap())
            .collect();
        assert!(numbers.is_sorted());
        assert_eq!(subset(samples(0), Some(100)).len(), 100);
    }
}
