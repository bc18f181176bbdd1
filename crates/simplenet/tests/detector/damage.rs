use std::path::Path;

use proptest::prelude::*;
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};
use simplenet::{Detector, DetectorConfig, Error, LoadOptions, Method};
use simplenet_data::{Sample, folder};

use crate::support::{detector, ring, training_images, with};

fn load(bytes: &[u8]) -> Result<Detector, Error> {
    Detector::from_bytes(bytes, Path::new("part.simplenet"), &LoadOptions::default())
}

fn refusal(bytes: &[u8]) -> String {
    load(bytes).err().expect("it is damaged").to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever bit is flipped, the file is refused; never read, and never a panic.
    #[test]
    fn a_flipped_bit_is_noticed(place in any::<prop::sample::Index>(), bit in 0_u32..8) {
        let mut bytes = detector().to_bytes().unwrap();
        // Half of the time in the header, where most can go wrong.
        let range = if bit % 2 == 0 { bytes.len() } else { 4000 };
        let place = place.index(range);
        bytes[place] ^= 1_u8 << bit;
        let message = refusal(&bytes);
        prop_assert!(message.contains("part.simplenet is not a whole detector file"), "{message}");
    }

    #[test]
    fn a_cut_file_is_noticed(length in any::<prop::sample::Index>()) {
        let bytes = detector().to_bytes().unwrap();
        let message = refusal(&bytes[..length.index(bytes.len())]);
        prop_assert!(message.contains("is not a whole detector file"), "{message}");
    }

    #[test]
    fn noise_is_no_detector(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(load(&bytes).is_err());
    }
}

/// The length of a file's header comes first, and some lengths are how some kinds of pictures begin.
#[test]
fn a_picture_is_called_one_and_a_detector_that_begins_like_one_is_not() {
    let mut png = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(4, 4)
        .write_to(&mut png, image::ImageFormat::Png)
        .unwrap();
    assert!(refusal(png.get_ref()).contains("it is a picture"));

    let mut bytes = detector().to_bytes().unwrap();
    let header = bytes
        .first_chunk::<8>()
        .map(|length| u64::from_le_bytes(*length))
        .unwrap() as usize;
    // "P1", of a PBM, as the two low bytes.
    let longer = header + (0x3150 + 0x10000 - header % 0x10000) % 0x10000;
    bytes.splice(8 + header..8 + header, std::iter::repeat_n(b' ', longer - header));
    bytes[..8].copy_from_slice(&(longer as u64).to_le_bytes());
    assert_eq!(&bytes[..2], b"P1");
    sign(&mut bytes);
    assert!(load(&bytes).is_ok());
}

fn place(bytes: &[u8], name: &str) -> std::ops::Range<usize> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let data = file.tensor(name).unwrap().data();
    let start = data.as_ptr() as usize - bytes.as_ptr() as usize;
    start..start + data.len()
}

/// Makes the checksum fit.
fn sign(bytes: &mut [u8]) {
    let checksum = place(bytes, "sha256");
    bytes[checksum.clone()].fill(0);
    let digest = Sha256::digest(&*bytes);
    bytes[checksum].copy_from_slice(&digest);
}

/// A file that is whole, but does not say what good images show.
#[test]
fn unusable_landmarks_are_refused() {
    let whole = detector().to_bytes().unwrap();
    for value in [f32::NAN, f32::INFINITY] {
        let mut bytes = whole.clone();
        let profiles = place(&bytes, "absence.profiles");
        bytes[profiles.start + 8..profiles.start + 12].copy_from_slice(&value.to_le_bytes());
        sign(&mut bytes);
        let message = refusal(&bytes);
        assert!(
            message.contains("what good images show is missing or damaged"),
            "{message}"
        );
    }
}

/// As many values in another shape are others.
#[test]
fn landmarks_of_another_shape_are_refused() {
    for name in ["absence.landmarks", "absence.profiles"] {
        let mut bytes = detector().to_bytes().unwrap();
        let shape = SafeTensors::deserialize(&bytes)
            .unwrap()
            .tensor(name)
            .unwrap()
            .shape()
            .to_vec();
        assert_ne!(shape[0], shape[1]);
        let [stated, turned] =
            [[shape[0], shape[1]], [shape[1], shape[0]]].map(|[rows, columns]| format!("[{rows},{columns}]"));
        let entry = bytes
            .windows(name.len())
            .position(|bytes| bytes == name.as_bytes())
            .unwrap();
        let place = bytes[entry..]
            .windows(stated.len())
            .position(|bytes| bytes == stated.as_bytes())
            .unwrap();
        bytes[entry + place..][..turned.len()].copy_from_slice(turned.as_bytes());
        sign(&mut bytes);
        let message = refusal(&bytes);
        assert!(
            message.contains("what good images show is missing or damaged"),
            "{name}: {message}"
        );
    }
}

