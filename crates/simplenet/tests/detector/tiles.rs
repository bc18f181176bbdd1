use image::RgbImage;
use simplenet::{Detector, DetectorConfig, LoadOptions, Method, Region, Rgb8, Source, Verdict};
use simplenet_data::toy::{CATEGORIES, Shot, render};

use crate::support::{saved, with};

/// Twice as wide as high: two photographs of a material side by side.
fn wide(index: usize) -> RgbImage {
    let mut wide = RgbImage::new(512, 256);
    for side in 0..2 {
        let shot = Shot::Train {
            index: 2 * index + side,
        };
        let picture = render(0, &CATEGORIES[1], shot).image;
        image::imageops::replace(&mut wide, &picture, 256 * side as i64, 0);
    }
    wide
}

fn rgb8(image: RgbImage) -> Rgb8 {
    Rgb8::new(image.width() as usize, image.height() as usize, image.into_raw()).unwrap()
}

fn config() -> DetectorConfig {
    let mut config = with(Method::patchcore());
    config.model.preprocess.crop = 128;
    config.overlap = Some(32);
    config
}

fn folder() -> (tempfile::TempDir, Vec<Source>) {
    saved((0..5).map(wide))
}

/// The whole picture is judged, and a defect in its last corner is found there.
#[test]
fn a_defect_anywhere_in_a_wide_picture_is_found_where_it_is() {
    let (_folder, images) = folder();
    let detector = Detector::train(&images, &config(), |_| {}).unwrap();
    let detector = Detector::from_bytes(
        &detector.to_bytes().unwrap(),
        "memory".as_ref(),
        &LoadOptions::default(),
    )
    .unwrap();
    for [x, y] in [[484, 228], [10, 10], [246, 120]] {
        let mut damaged = wide(7);
        for (dx, dy) in (0..20).flat_map(|dx| (0..20).map(move |dy| (dx, dy))) {
            let value = if (dx / 3 + dy / 3) % 2 == 0 { 255 } else { 0 };
            damaged.put_pixel(x + dx, y + dy, image::Rgb([value; 3]));
        }
        let prediction = detector.predict(&rgb8(damaged)).unwrap();
        assert_eq!(prediction.verdict, Verdict::Defect);
        let geometry = prediction.map.geometry;
        assert_eq!((geometry.columns, geometry.rows), (512, 256));
        assert_eq!(prediction.map.values.len(), 512 * 256);
        let peak = prediction.regions[0].peak;
        let near = |at: f64, from: u32| at > f64::from(from) - 16.0 && at < f64::from(from) + 36.0;
        assert!(near(peak.x, x) && near(peak.y, y), "{peak:?} for {x}, {y}");
    }
}

/// Sides that are no whole number of patches when they are resized.
#[test]
fn the_outermost_columns_are_judged() {
    let folder = tempfile::tempdir().unwrap();
    let part = |index: usize| image::imageops::crop_imm(&wide(index), 0, 0, 341, 256).to_image();
    let images = (0..5).map(|index| {
        let path = folder.path().join(format!("{index}.png"));
        part(index).save(&path).unwrap();
        Source::File(path)
    });
    let images: Vec<Source> = images.collect();
    let detector = Detector::train(&images, &config(), |_| {}).unwrap();
    for first in [0, 336] {
        let mut damaged = part(7);
        for (x, y) in (first..first + 5).flat_map(|x| (0..256).map(move |y| (x, y))) {
            damaged.put_pixel(x, y, image::Rgb([0, 255, 0]));
        }
        let prediction = detector.predict(&rgb8(damaged)).unwrap();
        assert_eq!(prediction.verdict, Verdict::Defect, "columns from {first}");
        let reaches = |region: &Region| {
            let bounds = region.bounds;
            bounds.x <= first as usize && bounds.x + bounds.width >= first as usize + 5
        };
        assert!(
            prediction.regions.iter().any(reaches),
            "columns from {first}: {:?}",
            prediction.regions
        );
    }
}

/// What a square says of its middle is what the whole says there: joining moves and loses nothing.
#[test]
fn a_picture_of_one_square_is_judged_as_without_tiles() {
    let (_folder, images) = folder();
    let mut tiled = config();
    tiled.model.preprocess.crop = 256;
    let mut images_of_one_square = Vec::new();
    for (index, source) in images.iter().enumerate() {
        let square = image::open(source.path()).unwrap().crop_imm(0, 0, 256, 256);
        let path = source.path().with_file_name(format!("square-{index}.png"));
        square.save(&path).unwrap();
        images_of_one_square.push(Source::File(path));
    }
    let middle = DetectorConfig {
        overlap: None,
        ..tiled.clone()
    };
    let [tiled, middle] =
        [tiled, middle].map(|config| Detector::train(&images_of_one_square, &config, |_| {}).unwrap());
    let picture = rgb8(render(0, &CATEGORIES[1], Shot::Defective { defect: 0, index: 0 }).image);
    assert_eq!(tiled.predict(&picture).unwrap(), middle.predict(&picture).unwrap());
}

#[test]
fn pictures_of_other_sizes_are_judged_and_impossible_ones_refused() {
    let (_folder, images) = folder();
    let detector = Detector::train(&images, &config(), |_| {}).unwrap();
    for (width, height) in [(1, 1), (90, 300), (257, 256), (700, 300)] {
        let image = Rgb8::new(width, height, vec![90; width * height * 3]).unwrap();
        let inspected = detector.predict(&image).unwrap().map.geometry.inspected();
        assert_eq!((inspected.x, inspected.y), (0, 0));
        assert_eq!((inspected.width, inspected.height), (width, height));
    }
    let strip = Rgb8::new(1_000_000, 1, vec![90; 3_000_000]).unwrap();
    let error = detector.predict(&strip).unwrap_err().to_string();
    assert!(error.contains("squares") && error.contains("hint: "), "{error}");
    let refused = |change: fn(&mut DetectorConfig)| {
        let mut config = config();
        change(&mut config);
        Detector::train(&images, &config, |_| {}).err().unwrap().to_string()
    };
    assert!(refused(|config| config.overlap = Some(100)).contains("`overlap` is 100"));
    assert!(refused(|config| config.model.preprocess.crop = 100).contains("multiple of 8"));
}
