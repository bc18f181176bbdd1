//! Parity with scikit-learn, with MVTec's evaluation code and with the SimpleNet authors' `metrics.py`.
//!
//! The numbers come from scikit-learn 1.9.1 and numpy 2.4.6 on scores widened to float64; the shared folder's
//! `golden/README.md`, section 6, has every setting.

use std::path::Path;

use safetensors::SafeTensors;
use serde_json::Value;
use simplenet_metrics::{
    Confusion, MapShape, Regions, aupro, auroc, average_precision, f1_max, image_metrics, pixel_metrics,
    precision_recall_curve, pro_code,
};

const TOLERANCE: f64 = 1e-9;
/// MVTec's code keeps false-positive rates in float32.
const TOLERANCE_FLOAT32_RATES: f64 = 2e-6;
const SHAPE: MapShape = MapShape {
    images: 6,
    height: 40,
    width: 52,
};

struct Golden {
    numbers: Value,
    tensors: Vec<u8>,
}

impl Golden {
    /// `None`, with a line on stderr, where the shared folder is missing.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn load() -> Option<Self> {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/golden"));
        if !folder.exists() {
            assert!(
                std::env::var_os("SIMPLENET_REQUIRE_SHARED").is_none(),
                "SIMPLENET_REQUIRE_SHARED is set, and ../shared/golden is not there"
            );
            eprintln!("skipped: ../shared/golden is not there");
            return None;
        }
        let text = std::fs::read_to_string(folder.join("metrics.json")).expect("metrics.json");
        let all: Value = serde_json::from_str(&text).expect("JSON");
        let tensors = std::fs::read(folder.join("metrics.safetensors")).expect("metrics.safetensors");
        Some(Self {
            numbers: all["metrics"].clone(),
            tensors,
        })
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let file = SafeTensors::deserialize(&self.tensors).expect("safetensors");
        file.tensor(name).expect(name).data().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.bytes(name)
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect()
    }

    fn labels(&self, name: &str) -> Vec<bool> {
        self.bytes(name)
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| i64::from_le_bytes(bytes) == 1)
            .collect()
    }

    fn masks(&self) -> Vec<bool> {
        self.bytes("pix.masks").iter().map(|&mask| mask == 1).collect()
    }
}

#[track_caller]
fn assert_close(found: f64, expected: &Value, tolerance: f64, what: &str) {
    let expected = expected.as_f64().unwrap_or_else(|| panic!("no number for {what}"));
    assert!(
        (found - expected).abs() <= tolerance,
        "{what}: {found} is not {expected}"
    );
}

/// The file holds the float32 score widened to float64; its parser here may be off by the last bit of the latter.
#[track_caller]
fn assert_threshold(found: f32, expected: &Value) {
    assert_eq!(Some(found), expected.as_f64().map(|threshold| threshold as f32));
}

// sklearn.metrics: roc_auc_score(y, s); average_precision_score(y, s); p, r, t = precision_recall_curve(y, s);
// auc(r, p); f1 = np.divide(2*p*r, p+r, out=zeros, where=p+r != 0); t[np.argmax(f1)]
#[test]
fn image_scores_as_scikit_learn() {
    let Some(golden) = Golden::load() else { return };
    let cases = golden.numbers["image"].as_object().expect("cases");
    assert_eq!(cases.len(), 9);
    for (case, expected) in cases {
        let scores = golden.floats(&format!("img.{case}.scores"));
        let anomalous = golden.labels(&format!("img.{case}.labels"));
        let close = |found, key: &str| assert_close(found, &expected[key], TOLERANCE, &format!("{case} {key}"));
        close(auroc(&scores, &anomalous).expect(case), "auroc");
        close(average_precision(&scores, &anomalous).expect(case), "ap");
        let best = f1_max(&scores, &anomalous).expect(case);
        close(best.f1, "f1_max");
        close(best.confusion.precision().expect("alarms"), "f1_precision");
        close(best.confusion.recall().expect("anomalous"), "f1_recall");
        assert_threshold(best.threshold, &expected["f1_threshold"]);

        let curve = precision_recall_curve(&scores, &anomalous, usize::MAX).expect(case);
        close(
            curve
                .windows(2)
                .map(|pair| (pair[1].x - pair[0].x) * (pair[0].y + pair[1].y) / 2.0)
                .sum(),
            "pr_auc_trapezoid",
        );

        let together = image_metrics(&scores, &anomalous).expect(case);
        close(together.auroc, "auroc");
        close(together.average_precision, "ap");
        close(together.f1_max, "f1_max");
        assert_eq!(together.f1_threshold, best.threshold);
    }
}

