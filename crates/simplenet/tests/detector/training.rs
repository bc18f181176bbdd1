use simplenet::detector::card::ThresholdCard;
use simplenet::{Detector, DetectorConfig, Method, Progress, Source};
use simplenet_data::toy::{CATEGORIES, Shot, render};

use crate::support::{detector, quick, training_images, with};

#[test]
fn the_file_is_the_same_for_any_number_of_threads() {
    let images = training_images();
    let config = DetectorConfig {
        steps: Some(6),
        ..quick()
    };
    let files = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| Detector::train(&images, &config, |_| {}).unwrap().to_bytes().unwrap())
    });
    assert!(files[0] == files[1]);
}

#[test]
fn the_card_names_data_backbone_and_calibration() {
    let card = detector().card();
    assert_eq!((card.data.images, card.data.size), (12, [256, 256]));
    assert_eq!(card.data.names_sha256.len(), 64);
    assert_eq!(card.backbone.weights, None);
    assert_eq!(card.calibration.held_out.len(), 12);
    assert_eq!(card.calibration.held_out[0].file, "000.png");
    assert_eq!(card.training.len(), 10); // 30 steps of 4 images
    let ThresholdCard::Contract(contract) = &card.calibration.threshold else {
        panic!("a new detector keeps a contract, not {:?}", card.calibration.threshold);
    };
    assert_eq!((contract.held_out, contract.rejected), (12, 0));
    // 1 - 0.05^(1/12)
    assert!((contract.bound - 0.2209).abs() < 1e-4);
    assert_eq!(contract.more_images_needed(), 299 - 12);
}

#[test]
fn progress_counts_images_and_heads() {
    let mut seen = Vec::new();
    let config = DetectorConfig {
        steps: Some(3),
        ..quick()
    };
    Detector::train(&training_images(), &config, |progress| seen.push(progress)).unwrap();
    let features = |done| Progress::Features { done, images: 12 };
    let head = |head, epoch, epochs| Progress::Head {
        head,
        heads: 3,
        epoch,
        epochs,
    };
    // Three steps of four images, for which the halves take two epochs.
    let halves = [head(1, 1, 2), head(1, 2, 2), head(2, 1, 2), head(2, 2, 2)];
    assert_eq!(seen[..2], [features(8), features(12)]);
    assert_eq!(seen[2..6], halves);
    assert_eq!(seen[6..], [head(3, 1, 1)]);
}

#[test]
fn a_file_that_is_no_image_is_named_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.png");
    std::fs::write(&broken, "not a picture").unwrap();
    let mut images = training_images();
    images.truncate(5);
    images.insert(2, Source::File(broken.clone()));
    let config = DetectorConfig {
        steps: Some(2),
        ..quick()
    };
    let detector = Detector::train(&images, &config, |_| {}).unwrap();
    let data = &detector.card().data;
    assert_eq!((data.images, data.unreadable.len()), (5, 1));
    assert_eq!(data.unreadable[0].file, broken.display().to_string());

    images.truncate(4);
    let error = Detector::train(&images, &config, |_| {}).err().unwrap().to_string();
    assert!(
        error.starts_with("3 images can be read and 1 cannot; at least 4"),
        "{error}"
    );
    assert!(error.contains("broken.png"), "{error}");
}

/// Whatever comes first in the folder: a thumbnail, a torn picture.
#[test]
fn the_usual_size_is_that_of_most_images() {
    let folder = tempfile::tempdir().unwrap();
    let dot = folder.path().join("000.png");
    image::RgbImage::new(1, 1).save(&dot).unwrap();
    let mut images = training_images();
    images.truncate(4);
    images.insert(0, Source::File(dot));
    let config = DetectorConfig {
        steps: Some(2),
        ..quick()
    };
    let detector = Detector::train(&images, &config, |_| {}).unwrap();
    let data = &detector.card().data;
    assert_eq!((data.size, data.other_sizes, data.images), ([256, 256], 1, 5));
    assert_eq!(detector.usual_geometry().unwrap().width, 256);

    let wide = folder.path().join("wide.png");
    image::RgbImage::new(300, 256).save(&wide).unwrap();
    // Two of either: the first one's.
    let wide = Source::File(wide);
    let tie = [wide.clone(), images[1].clone(), images[2].clone(), wide];
    let detector = Detector::train(&tie, &config, |_| {}).unwrap();
    assert_eq!(detector.card().data.size, [300, 256]);
}

