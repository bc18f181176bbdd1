//! Scores, files and errors.

use simplenet_heads::patchcore::{Distance, PatchCore, PatchCoreConfig, Reweight, Sampler, Scoring};
use simplenet_heads::{Error, StoredTensor};

use crate::plain::{APPROXIMATE, config, largest, plain_nearest, row, squared};
use crate::reference::{bank, file, floats, for_any_threads};

#[test]
fn patches_and_images_score_by_definition() {
    let (patches, dim) = (15, 6);
    let rows = floats(4 * patches * dim, 1);
    let bank = bank(&rows, patches, dim, false);
    let image: Vec<f32> = floats(patches * dim, 2).iter().map(|x| 1.5 * x).collect();
    let memory: Vec<usize> = (0..60).step_by(2).collect();
    let vectors: Vec<f32> = memory
        .iter()
        .flat_map(|&index| row(&rows, dim, index))
        .copied()
        .collect();
    for (nearest, neighbours) in [(1, 3), (1, 30), (4, 9)] {
        for distance in [Distance::Euclidean, Distance::Squared] {
            let of = |squared: f64| match distance {
                Distance::Euclidean => squared.sqrt(),
                Distance::Squared => squared,
            };
            let patch_scores: Vec<f64> = image
                .chunks_exact(dim)
                .map(|query| {
                    let found = plain_nearest(&vectors, dim, query, nearest);
                    found.iter().map(|x| of(x.1)).sum::<f64>() / nearest as f64
                })
                .collect();
            // Eq. 7.
            let patch = largest(&patch_scores);
            let query = row(&image, dim, patch);
            let (star, squared_star) = plain_nearest(&vectors, dim, query, 1)[0];
            let around = plain_nearest(&vectors, dim, row(&vectors, dim, star), neighbours);
            let sum: f64 = around
                .iter()
                .map(|x| squared(query, row(&vectors, dim, x.0)).sqrt().exp())
                .sum();
            let weighted = (1.0 - squared_star.sqrt().exp() / sum) * patch_scores[patch];
            for (reweight, expected) in [
                (Reweight::Paper { neighbours }, weighted),
                (Reweight::None, patch_scores[patch]),
            ] {
                let scoring = Scoring {
                    nearest,
                    distance,
                    reweight,
                };
                let patchcore = PatchCore::of_rows(&bank, &memory, scoring).expect("a memory");
                let scores = for_any_threads(|| patchcore.score_image(&image).expect("scores"));
                assert_eq!(scores.patches, patchcore.score(&image).expect("scores"));
                for (found, expected) in scores.patches.iter().zip(&patch_scores) {
                    assert!(
                        (f64::from(*found) - expected).abs() < 1e-5 * expected,
                        "{found} {expected}"
                    );
                }
                let found = f64::from(scores.image);
                assert!(
                    (found - expected).abs() < 1e-5 * expected,
                    "{scoring:?}: {found} {expected}"
                );
            }
        }
    }
}

#[test]
fn far_patches_score_without_overflow() {
    let rows = floats(20 * 3, 1);
    let bank = bank(&rows, 20, 3, false);
    let patchcore = PatchCore::fit(&bank, &config(0.5, Sampler::Greedy), 0).expect("a memory");
    let scores = patchcore.score_image(&[1e6, 0.0, 0.0]).expect("scores");
    assert!((scores.patches[0] - 1e6).abs() < 2.0 && scores.image > 0.0 && scores.image < 1e6);
}

