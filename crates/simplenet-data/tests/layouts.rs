//! The folders of data sets.

mod common;

use std::path::{Path, PathBuf};

use image::{GrayImage, Luma, Rgb, RgbImage};
use simplenet_data::mvtec::{self, Kind};
use simplenet_data::{Error, GOOD, Preprocess, Rgb8, Sample, Source, folder, load_images};
use tempfile::TempDir;

/// Writes a small file at each path; only their names matter.
fn tree(paths: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for path in paths {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    root
}

fn names(samples: &[Sample], root: &Path) -> Vec<String> {
    let name = |sample: &Sample| sample.source.path().strip_prefix(root).unwrap().display().to_string();
    samples.iter().map(name).collect()
}

#[test]
fn a_category_is_listed_in_order_with_its_masks() {
    let root = tree(&[
        "nut/train/good/10.png",
        "nut/train/good/2.JPG",
        "nut/train/good/1.tiff",
        "nut/train/good/.hidden.png",
        "nut/train/good/._1.png",
        "nut/train/good/Thumbs.db",
        "nut/train/good/folder.png/x.txt",
        "nut/test/scratch/b.png",
        "nut/test/scratch/a.bmp",
        "nut/test/good/0.jpeg",
        "nut/test/bent/0.TIF",
        "nut/ground_truth/scratch/a_mask.png",
        "nut/ground_truth/scratch/a.png",
        "nut/ground_truth/bent/0.png",
        "other/train/good/0.png",
        "licence/readme.txt",
    ]);
    assert_eq!(mvtec::categories(root.path()).unwrap(), ["nut", "other"]);

    let dataset = mvtec::load(root.path(), "nut").unwrap();
    let folder = root.path().join("nut");
    assert_eq!((dataset.name.as_str(), dataset.category.as_str()), ("mvtec", "nut"));
    assert_eq!(
        names(&dataset.train, &folder),
        ["train/good/1.tiff", "train/good/10.png", "train/good/2.JPG"]
    );
    let expected = [
        "test/bent/0.TIF",
        "test/good/0.jpeg",
        "test/scratch/a.bmp",
        "test/scratch/b.png",
    ];
    assert_eq!(names(&dataset.test, &folder), expected);
    let truth: Vec<(&str, bool)> = dataset.test.iter().map(|s| (s.defect.as_str(), s.anomalous)).collect();
    assert_eq!(
        truth,
        [("bent", true), (GOOD, false), ("scratch", true), ("scratch", true)]
    );
    let masks: Vec<Option<PathBuf>> = dataset.test.iter().map(|s| s.mask.clone()).collect();
    let mask = |name: &str| Some(folder.join("ground_truth").join(name));
    assert_eq!(masks, [mask("bent/0.png"), None, mask("scratch/a_mask.png"), None]);
    assert_eq!(dataset.missing_masks(), 1);
    assert!(dataset.has_masks());
    assert!(
        dataset
            .train
            .iter()
            .all(|s| !s.anomalous && s.defect == GOOD && s.mask.is_none())
    );
}

#[test]
fn missing_and_empty_folders_say_what_is_expected() {
    let root = tree(&[
        "nut/train/good/0.png",
        "a/train/good/readme.txt",
        "a/test/good/0.png",
        "b/train/good/0.png",
    ]);
    std::fs::create_dir_all(root.path().join("b/test/good")).unwrap();
    let said = |result: Result<simplenet_data::Dataset, Error>, words: &[&str]| {
        let error = result.unwrap_err();
        for word in words {
            assert!(error.to_string().contains(word), "`{word}` in: {error}");
        }
    };
    said(
        mvtec::load(root.path(), "nutt"),
        &["nutt", "hint: the categories there are a, b, nut"],
    );
    said(mvtec::load(root.path(), "nut"), &["nut/test", "hint: "]);
    said(
        mvtec::load(root.path(), "a"),
        &["no images in", "a/train/good", "hint: "],
    );
    said(mvtec::load(root.path(), "b"), &["no images in", "b/test", "hint: "]);
    said(mvtec::load(root.path().join("nowhere"), "nut"), &["nowhere/nut"]);

    let inside = mvtec::categories(root.path().join("nut")).unwrap_err();
    assert!(inside.to_string().contains("itself a category"), "{inside}");
    assert!(mvtec::categories(root.path().join("a/test")).is_err());
    assert!(mvtec::categories(root.path().join("nowhere")).is_err());
}

#[test]
fn a_plain_folder_is_a_data_set() {
    let root = tree(&["3.png", "1.jpg", "2.bmp", "notes.txt"]);
    let dataset = folder::load(root.path()).unwrap();
    assert_eq!(names(&dataset.train, root.path()), ["1.jpg", "2.bmp", "3.png"]);
    assert!(dataset.test.is_empty() && !dataset.has_masks());
    assert_eq!(dataset.name, "folder");
    assert_eq!(dataset.category, root.path().file_name().unwrap().to_str().unwrap());
    let sources = folder::images(root.path()).unwrap();
    assert_eq!(sources[0], Source::File(root.path().join("1.jpg")));
    assert_eq!(sources.len(), 3);
}

#[test]
fn a_plain_folder_may_have_test_images() {
    let root = tree(&[
        "1.png",
        "test/good/5.png",
        "test/bad/6.png",
        "test/bad/7.png",
        "ground_truth/bad/7_mask.png",
    ]);
    let dataset = folder::load(root.path()).unwrap();
    assert_eq!(dataset.train.len(), 1);
    assert_eq!(
        names(&dataset.test, root.path()),
        ["test/bad/6.png", "test/bad/7.png", "test/good/5.png"]
    );
    assert_eq!(
        dataset.test.iter().map(|s| s.anomalous).collect::<Vec<_>>(),
        [true, true, false]
    );
    assert_eq!(dataset.missing_masks(), 1);
}

#[test]
fn a_plain_folder_may_be_laid_out_like_a_category() {
    let root = tree(&["train/good/1.png", "test/good/2.png", "test/dent/3.png"]);
    let dataset = folder::load(root.path()).unwrap();
    assert_eq!(names(&dataset.train, root.path()), ["train/good/1.png"]);
    assert_eq!(dataset.test.len(), 2);

    let root = tree(&["train/good/1.png"]);
    assert!(folder::load(root.path()).unwrap().test.is_empty());
}

#[test]
fn a_plain_folder_without_images_says_where_they_are() {
    let said = |paths: &[&str], words: &[&str]| {
        let error = folder::load(tree(paths).path()).unwrap_err();
        for word in words {
            assert!(error.to_string().contains(word), "`{word}` in: {error}");
        }
    };
    said(&["readme.txt"], &["no images in", "hint: PNG"]);
    said(&["good/1.png", "bad/2.png"], &["no images in", "folder good"]);
    said(
        &["monday/1.png", "friday/2.png"],
        &["folder friday and 1 more; name the one of good parts", "/**/*'"],
    );
    said(&["nut/train/good/1.png"], &["folder nut has a train/good"]);
    said(&["1.png", "train/good/2.png"], &["two ways"]);
    said(&["train/2.png"], &["train/good"]);
    assert!(
        folder::load("/nowhere/at/all")
            .unwrap_err()
            .to_string()
            .contains("/nowhere/at/all")
    );
    assert!(folder::images(tree(&["a.txt"]).path()).is_err());
}

/// Where the labelled images lie, and where their masks may.
#[test]
fn labelled_images_need_no_training_images() {
    let listed = |root: &Path| folder::labelled(root).map(|samples| names(&samples, root));
    let inside = tree(&["test/good/1.png", "test/bad/2.png"]);
    assert_eq!(listed(inside.path()).unwrap(), ["test/bad/2.png", "test/good/1.png"]);
    let direct = tree(&[
        "good/1.png",
        "bad/2.png",
        "notes.txt",
        "train/3.png",
        "ground_truth/4.png",
    ]);
    assert_eq!(listed(direct.path()).unwrap(), ["bad/2.png", "good/1.png"]);
    let trained = tree(&["0.png", "test/good/1.png", "test/bad/2.png"]);
    assert_eq!(listed(trained.path()).unwrap(), ["test/bad/2.png", "test/good/1.png"]);
    let odd = tree(&["good/1.png", "test/2.png"]);
    assert_eq!(listed(odd.path()).unwrap(), ["good/1.png", "test/2.png"]);

    let category = tree(&[
        "nut/train/good/0.png",
        "nut/test/good/1.png",
        "nut/test/bent/2.png",
        "nut/ground_truth/bent/2_mask.png",
        "own/good/1.png",
        "own/bent/2.png",
        "own/ground_truth/bent/2.png",
    ]);
    for (place, mask) in [
        ("nut", "nut/ground_truth/bent/2_mask.png"),
        ("nut/test", "nut/ground_truth/bent/2_mask.png"),
        ("own", "own/ground_truth/bent/2.png"),
    ] {
        let samples = folder::labelled(category.path().join(place)).unwrap();
        let truth: Vec<(&str, bool)> = samples.iter().map(|s| (s.defect.as_str(), s.anomalous)).collect();
        assert_eq!(truth, [("bent", true), (GOOD, false)], "{place}");
        let found = samples[0].mask.as_ref().unwrap().canonicalize().unwrap();
        assert_eq!(found, category.path().join(mask).canonicalize().unwrap());
    }
}

#[test]
fn labelled_images_of_one_kind_are_refused() {
    for (paths, words) in [
        (&["good/1.png"][..], &["DEFECT", "folder for each kind of defect"][..]),
        (&["test/good/1.png"], &["test/DEFECT"]),
        (
            &["bad/1.png"],
            &["good parts as well", "`good` and a folder for each defect"],
        ),
        (&["1.png"], &["no images in", "`good` and a folder for each defect"]),
        (&["lab/good/1.png", "lab/bad/1.png"], &["its folder lab has them"]),
        (
            &["good/1.png", "bad/1.png", "test/good/1.png", "test/bad/1.png"],
            &["two ways"],
        ),
    ] {
        let error = folder::labelled(tree(paths).path()).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "`{word}` in: {error}");
        }
    }
    let error = folder::labelled("/nowhere/at/all").unwrap_err().to_string();
    assert!(error.contains("/nowhere/at/all is not there\n\nhint: "), "{error}");
}