/// A file that is whole, but whose head is another: the reference images notice.
#[test]
fn drift_is_refused_unless_it_is_allowed() {
    let mut bytes = detector().to_bytes().unwrap();
    let weights = place(&bytes, "head.disc.fc2.weight");
    for weight in bytes[weights].as_chunks_mut::<4>().0 {
        *weight = (f32::from_le_bytes(*weight) * 1.02).to_le_bytes();
    }
    sign(&mut bytes);

    let message = refusal(&bytes);
    assert!(
        message.contains("have drifted") && message.contains("--allow-drift"),
        "{message}"
    );
    let options = LoadOptions {
        allow_drift: true,
        ..LoadOptions::default()
    };
    assert!(Detector::from_bytes(&bytes, Path::new("part.simplenet"), &options).is_ok());
}

/// A whole file with a field that this program does not know.
#[test]
fn a_file_of_another_version_is_named_as_such() {
    let mut bytes = detector().to_bytes().unwrap();
    let field = b"typical-pixel";
    let place = bytes.windows(field.len()).position(|bytes| bytes == field).unwrap();
    bytes[place] = b'x';
    sign(&mut bytes);
    let message = refusal(&bytes);
    assert!(
        message.contains("another version of the program") && message.contains("xypical-pixel"),
        "{message}"
    );
}

/// A file of a program that kept no hash of each picture.
#[test]
fn a_detector_without_hashes_of_its_pictures_opens_and_does_not_guess() {
    let mut bytes = detector().to_bytes().unwrap();
    let find = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).position(|bytes| bytes == text).unwrap();
    let start = find(&bytes, b"\\\"files-sha256");
    let end = start + find(&bytes[start..], b"],") + 2;
    bytes[start..end].fill(b' ');
    sign(&mut bytes);
    let old = load(&bytes).unwrap();
    let training: Vec<Sample> = training_images().into_iter().map(Sample::normal).collect();
    let defects = folder::labelled(ring())
        .unwrap()
        .into_iter()
        .filter(|sample| sample.anomalous);
    let labelled: Vec<Sample> = training.into_iter().chain(defects).collect();
    let learnt_from = |detector: &Detector| detector.evaluate(&labelled, |_| ()).unwrap().learnt_from;
    assert_eq!((learnt_from(detector()), learnt_from(&old)), (Some(12), None));
}

/// Scores of other features mean nothing.
#[test]
fn another_backbone_is_refused() {
    let mut bytes = detector().to_bytes().unwrap();
    let identity = detector().card().backbone.sha256.as_bytes();
    let place = bytes
        .windows(identity.len())
        .position(|bytes| bytes == identity)
        .unwrap();
    bytes[place] = if bytes[place] == b'0' { b'1' } else { b'0' };
    sign(&mut bytes);
    let error = load(&bytes).err().unwrap();
    assert!(matches!(error, Error::OtherBackbone { .. }), "{error}");
}

/// A checkpoint is found where it was, where its detector has moved with it, and where one is told.
#[test]
fn the_weights_of_a_backbone_may_move() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    std::fs::create_dir(place("here")).unwrap();
    let embedded = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../data/backbones/efficientnet_lite0.safetensors"
    );
    std::fs::copy(embedded, place("here/w.safetensors")).unwrap();
    let config = DetectorConfig {
        weights: Some(place("here/w.safetensors")),
        ..with(Method::patchcore())
    };
    let detector = Detector::train(&training_images(), &config, |_| {}).unwrap();
    detector.save(place("here/part.simplenet")).unwrap();
    detector.save(place("part.simplenet")).unwrap();
    let load = |name: &str, options: &LoadOptions| Detector::load(place(name), options);
    let as_named = LoadOptions::default();
    assert!(load("part.simplenet", &as_named).is_ok());
    std::fs::rename(place("here"), place("there")).unwrap();
    assert!(load("there/part.simplenet", &as_named).is_ok());
    let message = load("part.simplenet", &as_named).err().unwrap().to_string();
    assert!(message.contains("w.safetensors"), "{message}");
    let told = LoadOptions {
        weights: Some(place("there/w.safetensors")),
        ..LoadOptions::default()
    };
    let told = load("part.simplenet", &told).unwrap();
    // The file and its card say the same, also after the next change.
    let weights = told.card().backbone.weights.as_deref();
    assert_eq!(weights, place("there/w.safetensors").to_str());
    told.save(place("part.simplenet")).unwrap();
    assert!(load("part.simplenet", &as_named).is_ok());
}

#[test]
fn files_that_are_not_there_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.simplenet");
    detector().save(&path).unwrap();
    let missing = LoadOptions {
        weights: Some(folder.path().join("gone.safetensors")),
        ..LoadOptions::default()
    };
    let message = Detector::load(&path, &missing).err().unwrap().to_string();
    assert!(message.contains("gone.safetensors"), "{message}");
    let message = Detector::load(folder.path().join("none"), &LoadOptions::default())
        .err()
        .unwrap();
    assert!(message.to_string().contains("cannot read"), "{message}");
}

#[test]
fn a_failed_save_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.simplenet");
    // A folder of the same name cannot be replaced by a file.
    std::fs::create_dir(&path).unwrap();
    let message = detector().save(&path).unwrap_err().to_string();
    assert!(
        message.contains("cannot write") && message.contains("part.simplenet"),
        "{message}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
