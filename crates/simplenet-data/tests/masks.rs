//! Masks: their rules, and their match with their images.

use std::path::Path;

use image::{GrayImage, Luma, RgbImage};
use simplenet_data::{Error, MaskRule, Preprocess, Sample, Source, load_masks};

fn preprocess() -> Preprocess {
    Preprocess::new(16, 12, [0.0; 3], [1.0; 3]).unwrap()
}

/// A sample with a black image of 32 x 48 and a mask of its own.
fn sample(folder: &Path, name: &str, mask: &GrayImage) -> Sample {
    let image = folder.join(format!("{name}.png"));
    RgbImage::new(32, 48).save(&image).unwrap();
    let path = folder.join(format!("{name}_mask.png"));
    mask.save(&path).unwrap();
    Sample {
        source: Source::File(image),
        defect: "dent".to_owned(),
        anomalous: true,
        mask: Some(path),
    }
}

#[test]
fn rules_differ_at_the_edge_of_a_defect() {
    assert_eq!(MaskRule::default(), MaskRule::Half);
    for (value, half, one, any) in [
        (0, false, false, false),
        (1, false, false, true),
        (127, false, false, true),
        (128, true, false, true),
    ] {
        let found = [MaskRule::Half, MaskRule::One, MaskRule::Any].map(|rule| rule.is_defect(value));
        assert_eq!(found, [half, one, any], "{value}");
    }
    assert!(MaskRule::One.is_defect(255) && !MaskRule::One.is_defect(254));

    let folder = tempfile::tempdir().unwrap();
    let mask = GrayImage::from_fn(32, 48, |x, y| Luma([if x > 9 && y > 20 { 255 } else { 0 }]));
    let samples = [sample(folder.path(), "a", &mask)];
    let count = |rule| {
        let mask = load_masks(&samples, &preprocess(), rule).unwrap();
        assert_eq!(mask.len(), 144);
        mask.iter().filter(|&&defect| defect).count()
    };
    let (half, one, any) = (count(MaskRule::Half), count(MaskRule::One), count(MaskRule::Any));
    assert!(0 < one && one < half && half < any && any < 144, "{one} {half} {any}");
}

#[test]
fn masks_lie_on_their_images_in_order() {
    let folder = tempfile::tempdir().unwrap();
    // 32 x 48 becomes 16 x 24; the crop begins in column 2 and row 6. Each pixel of it is 2 x 2 of the mask.
    let mask = GrayImage::from_fn(32, 48, |x, y| Luma([if x >= 16 && y < 20 { 255 } else { 0 }]));
    let defective = sample(folder.path(), "a", &mask);
    let samples = [Sample::normal(defective.source.clone()), defective];
    let masks = load_masks(&samples, &preprocess(), MaskRule::Half).unwrap();
    let expected: Vec<bool> = (0..2 * 144)
        .map(|at| {
            let (image, y, x) = (at / 144, at / 12 % 12, at % 12);
            image == 1 && x + 2 >= 8 && y + 6 < 10
        })
        .collect();
    assert_eq!(masks, expected);
}

#[test]
fn a_mask_of_another_size_names_both_files_and_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let samples = [sample(folder.path(), "a", &GrayImage::new(48, 32))];
    let error = load_masks(&samples, &preprocess(), MaskRule::Half).unwrap_err();
    assert!(matches!(
        error,
        Error::MaskSize {
            mask_size: (48, 32),
            image_size: (32, 48),
            ..
        }
    ));
    for word in ["a.png", "a_mask.png", "48 x 32", "32 x 48", "hint: "] {
        assert!(error.to_string().contains(word), "`{word}` in: {error}");
    }
}

/// Of 16 bits the upper 8 count, and these are 0 for a mask of 0 and 255.
#[test]
fn masks_of_sixteen_bits_and_small_values_are_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let samples = [sample(folder.path(), "a", &GrayImage::new(32, 48))];
    let path = samples[0].mask.clone().unwrap();
    let load = |samples: &[Sample]| load_masks(samples, &preprocess(), MaskRule::Half);
    let save = |value: u16| {
        let mask = image::ImageBuffer::from_pixel(32, 48, Luma([value]));
        mask.save(&path).unwrap();
    };
    save(255);
    let error = load(&samples).unwrap_err();
    assert!(matches!(error, Error::MaskDepth { largest: 255, .. }), "{error}");
    assert!(error.to_string().contains("hint: save it with 8 bits"), "{error}");
    save(u16::MAX);
    assert!(load(&samples).unwrap().into_iter().all(|defect| defect));
    save(0);
    assert!(!load(&samples).unwrap().contains(&true));
}

#[test]
fn masks_of_ones_are_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let samples = [sample(folder.path(), "a", &GrayImage::from_pixel(32, 48, Luma([1])))];
    for rule in [MaskRule::Half, MaskRule::One] {
        let error = load_masks(&samples, &preprocess(), rule).unwrap_err();
        assert!(matches!(error, Error::MaskValues { largest: 1, .. }), "{error}");
    }
    assert!(
        load_masks(&samples, &preprocess(), MaskRule::Any)
            .unwrap()
            .into_iter()
            .all(|defect| defect)
    );
    // An empty mask says what it means.
    let samples = [sample(folder.path(), "b", &GrayImage::new(32, 48))];
    assert!(
        !load_masks(&samples, &preprocess(), MaskRule::Half)
            .unwrap()
            .into_iter()
            .any(|defect| defect)
    );
}

#[test]
fn a_missing_mask_is_an_error_that_names_the_image() {
    let folder = tempfile::tempdir().unwrap();
    let mut samples = [sample(folder.path(), "a", &GrayImage::new(32, 48))];
    samples[0].mask = None;
    let error = load_masks(&samples, &preprocess(), MaskRule::Half).unwrap_err();
    assert!(
        matches!(&error, Error::NoMask { image } if image.contains("a.png")),
        "{error}"
    );
}