#[test]
fn the_fifteen_categories_are_five_textures_and_ten_objects() {
    let count = |kind| mvtec::CATEGORIES.iter().filter(|(_, of)| *of == kind).count();
    assert_eq!((count(Kind::Texture), count(Kind::Object)), (5, 10));
    assert_eq!(mvtec::kind("wood"), Some(Kind::Texture));
    assert_eq!(mvtec::kind("metal_nut"), Some(Kind::Object));
    assert_eq!(mvtec::kind("my_own_part"), None);
}

#[test]
fn mvtec_ad_has_its_published_counts() {
    let Some(root) = common::shared("data/mvtec") else {
        return;
    };
    // Bergmann et al. 2019, table 1.
    for (category, train, good, defective) in [("bottle", 209, 20, 63), ("screw", 320, 41, 119)] {
        let dataset = mvtec::load(&root, category).unwrap();
        let anomalous = dataset.test.iter().filter(|sample| sample.anomalous).count();
        assert_eq!(
            (dataset.train.len(), dataset.test.len() - anomalous, anomalous),
            (train, good, defective)
        );
        assert_eq!(
            dataset.test.iter().filter(|sample| sample.mask.is_some()).count(),
            defective
        );
        assert_eq!(dataset.missing_masks(), 0);
    }
    assert_eq!(mvtec::categories(&root).unwrap(), ["bottle", "screw"]);
}