// As for images; optimal_fpr, optimal_fnr: compute_pixelwise_retrieval_metrics(maps, masks) of the authors' metrics.py.
#[test]
fn pixel_scores_as_scikit_learn() {
    let Some(golden) = Golden::load() else { return };
    let masks = golden.masks();
    for set in ["maps", "maps_ties"] {
        let maps = golden.floats(&format!("pix.{set}"));
        let expected = &golden.numbers["pixel"][set];
        let close = |found, key: &str| assert_close(found, &expected[key], TOLERANCE, &format!("{set} {key}"));
        let metrics = pixel_metrics(&maps, &masks, SHAPE, 0.3).expect(set);
        close(metrics.auroc, "pixel_auroc");
        close(metrics.average_precision, "pixel_ap");
        close(metrics.f1_max, "pixel_f1_max");
        close(metrics.aupro, "aupro_0.3_exact64");
        assert_threshold(metrics.f1_threshold, &expected["pixel_f1_threshold"]);

        let best = f1_max(&maps, &masks).expect(set).confusion;
        close(best.precision().expect("alarms"), "pixel_f1_precision");
        close(best.recall().expect("anomalous"), "pixel_f1_recall");
        close(best.false_positive_fraction(), "optimal_fpr");
        close(best.false_negative_fraction(), "optimal_fnr");
    }
}

// fprs, pros = compute_pro(anomaly_maps, ground_truth_maps); trapezoid(fprs, pros, x_max=L) / L of MVTec's evaluation
// code; _exact64: each distinct score a threshold, all in float64.
#[test]
fn aupro_as_mvtec() {
    let Some(golden) = Golden::load() else { return };
    let masks = golden.masks();
    for (set, has_exact) in [("maps", true), ("maps_ties", true), ("constant_maps", false)] {
        let maps = if set == "constant_maps" {
            vec![0.5; masks.len()]
        } else {
            golden.floats(&format!("pix.{set}"))
        };
        let expected = &golden.numbers["pixel"][set];
        for (limit, key) in [(0.05, "aupro_0.05"), (0.3, "aupro_0.3"), (1.0, "aupro_1.0")] {
            let found = aupro(&maps, &masks, SHAPE, limit).expect(set);
            assert_close(found, &expected[key], TOLERANCE_FLOAT32_RATES, &format!("{set} {key}"));
            if has_exact {
                let key = format!("{key}_exact64");
                assert_close(found, &expected[key.as_str()], TOLERANCE, &format!("{set} {key}"));
            }
        }
        assert_close(
            auroc(&maps, &masks).expect(set),
            &expected["pixel_auroc"],
            TOLERANCE,
            set,
        );
        assert_close(
            average_precision(&maps, &masks).expect(set),
            &expected["pixel_ap"],
            TOLERANCE,
            set,
        );
    }
}

// regions_8conn: components of each mask under 8-connectivity, as MVTec labels them; mask_pixels: their pixels
#[test]
fn regions_are_eight_connected() {
    let Some(golden) = Golden::load() else { return };
    let found = Regions::find(&golden.masks(), SHAPE).expect("regions");
    for image in 0..SHAPE.images {
        let pixels = image * 40 * 52..(image + 1) * 40 * 52;
        let runs: Vec<_> = found.runs.iter().filter(|run| pixels.contains(&run.start)).collect();
        let mut regions: Vec<u32> = runs.iter().map(|run| run.region).collect();
        regions.sort_unstable();
        regions.dedup();
        assert_eq!(
            regions.len() as u64,
            golden.numbers["pixel"]["regions_8conn"][image],
            "image {image}"
        );
        let marked: usize = runs.iter().map(|run| run.end - run.start).sum();
        assert_eq!(
            marked as u64, golden.numbers["pixel"]["mask_pixels"][image],
            "image {image}"
        );
    }
}

