//! Numbers on labelled pictures, against masks and maps that are put together here. The pictures have the size that the
//! network sees, so a mask needs no resizing.

use std::path::Path;

use simplenet::detector::evaluation::TestPixelMetrics;
use simplenet::{Detector, DetectorConfig, Method, TestReport, open_upright};
use simplenet_data::{Sample, folder};
use simplenet_metrics::{MapShape, auroc, pixel_metrics};

use crate::support::{ring, training_images, with};

fn test() -> Vec<Sample> {
    folder::labelled(ring()).unwrap()
}

fn train(config: &DetectorConfig) -> Detector {
    Detector::train(&training_images(), config, |_| {}).unwrap()
}

/// Maps and masks of the window `[left, top, width, height]`, image by image.
fn expected(detector: &Detector, [left, top, width, height]: [u32; 4]) -> TestPixelMetrics {
    let (mut maps, mut masks) = (Vec::new(), Vec::new());
    let test = test();
    for sample in &test {
        let picture = open_upright(sample.source.path()).unwrap();
        maps.extend(detector.predict(&picture).unwrap().map.values);
        let mask = sample.mask.as_ref().map(|path| image::open(path).unwrap().into_luma8());
        for (y, x) in (top..top + height).flat_map(|y| (left..left + width).map(move |x| (y, x))) {
            masks.push(mask.as_ref().is_some_and(|mask| mask.get_pixel(x, y).0[0] > 127));
        }
    }
    let shape = MapShape {
        images: test.len(),
        height: height as usize,
        width: width as usize,
    };
    let metrics = pixel_metrics(&maps, &masks, shape, 0.3).unwrap();
    TestPixelMetrics {
        pixel_auroc: metrics.auroc,
        pixel_average_precision: metrics.average_precision,
        pixel_f1_max: metrics.f1_max,
        aupro: metrics.aupro,
    }
}

fn evaluate(detector: &Detector) -> TestReport {
    let mut seen = 0;
    let report = detector.evaluate(&test(), |done| seen = done).unwrap();
    assert_eq!(seen, test().len());
    report
}

#[test]
fn maps_and_masks_lie_on_one_another() {
    let whole = train(&with(Method::patchcore()));
    let mut config = with(Method::patchcore());
    config.overlap = None;
    config.model.preprocess.crop = 224;
    let middle = train(&config);
    for (detector, window) in [(&whole, [0, 0, 256, 256]), (&middle, [16, 16, 224, 224])] {
        let report = evaluate(detector);
        assert_eq!(report.metrics.pixel, Some(expected(detector, window)));
        assert_eq!(report.kinds.len(), 4);
        assert!(report.without_pixels.is_none() && report.unmarked.is_empty() && report.unreadable.is_empty());
        let (scores, anomalous): (Vec<f32>, Vec<bool>) =
            report.images.iter().map(|image| (image.score, image.anomalous)).unzip();
        assert_eq!(report.metrics.image_auroc, auroc(&scores, &anomalous).unwrap());
        let found = report
            .images
            .iter()
            .filter(|image| image.rejected && image.anomalous)
            .count();
        assert_eq!(report.recall, Some(found as f64 / 4.0));
    }
}

/// Pixels that are not judged are no true negatives, and defects there are not missed.
#[test]
fn only_pixels_in_the_region_of_interest_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let roi = folder.path().join("roi.png");
    let (left, width) = (64, 96);
    let inside = |x: u32| (left..left + width).contains(&x);
    let mask = image::GrayImage::from_fn(256, 256, |x, _| image::Luma([if inside(x) { 255 } else { 0 }]));
    mask.save(&roi).unwrap();
    let detector = train(&DetectorConfig {
        roi: Some(roi),
        ..with(Method::patchcore())
    });
    let report = evaluate(&detector);

    let test = test();
    let (mut scores, mut defects) = (Vec::new(), Vec::new());
    for sample in &test {
        let picture = open_upright(sample.source.path()).unwrap();
        let map = detector.predict(&picture).unwrap().map.values;
        let mask = sample.mask.as_ref().map(|path| image::open(path).unwrap().into_luma8());
        for (pixel, score) in (0..).zip(map) {
            let (x, y) = (pixel % 256, pixel / 256);
            if inside(x) {
                scores.push(score);
                defects.push(mask.as_ref().is_some_and(|mask| mask.get_pixel(x, y).0[0] > 127));
            }
        }
    }
    let shape = MapShape {
        images: test.len(),
        height: 256,
        width: width as usize,
    };
    let expected = pixel_metrics(&scores, &defects, shape, 0.3).unwrap();
    let found = report.metrics.pixel.unwrap();
    assert_eq!((found.pixel_auroc, found.aupro), (expected.auroc, expected.aupro));
}