#[test]
fn a_batch_is_its_images_one_after_the_other() {
    let root = tempfile::tempdir().unwrap();
    for n in 0..9_u8 {
        let path = root.path().join(format!("{n}.png"));
        RgbImage::from_fn(20 + u32::from(n), 31, |x, y| Rgb([n * 20, x as u8, y as u8]))
            .save(path)
            .unwrap();
    }
    GrayImage::from_pixel(40, 33, Luma([9]))
        .save(root.path().join("9.bmp"))
        .unwrap();
    let dataset = folder::load(root.path()).unwrap();
    let preprocess = Preprocess::new(17, 13, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).unwrap();
    let one_by_one: Vec<f32> = dataset
        .train
        .iter()
        .flat_map(|sample| preprocess.apply(&Rgb8::open(sample.source.path()).unwrap()))
        .collect();
    assert_eq!(load_images(&dataset.train, &preprocess).unwrap(), one_by_one);

    std::fs::write(root.path().join("4.png"), "torn").unwrap();
    std::fs::write(root.path().join("7.png"), "torn").unwrap();
    let error = load_images(&dataset.train, &preprocess).unwrap_err();
    assert!(error.to_string().contains("4.png"), "the first in order: {error}");
    assert!(load_images(&[], &preprocess).unwrap().is_empty());
}