// metrics.compute_pro(masks, maps.astype(np.float64)) of the authors' metrics.py, with np.bool and DataFrame.append
// put back
#[test]
fn pro_as_the_authors_code() {
    let Some(golden) = Golden::load() else { return };
    let expected = &golden.numbers["pixel"];
    let whole: Vec<f32> = golden.masks().iter().map(|&mask| f32::from(u8::from(mask))).collect();
    for set in ["maps", "maps_ties"] {
        let found = pro_code(&golden.floats(&format!("pix.{set}")), &whole, SHAPE).expect(set);
        assert_close(found, &expected[set]["pro_simplenet"], TOLERANCE, set);
    }
    let fractions = golden.floats("pix.masks_fractional");
    let found = pro_code(&golden.floats("pix.maps"), &fractions, SHAPE).expect("fractional");
    assert_close(
        found,
        &expected["fractional_masks"]["pro_simplenet"],
        TOLERANCE,
        "fractional masks",
    );
}

// roc_auc_score((masks == 1).ravel(), maps.ravel()) and the same with > 0.5 and > 0. optimal_*: the authors compare the
// 0/1 prediction with the fractional mask, so a partly covered pixel is a false positive when called and a false
// negative when not.
#[test]
fn fractional_masks_by_three_rules() {
    let Some(golden) = Golden::load() else { return };
    let maps = golden.floats("pix.maps");
    let fractions = golden.floats("pix.masks_fractional");
    let by = |rule: fn(f32) -> bool| -> Vec<bool> { fractions.iter().map(|&mask| rule(mask)).collect() };
    let (equals_one, above_zero) = (by(|mask| mask == 1.0), by(|mask| mask > 0.0));
    let expected = &golden.numbers["pixel"]["fractional_masks"];
    let rules = [
        ("eq_1_official", &equals_one),
        ("gt_half", &by(|mask| mask > 0.5)),
        ("gt_0", &above_zero),
    ];
    for (rule, masks) in rules {
        let found = auroc(&maps, masks).expect(rule);
        assert_close(found, &expected[rule]["pixel_auroc"], TOLERANCE, rule);
        assert_eq!(
            masks.iter().filter(|mask| **mask).count() as u64,
            expected[rule]["n_pos"],
            "{rule}"
        );
    }

    let optimal = &expected["official_optimal"];
    let best = f1_max(&maps, &equals_one).expect("equals one");
    assert_threshold(best.threshold, &optimal["optimal_threshold"]);
    assert_close(
        best.confusion.false_positive_fraction(),
        &optimal["optimal_fpr"],
        TOLERANCE,
        "optimal_fpr",
    );
    let partly = Confusion::at(&maps, &above_zero, best.threshold).expect("above zero");
    assert_close(
        partly.false_negative_fraction(),
        &optimal["optimal_fnr"],
        TOLERANCE,
        "optimal_fnr",
    );
}

// roc_auc_score(labels, maps.max(axis=(1, 2))), and the authors' SimpleNet._evaluate, whose map normalisation is one
// affine map for all pixels and so changes no rank
#[test]
fn image_score_as_the_maximum_of_the_map() {
    let Some(golden) = Golden::load() else { return };
    let maps = golden.floats("pix.maps");
    let highest: Vec<f32> = maps
        .chunks(40 * 52)
        .map(|map| map.iter().copied().fold(f32::NEG_INFINITY, f32::max))
        .collect();
    let expected = &golden.numbers["pixel"];
    let evaluated = &expected["official_evaluate_image_pixel_pro"];
    let found = auroc(&highest, &golden.labels("pix.labels")).expect("both classes");
    assert_close(found, &expected["image_auroc_from_map_max"], TOLERANCE, "map maximum");
    assert_close(found, &evaluated[0], TOLERANCE, "_evaluate, images");
    assert_close(
        auroc(&maps, &golden.masks()).expect("both classes"),
        &evaluated[1],
        TOLERANCE,
        "_evaluate, pixels",
    );
    // Computed there on normalised float32 maps, whose thresholds differ by rounding.
    let whole: Vec<f32> = golden.masks().iter().map(|&mask| f32::from(u8::from(mask))).collect();
    let pro = pro_code(&maps, &whole, SHAPE).expect("both classes");
    assert_close(pro, &evaluated[2], 1e-4, "_evaluate, PRO");
}
