//! CIFAR-10 as records and as folders.

mod common;

use std::path::Path;

use image::{Rgb, RgbImage};
use simplenet_data::cifar10::{CLASSES, Cifar10};
use simplenet_data::{Error, GOOD, Preprocess, load_images};

/// A record whose pixel at column x, row y is (8 x, 8 y, label): nothing that a flip or transposition leaves alone.
fn record(label: u8) -> Vec<u8> {
    let mut bytes = vec![label];
    bytes.extend((0..1024).map(|at| (at % 32 * 8) as u8));
    bytes.extend((0..1024).map(|at| (at / 32 * 8) as u8));
    bytes.extend([label; 1024]);
    bytes
}

fn write(folder: &Path, name: &str, labels: &[u8]) {
    let bytes: Vec<u8> = labels.iter().flat_map(|&label| record(label)).collect();
    std::fs::write(folder.join(name), bytes).unwrap();
}

#[test]
fn records_are_rows_of_planes() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "data_batch_2.bin", &[3, 5]);
    write(folder.path(), "data_batch_1.bin", &[9]);
    write(folder.path(), "test_batch.bin", &[5, 0]);
    write(folder.path(), "unrelated.bin", &[1]);
    let all = Cifar10::open(folder.path()).unwrap();
    assert_eq!(
        all.train().iter().map(|image| image.label).collect::<Vec<_>>(),
        [9, 3, 5]
    );
    assert_eq!(all.test().iter().map(|image| image.label).collect::<Vec<_>>(), [5, 0]);
    assert!(!all.is_complete());

    let image = all.train()[1].source.decode().unwrap();
    assert_eq!((image.width(), image.height()), (32, 32));
    for (x, y) in [(0, 0), (31, 0), (0, 31), (5, 17)] {
        assert_eq!(
            image.pixel(x, y),
            Some([8 * x as u8, 8 * y as u8, 3]),
            "column {x}, row {y}"
        );
    }
    assert!(all.train()[1].source.to_string().ends_with("data_batch_2.bin record 0"));
    assert_eq!(all.train()[1].source.dimensions().unwrap(), (32, 32));
}

#[test]
fn one_class_is_normal_and_the_test_set_is_shared() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "data_batch_1.bin", &[3, 5, 3]);
    write(folder.path(), "test_batch.bin", &[5, 3, 0]);
    let all = Cifar10::open(folder.path()).unwrap();
    let cats = all.one_class("cat").unwrap();
    assert_eq!((cats.name.as_str(), cats.category.as_str()), ("cifar10", "cat"));
    assert_eq!(cats.train.len(), 2);
    assert!(
        cats.train
            .iter()
            .all(|sample| !sample.anomalous && sample.defect == GOOD)
    );
    let truth: Vec<(&str, bool)> = cats.test.iter().map(|s| (s.defect.as_str(), s.anomalous)).collect();
    assert_eq!(truth, [("dog", true), (GOOD, false), ("airplane", true)]);
    assert!(!cats.has_masks());
    for class in CLASSES {
        let sources: Vec<_> = all
            .one_class(class)
            .unwrap()
            .test
            .into_iter()
            .map(|sample| sample.source)
            .collect();
        assert!(
            sources.iter().eq(all.test().iter().map(|image| &image.source)),
            "{class}"
        );
    }
    let error = all.one_class("kitten").unwrap_err();
    assert!(
        error.to_string().contains("kitten") && error.to_string().contains("automobile"),
        "{error}"
    );
}

#[test]
fn broken_record_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let opened = || Cifar10::open_records(folder.path()).unwrap_err();
    assert!(matches!(opened(), Error::NotThere { .. }));
    write(folder.path(), "data_batch_1.bin", &[3, 5]);
    assert!(matches!(opened(), Error::Read { path, .. } if path.ends_with("test_batch.bin")));
    write(folder.path(), "test_batch.bin", &[1]);
    assert!(Cifar10::open(folder.path()).is_ok());

    let mut bytes = [record(3), record(5)].concat();
    bytes.pop();
    std::fs::write(folder.path().join("data_batch_1.bin"), &bytes).unwrap();
    let error = opened();
    assert!(
        matches!(
            error,
            Error::PartialRecord {
                bytes: 6145,
                records: 1,
                rest: 3072,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("data_batch_1.bin"), "{error}");
    std::fs::write(folder.path().join("data_batch_1.bin"), b"").unwrap();
    assert!(matches!(opened(), Error::PartialRecord { bytes: 0, .. }));

    write(folder.path(), "data_batch_1.bin", &[3, 10]);
    assert!(matches!(
        opened(),
        Error::Label {
            record: 1,
            label: 10,
            ..
        }
    ));
}

#[test]
fn folders_of_classes_are_not_mistaken_for_the_official_pixels() {
    let root = tempfile::tempdir().unwrap();
    for split in ["train", "test"] {
        for class in CLASSES {
            let folder = root.path().join(split).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for n in 0..2 {
                RgbImage::from_pixel(32, 32, Rgb([n, 2, 3]))
                    .save(folder.join(format!("{n}.png")))
                    .unwrap();
            }
        }
    }
    let dataset = Cifar10::open(root.path()).unwrap().one_class("ship").unwrap();
    assert_eq!(dataset.name, "cifar10-folders");
    assert_eq!((dataset.train.len(), dataset.test.len()), (2, 20));
    assert_eq!(dataset.test.iter().filter(|sample| !sample.anomalous).count(), 2);

    std::fs::remove_dir_all(root.path().join("test/frog")).unwrap();
    let error = Cifar10::open(root.path()).unwrap_err();
    assert!(error.to_string().contains("frog"), "{error}");
    assert!(matches!(
        Cifar10::open(root.path().join("test")),
        Err(Error::NotThere { .. })
    ));
}

#[test]
fn official_records_decode_to_upright_images() {
    let Some(folder) = common::shared("data/cifar10/cifar-10-batches-bin-lossless-subset") else {
        return;
    };
    let all = Cifar10::open(folder).unwrap();
    assert_eq!((all.train().len(), all.test().len()), (2034, 1017));
    assert!(!all.is_complete());
    // Labels of data_batch_1 and test_batch as published: frog, truck, truck, deer; cat, ship, ship, airplane.
    let labels = |images: &[simplenet_data::cifar10::Labelled]| images[..4].iter().map(|i| i.label).collect::<Vec<_>>();
    assert_eq!(labels(all.train()), [6, 9, 9, 4]);
    assert_eq!(labels(all.test()), [3, 8, 8, 0]);
    // pickle["data"][0].reshape(3, 32, 32)[:, y, x] of data_batch_1 begins 59, 43, 50 (red, row 0).
    let frog = all.train()[0].source.decode().unwrap();
    assert_eq!([0, 1, 2].map(|x| frog.pixel(x, 0).unwrap()[0]), [59, 43, 50]);
    assert_eq!(frog.pixel(0, 0), Some([59, 62, 63]));

    let ships = all.one_class("ship").unwrap();
    let preprocess = Preprocess::new(256, 224, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).unwrap();
    let batch = load_images(&ships.train[..3], &preprocess).unwrap();
    assert_eq!(batch.len(), 3 * preprocess.input_len());
    assert!(batch.iter().all(|value| value.is_finite()));
}
