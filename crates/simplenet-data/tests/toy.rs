//! The procedural sample set, through its public interface.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use image::{GrayImage, RgbImage};
use rayon::prelude::*;
use simplenet_data::toy::{
    CATEGORIES, Category, CategoryKind, Counts, Shot, generate_counts, render, render_before_damage,
};

const FEW: Counts = Counts {
    train: 2,
    good: 1,
    defective: 1,
};

/// Every file under `root` with its bytes.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_set_has_the_layout_of_mvtec_ad() {
    let cache = tempfile::tempdir().unwrap();
    let root = generate_counts(cache.path(), 3, FEW).unwrap();
    let mut expected = Vec::new();
    for category in &CATEGORIES {
        assert!(category.defects.len() >= 3, "{}", category.name);
        for file in ["train/good/000.png", "train/good/001.png", "test/good/000.png"] {
            expected.push(format!("{}/{file}", category.name));
        }
        for defect in category.defects {
            expected.push(format!("{}/test/{defect}/000.png", category.name));
            expected.push(format!("{}/ground_truth/{defect}/000_mask.png", category.name));
        }
    }
    expected.sort();
    assert_eq!(files(&root).into_keys().collect::<Vec<_>>(), expected);
    // Nothing but the finished set is left in the cache.
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1);
}

#[test]
fn a_seed_means_the_same_bytes_for_any_number_of_threads() {
    let with_threads = |threads, seed, counts| {
        let cache = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        files(&pool.install(|| generate_counts(cache.path(), seed, counts)).unwrap())
    };
    let counts = Counts {
        train: 1,
        good: 1,
        defective: 1,
    };
    let alone = with_threads(1, 7, counts);
    assert_eq!(alone, with_threads(3, 7, counts));
    for (name, bytes) in with_threads(
        2,
        8,
        Counts {
            train: 1,
            good: 0,
            defective: 0,
        },
    ) {
        assert_ne!(alone[&name], bytes, "{name}");
    }
    // No photograph is repeated: train and test are drawn apart.
    let different: BTreeSet<_> = alone.values().collect();
    assert_eq!(different.len(), alone.len());
}

#[test]
fn a_set_that_is_there_is_returned_untouched() {
    const ONE: Counts = Counts {
        train: 1,
        good: 0,
        defective: 0,
    };
    let cache = tempfile::tempdir().unwrap();
    let root = generate_counts(cache.path(), 1, ONE).unwrap();
    fs::write(root.join("note.txt"), "mine").unwrap();
    assert_eq!(generate_counts(cache.path(), 1, ONE).unwrap(), root);
    assert_eq!(fs::read_to_string(root.join("note.txt")).unwrap(), "mine");
}

#[test]
fn an_unusable_cache_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("occupied");
    fs::write(&file, "").unwrap();
    let error = generate_counts(&file, 1, FEW).unwrap_err().to_string();
    assert!(error.contains(file.to_str().unwrap()), "{error}");
    assert!(error.contains("\n\nhint: "), "{error}");
}

/// How a mask agrees with the damage that can be seen.
struct Agreement {
    name: String,
    masked: usize,
    /// Share of the mask in which the photograph changed visibly.
    changed_inside: f64,
    /// Pixels that changed visibly away from the mask.
    changed_outside: usize,
}

fn agreement(category: &Category, defect: usize, index: usize) -> Agreement {
    let shot = Shot::Defective { defect, index };
    let photograph = render(5, category, shot);
    let before = render_before_damage(5, category, shot);
    let mask = photograph.mask.expect("a defective part has a mask");
    assert_eq!(mask.dimensions(), photograph.image.dimensions());
    assert!(
        mask.pixels().all(|pixel| [0, 255].contains(&pixel.0[0])),
        "a mask is black and white"
    );

    // The lens blurs, creases shade; and what stands above a table throws a shadow, which goes when it goes.
    let reach = match category.kind {
        CategoryKind::Texture => 3,
        CategoryKind::Object => 14,
    };
    let (mut masked, mut changed_inside, mut changed_outside) = (0, 0, 0);
    for (x, y, pixel) in mask.enumerate_pixels() {
        let difference = difference(&photograph.image, &before, x, y);
        if pixel.0[0] == 255 {
            masked += 1;
            changed_inside += usize::from(difference > 4);
        } else if difference > 12 && !near_mask(&mask, x, y, reach) {
            changed_outside += 1;
        }
    }
    let name = format!("{} {} {index}", category.name, category.defects[defect]);
    let changed_inside = changed_inside as f64 / f64::from(masked.max(1));
    Agreement {
        name,
        masked: masked as usize,
        changed_inside,
        changed_outside,
    }
}

fn difference(a: &RgbImage, b: &RgbImage, x: u32, y: u32) -> u8 {
    let [a, b] = [a.get_pixel(x, y).0, b.get_pixel(x, y).0];
    (0..3).map(|channel| a[channel].abs_diff(b[channel])).max().unwrap_or(0)
}

fn near_mask(mask: &GrayImage, x: u32, y: u32, reach: u32) -> bool {
    let around = |at: u32| at.saturating_sub(reach)..(at + reach + 1).min(mask.width());
    around(y).any(|row| around(x).any(|column| mask.get_pixel(column, row).0[0] == 255))
}

#[test]
fn masks_cover_what_the_defect_changed_and_little_else() {
    let jobs: Vec<_> = CATEGORIES
        .iter()
        .flat_map(|category| (0..category.defects.len()).map(move |defect| (category, defect)))
        .flat_map(|(category, defect)| [0, 4].map(|index| (category, defect, index)))
        .collect();
    let agreements: Vec<_> = jobs
        .into_par_iter()
        .map(|(category, defect, index)| agreement(category, defect, index))
        .collect();
    for Agreement {
        name,
        masked,
        changed_inside,
        changed_outside,
    } in agreements
    {
        assert!((20..6000).contains(&masked), "{name}: {masked} pixels in the mask");
        assert!(
            changed_inside > 0.6,
            "{name}: only {changed_inside:.2} of the mask changed"
        );
        assert!(
            changed_outside * 50 <= masked,
            "{name}: {changed_outside} pixels changed outside {masked}"
        );
    }
}