#[test]
fn a_memory_comes_back_as_it_was() {
    let rows = floats(6 * 10 * 4, 1);
    let bank = bank(&rows, 10, 4, true);
    let config = config(0.4, APPROXIMATE);
    let patchcore = PatchCore::fit(&bank, &config, 5).expect("a memory");
    assert_eq!((patchcore.vectors(), patchcore.dim()), (24, 4));
    let tensors = patchcore.stored_tensors("patchcore.");
    let bytes = file(&tensors);
    let stored = safetensors::SafeTensors::deserialize(&bytes).expect("a file");
    let back = PatchCore::from_tensors(&stored, "patchcore.", config.scoring).expect("a memory");
    assert_eq!(back.memory().vectors(), patchcore.memory().vectors());
    let image = floats(40, 2);
    assert_eq!(
        back.score_image(&image).expect("scores"),
        patchcore.score_image(&image).expect("scores")
    );

    let refused = |change: &dyn Fn(&mut Vec<StoredTensor>), scoring: Scoring| {
        let mut tensors = patchcore.stored_tensors("");
        change(&mut tensors);
        let bytes = file(&tensors);
        let stored = safetensors::SafeTensors::deserialize(&bytes).expect("a file");
        PatchCore::from_tensors(&stored, "", scoring)
            .expect_err("no memory")
            .to_string()
    };
    let message = refused(&|tensors| tensors[0].name = "other".into(), config.scoring);
    assert_eq!(
        message,
        "the file holds no usable head: other belongs to no head of this kind"
    );
    let message = refused(&|tensors| tensors.clear(), config.scoring);
    assert_eq!(message, "the file holds no usable head: memory is missing");
    let message = refused(&|tensors| tensors[0].shape = vec![96], config.scoring);
    assert_eq!(
        message,
        "the file holds no usable head: memory has shape [96], expected [vectors, dim]"
    );
    let nan = |tensors: &mut Vec<StoredTensor>| {
        tensors[0].bytes[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
    };
    assert_eq!(
        refused(&nan, config.scoring),
        "the file holds no usable head: memory has NaN at index 2"
    );
    let many = Scoring {
        nearest: 25,
        ..config.scoring
    };
    let message = refused(&|_| (), many);
    assert_eq!(
        message,
        "`scoring.nearest` is 25, but it must be at most the number of memory vectors"
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let rows = floats(6 * 10 * 4, 1);
    let bank = bank(&rows, 10, 4, false);
    let refuse = |change: &dyn Fn(&mut PatchCoreConfig), start: &str| {
        let mut config = config(0.4, APPROXIMATE);
        change(&mut config);
        let error = PatchCore::fit(&bank, &config, 0).expect_err("no sense").to_string();
        assert!(error.starts_with(start), "{error}");
    };
    for fraction in [0.0, -0.1, 1.1, f64::NAN] {
        refuse(&|config| config.coreset.fraction = fraction, "`coreset.fraction` is ");
    }
    refuse(&|config| config.coreset.projection = 0, "`coreset.projection` is 0");
    refuse(
        &|config| config.coreset.sampler = Sampler::ApproximateGreedy { starting_points: 0 },
        "`coreset.starting-points` is 0",
    );
    refuse(&|config| config.scoring.nearest = 0, "`scoring.nearest` is 0");
    refuse(
        &|config| config.scoring.reweight = Reweight::Paper { neighbours: 1 },
        "`scoring.neighbours` is 1, but it must be at least 2",
    );
    refuse(
        &|config| config.scoring.reweight = Reweight::Paper { neighbours: 25 },
        "`scoring.neighbours` is 25, but it must be at most the number of memory vectors",
    );

    let patchcore = PatchCore::fit(&bank, &config(0.4, APPROXIMATE), 0).expect("a memory");
    let mut image = floats(40, 3);
    image[21] = f32::NAN;
    assert!(matches!(patchcore.score(&image), Err(Error::ScoreNotFinite { row: 5 })));
    image[21] = 1e30;
    assert!(matches!(patchcore.score(&image), Err(Error::ScoreNotFinite { row: 5 })));
    assert!(matches!(patchcore.score(&[0.0; 7]), Err(Error::Shape { .. })));
    assert!(matches!(patchcore.score_image(&[]), Err(Error::Shape { .. })));
    assert!(patchcore.score(&[]).expect("no rows").is_empty());
    let error = PatchCore::of_rows(&bank, &[3, 60], patchcore.scoring()).expect_err("no such row");
    assert_eq!(
        error.to_string(),
        "`row` is 60, but it must be below the number of rows of the bank"
    );
}

#[test]
fn a_feature_too_large_to_square_names_its_place() {
    let mut rows = floats(6 * 10 * 4, 1);
    rows[3 * 40 + 7 * 4 + 2] = 1e25;
    let bank = bank(&rows, 10, 4, false);
    let error = PatchCore::fit(&bank, &config(0.4, APPROXIMATE), 0).expect_err("too large");
    let place = matches!(
        error,
        Error::FeatureNotFinite {
            image: 3,
            row: 7,
            channel: 2,
            ..
        }
    );
    assert!(place, "{error}");
}
