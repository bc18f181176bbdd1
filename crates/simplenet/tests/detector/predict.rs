use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use simplenet::detector::card::ThresholdCard;
use simplenet::{Detector, DetectorConfig, LoadOptions, Method, Prediction, Rgb8, Verdict, open_upright};

use crate::support::{detector, ring, training_images, with};

fn test_images() -> Vec<Rgb8> {
    let dataset = simplenet_data::folder::load(ring()).expect("the set has a test folder");
    let images = dataset.test.iter().map(|sample| open_upright(sample.source.path()));
    images.collect::<Result<_, _>>().expect("they are all images")
}

#[test]
fn a_prediction_does_not_depend_on_its_batch() {
    let images = test_images();
    let together = detector().predict_batch(&images).unwrap();
    let alone: Vec<Prediction> = images.iter().map(|image| detector().predict(image).unwrap()).collect();
    assert_eq!(together, alone);
    let mut reversed = images;
    reversed.reverse();
    let mut backwards = detector().predict_batch(&reversed[..3]).unwrap();
    backwards.reverse();
    assert_eq!(backwards, alone[alone.len() - 3..]);
}

#[test]
fn a_prediction_does_not_depend_on_the_file_s_place_or_the_number_of_threads() {
    let images = test_images();
    let here = detector().predict_batch(&images).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("moved.simplenet");
    detector().save(&path).unwrap();
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let there = pool.install(|| {
            let loaded = Detector::load(&path, &LoadOptions::default()).unwrap();
            loaded.predict_batch(&images).unwrap()
        });
        assert_eq!(here, there, "{threads} threads");
    }
}

/// An evaluation scores joined rows, a detector each stage on its own grid: equal to rounding.
#[test]
fn scores_are_those_of_the_evaluation() {
    let dataset = simplenet_data::folder::load(ring()).unwrap();
    let memory = simplenet::BankMemory::new(1 << 30);
    let pipeline = detector().pipeline();
    let (bank, _) = pipeline
        .bank(&dataset.test, &memory, |_| Ok::<_, simplenet::Error>(()))
        .unwrap();
    let scores = simplenet::Scores::by(detector().model(), &bank, pipeline.grid()).unwrap();
    let predicted: Vec<f32> = test_images()
        .iter()
        .map(|image| detector().predict(image).unwrap().score)
        .collect();
    let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
    assert!(
        scores.images.len() == predicted.len() && scores.images.iter().zip(&predicted).all(close),
        "{:?} and {predicted:?}",
        scores.images
    );
}

#[test]
fn the_threshold_decides_and_its_side_is_the_defect_s() {
    let image = &test_images()[0];
    let file = detector().to_bytes().unwrap();
    let mut detector = Detector::from_bytes(&file, "memory".as_ref(), &LoadOptions::default()).unwrap();
    let score = detector.predict(image).unwrap().score;
    detector
        .set_threshold(ThresholdCard::Fixed { threshold: score })
        .unwrap();
    let defect = detector.predict(image).unwrap();
    assert_eq!(defect.verdict, Verdict::Defect);
    assert!(!defect.regions.is_empty());
    let inspected = defect.map.geometry.inspected();
    for region in &defect.regions {
        let bounds = region.bounds;
        assert!(bounds.x >= inspected.x && bounds.x + bounds.width <= inspected.x + inspected.width);
        assert!(region.peak.x > bounds.x as f64 && region.peak.x < (bounds.x + bounds.width) as f64);
        assert!(region.centroid[1] > bounds.y as f64 && region.centroid[1] < (bounds.y + bounds.height) as f64);
    }
    detector
        .set_threshold(ThresholdCard::Fixed {
            threshold: score.next_up(),
        })
        .unwrap();
    let good = detector.predict(image).unwrap();
    assert_eq!((good.verdict, good.regions.len()), (Verdict::Good, 0));
    let nan = ThresholdCard::Fixed { threshold: f32::NAN };
    assert!(detector.set_threshold(nan).unwrap_err().to_string().contains("finite"));
}

/// A camera on its side writes the rotated pixels and says so in EXIF (orientation 6: turn by 90 degrees clockwise).
#[test]
fn exif_orientation_is_applied() {
    let upright = &test_images()[0];
    let (width, height) = (upright.width() as u32, upright.height() as u32);
    let upright_buffer = RgbImage::from_raw(width, height, upright.data().to_vec()).unwrap();
    let stored = image::imageops::rotate270(&upright_buffer);
    #[rustfmt::skip]
    let exif = vec![
        b'I', b'I', 42, 0, 8, 0, 0, 0, // little endian, first directory at 8
        1, 0, 0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, // one entry: orientation, one short, 6
        0, 0, 0, 0,
    ];
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif).unwrap();
    encoder
        .write_image(
            stored.as_raw(),
            stored.width(),
            stored.height(),
            ExtendedColorType::Rgb8,
        )
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sideways.png");
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(&open_upright(&path).unwrap(), upright);
    assert_eq!(
        detector().predict_file(&path).unwrap(),
        detector().predict(upright).unwrap()
    );
}

