use simplenet::{Detector, DetectorConfig, LoadOptions, Method, Model, open_upright};

use crate::support::{ring, training_images, with};

/// Two good parts and four defects, each with whether it is one.
fn test_images() -> Vec<(simplenet::Rgb8, bool)> {
    let dataset = simplenet_data::folder::load(ring()).unwrap();
    let open = |sample: &simplenet_data::Sample| (open_upright(sample.source.path()).unwrap(), sample.anomalous);
    dataset.test.iter().map(open).collect()
}

/// PatchCore and PaDiM live in the same file, with the same threshold, for any number of threads.
#[test]
fn every_method_survives_its_file() {
    for method in [Method::patchcore(), Method::padim()] {
        let config = with(method);
        let files = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Detector::train(&training_images(), &config, |_| {}).unwrap())
        });
        let [detector, other] = files;
        let bytes = detector.to_bytes().unwrap();
        assert!(bytes == other.to_bytes().unwrap(), "{}", method.name());
        let loaded = Detector::from_bytes(&bytes, "memory".as_ref(), &LoadOptions::default()).unwrap();
        assert_eq!(loaded.config().model.method, method);
        assert!(loaded.card().training.is_empty());
        let (mut good, mut defective) = (Vec::new(), Vec::new());
        for (image, is_defect) in test_images() {
            let prediction = loaded.predict(&image).unwrap();
            assert_eq!(prediction, detector.predict(&image).unwrap());
            let scores = if is_defect { &mut defective } else { &mut good };
            scores.push(prediction.score);
        }
        // Twelve pictures are too few for a threshold, but not for telling which ones are worse.
        let mean = |scores: &[f32]| scores.iter().sum::<f32>() / scores.len() as f32;
        assert!(
            mean(&defective) > mean(&good),
            "{}: {defective:?}, {good:?}",
            method.name()
        );
    }
}

#[test]
fn patchcore_remembers_no_more_than_it_may() {
    let detector = Detector::train(&training_images(), &with(Method::patchcore()), |_| {}).unwrap();
    let Model::PatchCore(patchcore) = detector.model() else {
        panic!("it is PatchCore");
    };
    // 10 % of 12 images of 1024 patches would be 1228.
    assert_eq!(patchcore.vectors(), 500);
}

#[test]
fn padim_takes_one_square_only() {
    let mut config = with(Method::padim());
    config.model.preprocess.crop = 128;
    config.overlap = Some(32);
    let error = Detector::train(&training_images(), &config, |_| {})
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.starts_with("`padim` has a Gaussian for every position"),
        "{error}"
    );
    // What training would write and no command would read.
    config.model.preprocess.crop = 1840;
    config.model.preprocess.resize = 1840;
    config.overlap = None;
    let error = refusal(config);
    assert!(
        error.contains("230 x 230 positions is 1039 MB") && error.contains("hint: "),
        "{error}"
    );
    let error = refusal(DetectorConfig {
        max_vectors: 0,
        ..with(Method::patchcore())
    });
    assert!(error.contains("`max-vectors` is 0"), "{error}");
}

fn refusal(config: DetectorConfig) -> String {
    Detector::train(&training_images(), &config, |_| {})
        .err()
        .unwrap()
        .to_string()
}