/// A folder for each day, with the same names in all.
#[test]
fn files_of_one_name_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let mut images = Vec::new();
    for day in ["monday", "tuesday"] {
        std::fs::create_dir(folder.path().join(day)).unwrap();
        for (index, image) in training_images()[..3].iter().enumerate() {
            let copy = folder.path().join(day).join(format!("{index}.png"));
            std::fs::copy(image.path(), &copy).unwrap();
            images.push(Source::File(copy));
        }
    }
    let detector = Detector::train(&images, &with(Method::patchcore()), |_| {}).unwrap();
    let pairs = &detector.card().hygiene.duplicates;
    let named: Vec<_> = pairs.iter().map(|pair| [&pair.first[..], &pair.second[..]]).collect();
    let expected = ["0.png", "1.png", "2.png"].map(|name| [format!("monday/{name}"), format!("tuesday/{name}")]);
    assert_eq!(named, expected);
}

#[test]
fn a_duplicate_is_found() {
    let mut images = training_images();
    images.truncate(6);
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.png");
    std::fs::copy(images[1].path(), &copy).unwrap();
    images.push(Source::File(copy));
    let config = DetectorConfig {
        steps: Some(2),
        ..quick()
    };
    let detector = Detector::train(&images, &config, |_| {}).unwrap();
    let [duplicate] = &detector.card().hygiene.duplicates[..] else {
        panic!("one pair, not {:?}", detector.card().hygiene.duplicates);
    };
    assert_eq!(
        (duplicate.first.as_str(), duplicate.second.as_str(), duplicate.distance),
        ("001.png", "copy.png", 0.0)
    );
}

#[test]
fn what_half_of_the_pictures_would_do_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    // Percent of a picture's light.
    let halved = |count: usize, light: &dyn Fn(usize) -> usize, method: Method| {
        let images = (0..count).map(|index| {
            let path = folder.path().join(format!("{index:02}.png"));
            let mut picture = render(0, &CATEGORIES[0], Shot::Train { index }).image;
            for value in picture.iter_mut() {
                *value = (usize::from(*value) * light(index) / 100) as u8;
            }
            picture.save(&path).unwrap();
            Source::File(path)
        });
        let config = DetectorConfig {
            max_vectors: 3000,
            ..with(method)
        };
        let detector = Detector::train(&Vec::from_iter(images), &config, |_| {}).unwrap();
        detector.card().calibration.halved
    };
    // Any piece of a weave is like another, but not in another light.
    let alike = halved(24, &|_| 100, Method::patchcore()).unwrap();
    let different = halved(24, &|index| 100 - 4 * (index * 7 % 24), Method::patchcore()).unwrap();
    assert_eq!((alike.images, different.images), (24, 24));
    assert!((0.95..1.02).contains(&alike.mean) && alike.highest < 1.05, "{alike:?}");
    assert!(different.mean > 1.02 && different.highest > 1.08, "{different:?}");

    assert_eq!(halved(19, &|_| 100, Method::patchcore()), None);
    assert_eq!(halved(20, &|_| 100, Method::padim()), None);
}

#[test]
fn a_configuration_that_cannot_train_is_refused() {
    let refused = |config: DetectorConfig| Detector::train(&training_images(), &config, |_| {}).err().unwrap();
    let message = |config| refused(config).to_string();
    assert!(message(DetectorConfig { folds: 1, ..quick() }).contains("`folds` is 1"));
    assert!(
        message(DetectorConfig {
            steps: Some(0),
            ..quick()
        })
        .contains("`steps` is 0")
    );
    let rate = DetectorConfig {
        max_false_reject: 1.0,
        ..quick()
    };
    assert!(message(rate).contains("`max-false-reject` is 1"));
    let weights = DetectorConfig {
        weights: Some("no/such.safetensors".into()),
        ..quick()
    };
    assert!(message(weights).contains("no/such.safetensors"));
}

/// The curve ends before training would have: the features of twelve rings are learnt in no time.
#[test]
fn training_stops_where_it_has_settled() {
    let config = DetectorConfig {
        steps: Some(240),
        auto_stop: true,
        ..quick()
    };
    let mut settling = 0;
    let detector = Detector::train(&training_images(), &config, |progress| {
        settling += u32::from(matches!(progress, Progress::Settling { .. }));
    })
    .unwrap();
    let found = detector.card().auto_stop.as_ref().expect("it was asked for");
    assert_eq!((found.most, detector.card().training.len()), (80, found.epochs));
    assert_eq!(detector.config().model.train.epochs, found.epochs);
    assert!(found.epochs >= found.curve[0].epoch && found.epochs <= found.most);
    assert!(found.curve.windows(2).all(|pair| pair[0].epoch < pair[1].epoch));
    let last = found.curve.last().unwrap();
    assert!(last.epoch < found.most, "{found:?}");
    assert_eq!(settling as usize, last.epoch);
    // Noise is told from none.
    assert!(last.separation > 1.0, "{found:?}");
}
