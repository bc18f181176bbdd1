//! A picture without the part, on a ground that good pictures show as well.

use simplenet::detector::PixelBox;
use simplenet::{Detector, DetectorConfig, LoadOptions, Method, Rgb8, Source, Verdict};

use crate::support::{picture, saved, with};

/// Two dark squares that lie a little elsewhere in every picture.
fn part(index: u32) -> image::RgbImage {
    let (x, y) = (90 + index * 7 % 13, 100 + index * 5 % 11);
    picture(index, &[[x, y], [x + 40, y + 10]])
}

fn rgb(picture: image::RgbImage) -> Rgb8 {
    let (width, height) = picture.dimensions();
    Rgb8::new(width as usize, height as usize, picture.into_raw()).unwrap()
}

/// A folder with twenty pictures of the part.
fn good_parts() -> (tempfile::TempDir, Vec<Source>) {
    saved((0..20).map(part))
}

/// PatchCore as a user has it, with memory enough for every picture, but two held-out models.
fn remembering() -> DetectorConfig {
    DetectorConfig {
        folds: 2,
        ..DetectorConfig::default()
    }
}

#[test]
fn a_picture_without_the_part_is_a_defect() {
    let (_folder, images) = good_parts();
    let mut tiled = remembering();
    tiled.model.preprocess.crop = 128;
    for config in [remembering(), tiled, with(Method::SimpleNet)] {
        let name = config.model.method.name();
        let detector = Detector::train(&images, &config, |_| {}).unwrap();
        let file = detector.to_bytes().unwrap();
        let mut detector = Detector::from_bytes(&file, "memory".as_ref(), &LoadOptions::default()).unwrap();
        let card = detector.card().calibration.absence.unwrap();
        assert!(card.highest < 0.6, "{name}: {card:?}");

        let good = detector.predict(&rgb(part(33))).unwrap();
        assert!(good.absence.unwrap() < 0.6, "{name}: {:?}", good.absence);
        assert_eq!(good.verdict, Verdict::Good, "{name}");

        let empty = rgb(picture(50, &[]));
        let found = detector.predict(&empty).unwrap();
        assert!(
            found.is_absent && found.absence.unwrap() > 1.0,
            "{name}: {:?}",
            found.absence
        );
        // The ground alone is nothing that should not be there.
        assert!(found.score < found.threshold, "{name}");
        assert_eq!(found.verdict, Verdict::Defect, "{name}");
        let whole = PixelBox {
            x: 0,
            y: 0,
            width: 256,
            height: 256,
        };
        let [region] = &found.regions[..] else {
            panic!("{name}: one region, not {:?}", found.regions);
        };
        assert_eq!((region.bounds, region.area), (whole, 256 * 256), "{name}");
        assert!(found.map.in_region.iter().all(|&is_in| is_in));
        // The same in a batch, behind another one.
        let batch = detector.predict_batch(&[rgb(part(34)), empty.clone()]).unwrap();
        assert_eq!(batch[1], found, "{name}");

        detector.set_max_absence(None).unwrap();
        let file = detector.to_bytes().unwrap();
        let tolerant = Detector::from_bytes(&file, "memory".as_ref(), &LoadOptions::default()).unwrap();
        let passed = tolerant.predict(&empty).unwrap();
        assert_eq!(
            (passed.verdict, passed.absence),
            (Verdict::Good, found.absence),
            "{name}"
        );
        assert!(passed.regions.is_empty(), "{name}");
        for limit in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let error = detector.set_max_absence(Some(limit)).unwrap_err().to_string();
            assert!(error.contains("above 0"), "{error}");
        }
    }
}

/// One among the good parts is named: by its score it is a good one, and from then on others like it would be.
#[test]
fn an_empty_picture_among_the_good_ones_is_named() {
    let (folder, mut images) = good_parts();
    let path = folder.path().join("07b.png");
    picture(60, &[]).save(&path).unwrap();
    images.insert(8, Source::File(path));
    let detector = Detector::train(&images, &remembering(), |_| {}).unwrap();
    let hygiene = &detector.card().hygiene;
    assert!(hygiene.suspects.iter().all(|suspect| suspect.file != "07b.png"));
    let [lacking] = &hygiene.lacking[..] else {
        panic!("one picture, not {:?}", hygiene.lacking);
    };
    assert!(lacking.file == "07b.png" && lacking.times_usual > 5.0, "{lacking:?}");
    // What it lacks is a good one's, as far as anybody knows.
    let card = detector.card().calibration.absence.unwrap();
    assert!((0.6..0.7).contains(&card.highest), "{card:?}");
}

/// Where the part lies outside of what is judged, it may be there or not. (What is near it may still look odd without it: a patch's
/// features see farther than the patch.)
#[test]
fn what_is_absent_outside_of_the_region_of_interest_is_not_missed() {
    let (folder, images) = good_parts();
    let ignored = folder.path().join("ignored.png");
    let part_s_place = |x, y| (64..192).contains(&x) && (64..176).contains(&y);
    image::GrayImage::from_fn(256, 256, |x, y| image::Luma([if part_s_place(x, y) { 255 } else { 0 }]))
        .save(&ignored)
        .unwrap();
    let config = DetectorConfig {
        ignore: Some(ignored),
        ..remembering()
    };
    let detector = Detector::train(&images, &config, |_| {}).unwrap();
    let empty = detector.predict(&rgb(picture(50, &[]))).unwrap();
    assert!(empty.absence.unwrap() < 1.0, "{:?}", empty.absence);
}

/// A Gaussian for every position knows that the part is not there.
#[test]
fn padim_needs_no_such_thing() {
    let (_folder, images) = good_parts();
    let mut detector = Detector::train(&images, &with(Method::padim()), |_| {}).unwrap();
    let empty = detector.predict(&rgb(picture(50, &[]))).unwrap();
    assert_eq!((empty.verdict, empty.absence), (Verdict::Defect, None));
    assert!(empty.score >= empty.threshold);
    let error = detector.set_max_absence(None).unwrap_err().to_string();
    assert!(error.contains("does not measure") && error.contains("padim"), "{error}");
}

/// Copies of one picture lack nothing of one another, and so nothing is too much.
#[test]
fn copies_of_one_picture_give_no_limit() {
    let (_folder, images) = saved((0..6).map(|_| part(0)));
    let detector = Detector::train(&images, &remembering(), |_| {}).unwrap();
    assert_eq!(detector.card().calibration.absence, None);
    assert_eq!(detector.predict(&rgb(part(0))).unwrap().absence, None);
}