/// Copies the ring's test pictures and masks.
fn copy(to: &Path) {
    for part in ["test", "ground_truth"] {
        for kind in std::fs::read_dir(ring().join(part)).unwrap() {
            let kind = kind.unwrap();
            let folder = to.join(part).join(kind.file_name());
            std::fs::create_dir_all(&folder).unwrap();
            for file in std::fs::read_dir(kind.path()).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
            }
        }
    }
}

/// Maps are of one shape each, and their pixels count alike.
#[test]
fn pictures_of_different_shapes_have_pixel_metrics() {
    let detector = train(&with(Method::patchcore()));
    let folder = tempfile::tempdir().unwrap();
    copy(folder.path());
    let labelled = || folder::labelled(folder.path()).unwrap();
    // One is wide and one is high, each in the shape of its map; resizing leaves both as they are.
    let cut = [[0, 0, 256, 512], [0, 0, 512, 256]];
    let defective = labelled().into_iter().filter(|sample| sample.anomalous);
    for (sample, [left, top, width, height]) in defective.zip(cut) {
        for path in [sample.source.path(), sample.mask.as_ref().unwrap()] {
            let picture = image::open(path).unwrap();
            let mut larger = image::RgbImage::new(512, 512);
            for (x, y) in [(0, 0), (256, 0), (0, 256), (256, 256)] {
                image::imageops::replace(&mut larger, &picture.to_rgb8(), x, y);
            }
            let larger = image::DynamicImage::from(larger).crop_imm(left, top, width, height);
            larger.save(path).unwrap();
        }
    }
    let report = detector.evaluate(&labelled(), |_| {}).unwrap();
    assert_eq!(report.without_pixels, None);

    let (mut scores, mut defects) = (Vec::new(), Vec::new());
    for sample in labelled() {
        let prediction = detector.predict(&open_upright(sample.source.path()).unwrap()).unwrap();
        let mask = sample.mask.map(|path| image::open(path).unwrap().into_luma8());
        let pixels = prediction.map.values.len();
        scores.extend(prediction.map.values);
        match mask {
            Some(mask) => defects.extend(mask.pixels().map(|pixel| pixel.0[0] > 127)),
            None => defects.extend(vec![false; pixels]),
        }
    }
    assert_eq!(
        report.metrics.pixel.unwrap().pixel_auroc,
        auroc(&scores, &defects).unwrap()
    );
}

#[test]
fn why_there_are_no_pixel_metrics_is_said() {
    let detector = train(&with(Method::patchcore()));
    let folder = tempfile::tempdir().unwrap();
    copy(folder.path());
    let labelled = || folder::labelled(folder.path()).unwrap();
    let sample = labelled().into_iter().find(|sample| sample.anomalous).unwrap();

    // A strip across and one down have no shape in common but an empty one.
    let defective = labelled().into_iter().filter(|sample| sample.anomalous);
    for (sample, [width, height]) in defective.zip([[1024, 128], [128, 1024]]) {
        for path in [sample.source.path(), sample.mask.as_ref().unwrap()] {
            let picture = image::open(path).unwrap();
            let strip = picture.resize_exact(width, height, image::imageops::FilterType::Nearest);
            strip.save(path).unwrap();
        }
    }
    let report = detector.evaluate(&labelled(), |_| {}).unwrap();
    let reason = report.without_pixels.unwrap();
    assert!(reason.contains("differ too much in shape"), "{reason}");
    assert!(report.metrics.pixel.is_none() && report.images.len() == labelled().len());

    std::fs::remove_file(sample.mask.as_ref().unwrap()).unwrap();
    let report = detector.evaluate(&labelled(), |_| {}).unwrap();
    let reason = report.without_pixels.unwrap();
    assert!(reason.contains("1 of 4 defective images have no mask"), "{reason}");
    assert!(report.metrics.pixel.is_none() && report.kinds.iter().all(|kind| kind.metrics.pixel.is_none()));
}
