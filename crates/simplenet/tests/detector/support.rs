use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use simplenet::{Detector, DetectorConfig, Method, Source};
use simplenet_data::toy::{self, Counts};

/// The folder of the category `ring`: 12 good parts to train on, 2 good ones and one of each defect to test.
pub(crate) fn ring() -> &'static Path {
    static SET: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("the system has a folder for temporary files");
        let counts = Counts {
            train: 12,
            good: 2,
            defective: 1,
        };
        let set = toy::generate_counts(folder.path(), 0, counts).expect("it can be written");
        (folder, set.join("ring"))
    });
    &SET.1
}

pub(crate) fn training_images() -> Vec<Source> {
    simplenet_data::folder::images(ring().join("train/good")).expect("there are twelve")
}

/// SimpleNet: two held-out heads and the real one, 30 steps each.
pub(crate) fn quick() -> DetectorConfig {
    with(Method::SimpleNet)
}

/// A method with two held-out models and little of everything.
pub(crate) fn with(method: Method) -> DetectorConfig {
    DetectorConfig {
        steps: Some(30),
        folds: 2,
        max_vectors: 500,
        ..DetectorConfig::default().with_method(method)
    }
}

/// One detector for all tests that only look at it.
pub(crate) fn detector() -> &'static Detector {
    static DETECTOR: LazyLock<Detector> =
        LazyLock::new(|| Detector::train(&training_images(), &quick(), |_| {}).expect("twelve images are enough"));
    &DETECTOR
}

/// Grey with a grain of its own for every picture, and dark spots of 24 pixels at the given places.
pub(crate) fn picture(seed: u32, spots: &[[u32; 2]]) -> image::RgbImage {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(12345);
    image::RgbImage::from_fn(256, 256, |x, y| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let grain = (state >> 28) as u8;
        let in_spot = |[left, top]: &[u32; 2]| x.wrapping_sub(*left) < 24 && y.wrapping_sub(*top) < 24;
        let base = if spots.iter().any(in_spot) { 30 } else { 150 };
        image::Rgb([base + grain; 3])
    })
}

/// Pictures in a folder of their own, by number.
pub(crate) fn saved(pictures: impl Iterator<Item = image::RgbImage>) -> (tempfile::TempDir, Vec<Source>) {
    let folder = tempfile::tempdir().expect("the system has a folder for temporary files");
    let images = pictures.enumerate().map(|(index, picture)| {
        let path = folder.path().join(format!("{index:02}.png"));
        picture.save(&path).expect("it can be written");
        Source::File(path)
    });
    let images = images.collect();
    (folder, images)
}
