//! Parity with the authors' image transform. The oracle is `datasets.mvtec.MVTecDataset.__getitem__` of
//! DonaldRR/SimpleNet @351a2b8 with torchvision 0.29.2 and Pillow 13.0.0.

mod common;

use safetensors::SafeTensors;
use simplenet_data::{Gray8, Preprocess, Rgb8, centre_offset, resized_size};

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

fn floats(file: &SafeTensors, key: &str) -> Vec<f32> {
    let (chunks, []) = file.tensor(key).unwrap().data().as_chunks::<4>() else {
        panic!("{key} is not f32")
    };
    chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn image(file: &SafeTensors, key: &str) -> Rgb8 {
    Rgb8::decode(file.tensor(key).unwrap().data(), key).unwrap()
}

#[test]
fn resize_gives_every_byte_of_torchvision() {
    let Some(path) = common::shared("golden/preprocess.safetensors") else {
        return;
    };
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    // torchvision.transforms.Resize(n)(PIL.Image.open(f).convert("RGB"))
    for (key, size, resized) in [("img0", 256, "img0.resized256_u8"), ("img1", 329, "img1.resized329_u8")] {
        let image = image(&file, &format!("{key}.file_bytes"));
        let ours = image.resize(size, size).unwrap();
        assert!(ours.data() == file.tensor(resized).unwrap().data(), "{resized}");
    }
}

#[test]
fn inputs_are_those_of_the_authors_loader() {
    let Some(path) = common::shared("golden/preprocess.safetensors") else {
        return;
    };
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for (key, resize, crop, out) in [
        ("img0", 256, 224, "img0.out224"),
        ("img1", 256, 224, "img1.out224"),
        ("img1", 329, 288, "img1.out288"),
    ] {
        let image = image(&file, &format!("{key}.file_bytes"));
        let ours = Preprocess::new(resize, crop, MEAN, STD).unwrap().apply(&image);
        // One 8-bit step is 0.0171, so equal floats are equal bytes.
        assert!(ours == floats(&file, out), "{out}");
    }
}

#[test]
fn masks_are_those_of_the_authors_loader() {
    let Some(path) = common::shared("golden/preprocess.safetensors") else {
        return;
    };
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mask = Gray8::decode(file.tensor("img1.mask_bytes").unwrap().data(), "img1.mask_bytes").unwrap();
    let square = Preprocess::new(256, 224, MEAN, STD).unwrap().crop_image(&mask);
    let fractions: Vec<f32> = square.data().iter().map(|&value| f32::from(value) / 255.0).collect();
    assert!(fractions == floats(&file, "img1.mask224"));
    // The counts of the golden README: == 1, > 0.5, > 0.
    use simplenet_data::MaskRule::{Any, Half, One};
    for (rule, expected) in [(One, 6655), (Half, 7135), (Any, 7620)] {
        assert_eq!(
            rule.apply(&square).iter().filter(|&&defect| defect).count(),
            expected,
            "{rule}"
        );
    }
}

#[test]
fn sizes_and_offsets_are_those_of_torchvision() {
    // torchvision.transforms.functional.resize and center_crop on images of each size: metrics.json, "preprocess".
    for (width, height, resize, expected) in [
        (900, 900, 256, (256, 256)),
        (370, 469, 256, (256, 324)),
        (469, 370, 329, (417, 329)),
        (248, 373, 256, (256, 385)),
        (189, 320, 329, (329, 557)),
        (700, 500, 256, (358, 256)),
        (101, 1000, 256, (256, 2534)),
        (256, 300, 256, (256, 300)),
    ] {
        assert_eq!(
            resized_size(width, height, resize),
            expected,
            "{width} x {height} to {resize}"
        );
    }
    for (size, crop, expected) in [
        (256, 224, 16),
        (329, 288, 20),
        (259, 224, 18),
        (257, 224, 16),
        (326, 288, 19),
        (385, 224, 80),
        (324, 224, 50),
        (363, 288, 38),
        (224, 224, 0),
    ] {
        assert_eq!(centre_offset(size, crop), expected, "{size} to {crop}");
    }
}