/// 16 bits and grey reach the network like their 8-bit colour versions.
#[test]
fn sixteen_bit_and_grey_images_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let grey = image::GrayImage::from_fn(300, 260, |x, y| image::Luma([(x / 2 + y / 3) as u8]));
    let wide = image::ImageBuffer::<image::Luma<u16>, _>::from_fn(300, 260, |x, y| {
        image::Luma([u16::from(grey.get_pixel(x, y).0[0]) << 8 | 0x3F])
    });
    let color = image::DynamicImage::from(grey.clone()).to_rgb8();
    let scores: Vec<f32> = [
        ("grey.png", image::DynamicImage::from(grey)),
        ("wide.png", image::DynamicImage::from(wide)),
        ("color.png", image::DynamicImage::from(color)),
    ]
    .into_iter()
    .map(|(name, image)| {
        let path = folder.path().join(name);
        image.save(&path).unwrap();
        detector().predict_file(&path).unwrap().score
    })
    .collect();
    assert_eq!(scores[0], scores[1]);
    assert_eq!(scores[0], scores[2]);
}

/// Sizes that no camera has: a side of one pixel, and long strips.
#[test]
fn images_of_any_shape_are_judged() {
    for (width, height) in [(1, 1), (1, 9), (70, 3), (257, 256)] {
        let image = Rgb8::new(width, height, vec![90; width * height * 3]).unwrap();
        let prediction = detector().predict(&image).unwrap();
        let inspected = prediction.map.geometry.inspected();
        assert!(inspected.x + inspected.width <= width && inspected.y + inspected.height <= height);
        assert!(inspected.width > 0 && inspected.height > 0, "{width} x {height}");
    }
}

/// What lies outside the region of interest has no say, in training's calibration and afterwards.
#[test]
fn only_the_region_of_interest_counts() {
    let folder = tempfile::tempdir().unwrap();
    let roi = folder.path().join("roi.png");
    let left = image::GrayImage::from_fn(256, 256, |x, _| image::Luma([if x < 128 { 255 } else { 0 }]));
    left.save(&roi).unwrap();
    let config = DetectorConfig {
        roi: Some(roi.clone()),
        ..with(Method::patchcore())
    };
    let whole = Detector::train(
        &training_images(),
        &DetectorConfig {
            roi: None,
            ..config.clone()
        },
        |_| {},
    )
    .unwrap();
    let half = Detector::train(&training_images(), &config, |_| {}).unwrap();
    let half = Detector::from_bytes(&half.to_bytes().unwrap(), "memory".as_ref(), &LoadOptions::default()).unwrap();
    for image in test_images() {
        let (all, left) = (whole.predict(&image).unwrap(), half.predict(&image).unwrap());
        assert!(left.score <= all.score);
        for region in left.regions {
            assert!(region.bounds.x + region.bounds.width <= 128, "{region:?}");
        }
    }
    let held_out = |detector: &Detector| -> f32 {
        let images = &detector.card().calibration.held_out;
        images.iter().map(|image| image.score).sum()
    };
    assert!(held_out(&half) < held_out(&whole));

    assert_eq!((half.judged_share(), whole.judged_share()), (0.5, 1.0));

    // The middle of any picture has the size of the map, and the region would lie elsewhere in the picture.
    let middle = Detector::train(
        &training_images(),
        &DetectorConfig {
            overlap: None,
            ..config.clone()
        },
        |_| {},
    )
    .unwrap();
    let middle = Detector::from_bytes(&middle.to_bytes().unwrap(), "memory".as_ref(), &LoadOptions::default()).unwrap();
    let image = &test_images()[0];
    assert!(middle.predict(image).is_ok());
    let wide = Rgb8::new(512, 256, vec![90; 512 * 256 * 3]).unwrap();
    let error = middle.predict(&wide).err().unwrap().to_string();
    assert!(
        error.contains("resized to 512 x 256") && error.contains("hint: "),
        "{error}"
    );

    let photograph = image::GrayImage::from_fn(256, 256, |x, y| image::Luma([(x / 2 + y / 2) as u8]));
    photograph.save(&roi).unwrap();
    let error = Detector::train(&training_images(), &config, |_| {})
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("is no mask") && error.contains("hint: "), "{error}");

    // As a mask that is 1 where another program wants it.
    image::GrayImage::from_pixel(256, 256, image::Luma([1]))
        .save(&roi)
        .unwrap();
    let error = Detector::train(&training_images(), &config, |_| {})
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("has no white pixel: its largest value is 1") && error.contains("hint: "),
        "{error}"
    );

    let small = image::GrayImage::from_pixel(100, 256, image::Luma([255]));
    small.save(&roi).unwrap();
    let error = Detector::train(&training_images(), &config, |_| {})
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("100 x 256") && error.contains("256 x 256"), "{error}");
    let nothing = DetectorConfig {
        ignore: Some(roi.clone()),
        roi: None,
        ..config
    };
    image::GrayImage::from_pixel(256, 256, image::Luma([255]))
        .save(&roi)
        .unwrap();
    let error = Detector::train(&training_images(), &nothing, |_| {})
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("leave no patch to judge"), "{error}");
}
