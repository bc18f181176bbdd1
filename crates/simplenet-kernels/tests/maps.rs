//! Anomaly maps against torch and scipy, and against plain loops on sides that differ.
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::path::Path;

use proptest::prelude::*;
use safetensors::SafeTensors;
use simplenet_kernels::maps::{MapError, SIGMA, anomaly_maps, gaussian_blur, image_scores, upsample_bilinear};

const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../../shared/golden/score_map.safetensors"
);

/// A tensor of the file, as shape and values.
fn tensor(file: &SafeTensors<'_>, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
    let view = file.tensor(name).ok()?;
    let words = view.data().chunks_exact(4);
    let values = words
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    Some((view.shape().to_vec(), values))
}

#[track_caller]
fn assert_close(got: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (x, y)) in got.iter().zip(expected).enumerate() {
        assert!((x - y).abs() <= tolerance, "{what}: element {i} is {x}, not {y}");
    }
}

// Oracle: the authors' PatchMaker.unpatch_scores, .score and RescaleSegmentor.convert_to_segmentation (commit
// 351a2b8d4e) with torch 2.15.0 and scipy 1.17.1.
#[test]
fn maps_and_scores_are_those_of_the_authors() {
    if !Path::new(GOLDEN).exists() {
        assert!(
            std::env::var_os("SIMPLENET_REQUIRE_SHARED").is_none(),
            "SIMPLENET_REQUIRE_SHARED is set, and ../shared/golden is not there"
        );
        eprintln!("skipped: ../shared/golden is not there");
        return;
    }
    let bytes = std::fs::read(GOLDEN).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for case in ["a", "b", "tiny"] {
        let (patch_shape, patches) = tensor(&file, &format!("{case}.patch")).unwrap();
        let (map_shape, maps) = tensor(&file, &format!("{case}.map")).unwrap();
        let (_, scores) = tensor(&file, &format!("{case}.image_score")).unwrap();
        let shape: [usize; 3] = patch_shape.try_into().unwrap();
        let size = [map_shape[1], map_shape[2]];
        assert_eq!(image_scores(&patches, shape).unwrap(), scores, "{case}");
        let got = anomaly_maps(&patches, shape, size, SIGMA).unwrap();
        assert_close(&got, &maps, 1e-5, case);
        if let Some((_, enlarged)) = tensor(&file, &format!("{case}.up")) {
            let got = upsample_bilinear(&patches, shape, size).unwrap();
            assert_close(&got, &enlarged, 1e-5, case);
            let blurred = gaussian_blur(&enlarged, [shape[0], size[0], size[1]], SIGMA).unwrap();
            assert_close(&blurred, &maps, 1e-5, case);
        }
    }
}

/// One image, bilinear, pixel by pixel.
fn slow_upsample(map: &[f32], [h, w]: [usize; 2], [height, width]: [usize; 2]) -> Vec<f64> {
    let place = |output: usize, inputs: usize, outputs: usize| {
        let exact = (inputs as f64 / outputs as f64 * (output as f64 + 0.5) - 0.5).clamp(0.0, inputs as f64 - 1.0);
        let low = exact.floor();
        (low as usize, (low as usize + 1).min(inputs - 1), exact - low)
    };
    let mut out = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let ((top, bottom, v), (left, right, u)) = (place(y, h, height), place(x, w, width));
            let at = |row: usize, col: usize| f64::from(map[row * w + col]);
            let upper = (1.0 - u) * at(top, left) + u * at(top, right);
            let lower = (1.0 - u) * at(bottom, left) + u * at(bottom, right);
            out.push((1.0 - v) * upper + v * lower);
        }
    }
    out
}

/// One image, smoothed by two nested sums; the edge is found by walking.
fn slow_blur(map: &[f64], [h, w]: [usize; 2], sigma: f64) -> Vec<f64> {
    let radius = (4.0 * sigma + 0.5) as i64;
    let bell = |x: i64| (-0.5 * x as f64 * x as f64 / (sigma * sigma)).exp();
    let sum: f64 = (-radius..=radius).map(bell).sum();
    let mirror = |start: usize, steps: i64, length: usize| {
        let (mut at, mut direction) = (start as i64, steps.signum());
        for _ in 0..steps.abs() {
            if (0..length as i64).contains(&(at + direction)) {
                at += direction;
            } else {
                direction = -direction;
            }
        }
        at as usize
    };
    let mut out = Vec::new();
    for y in 0..h {
        for x in 0..w {
            let mut total = 0.0;
            for dy in -radius..=radius {
                for dx in -radius..=radius {
                    total += bell(dy) * bell(dx) * map[mirror(y, dy, h) * w + mirror(x, dx, w)];
                }
            }
            out.push(total / (sum * sum));
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_size_is_as_in_the_plain_loops(
        n in 0_usize..3,
        from in [1_usize..9, 1_usize..9],
        to in [1_usize..24, 1_usize..40],
        sigma in 0.2_f32..3.0,
        seed in 0_u32..1000,
    ) {
        let value = |i: usize| ((i as u32 + seed).wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0;
        let patches: Vec<f32> = (0..n * from[0] * from[1]).map(value).collect();
        let shape = [n, from[0], from[1]];
        let enlarged = upsample_bilinear(&patches, shape, to).unwrap();
        let maps = anomaly_maps(&patches, shape, to, sigma).unwrap();
        let blurred = gaussian_blur(&enlarged, [n, to[0], to[1]], sigma).unwrap();
        for image in 0..n {
            let slow = slow_upsample(&patches[image * from[0] * from[1]..], from, to);
            let slow_map = slow_blur(&slow, to, f64::from(sigma));
            let area = to[0] * to[1];
            let here = image * area..(image + 1) * area;
            let narrow = |values: &[f64]| values.iter().map(|&x| x as f32).collect::<Vec<_>>();
            assert_close(&enlarged[here.clone()], &narrow(&slow), 1e-5, "enlarged");
            assert_close(&maps[here.clone()], &narrow(&slow_map), 1e-5, "map");
            assert_close(&blurred[here], &narrow(&slow_map), 1e-5, "blurred");
        }
    }
}

#[test]
fn the_same_size_without_smoothing_changes_nothing() {
    let map: Vec<f32> = (0..2 * 5 * 7).map(|i| i as f32 * 0.37).collect();
    assert_eq!(upsample_bilinear(&map, [2, 5, 7], [5, 7]).unwrap(), map);
    assert_eq!(anomaly_maps(&map, [2, 5, 7], [5, 7], 0.0).unwrap(), map);
    let flat = anomaly_maps(&[3.0; 12], [1, 3, 4], [50, 70], SIGMA).unwrap();
    assert_close(&flat, &[3.0; 3500], 2e-6, "a flat map stays flat");
}

#[test]
fn a_nan_is_seen_where_it_counts_and_nowhere_else() {
    let mut scores = vec![1.0; 2 * 28 * 30];
    scores[28 * 30 + 3 * 30 + 4] = f32::NAN;
    let images = image_scores(&scores, [2, 28, 30]).unwrap();
    assert_eq!(images[0], 1.0);
    assert!(images[1].is_nan());
    assert!(image_scores(&[f32::NAN, 2.0], [1, 1, 2]).unwrap()[0].is_nan());
    assert!(image_scores(&[2.0, f32::NAN, 3.0], [1, 1, 3]).unwrap()[0].is_nan());

    let maps = anomaly_maps(&scores, [2, 28, 30], [224, 240], SIGMA).unwrap();
    let (first, second) = maps.split_at(224 * 240);
    assert!(first.iter().all(|x| x.is_finite()));
    assert!(second[(3 * 8 + 4) * 240 + 4 * 8 + 4].is_nan());
    // 8 pixels of its own, 8 of the interpolation and 16 of the Gaussian on each side at most.
    let touched = |y: usize, x: usize| (0..56).contains(&y) && (8..64).contains(&x);
    for (i, value) in second.iter().enumerate() {
        assert!(value.is_finite() || touched(i / 240, i % 240), "pixel {i}");
    }
}

#[test]
fn what_makes_no_map_is_an_error() {
    let length = anomaly_maps(&[0.0; 5], [1, 2, 3], [4, 4], SIGMA).unwrap_err();
    assert_eq!(length.to_string(), "5 values are not 1 maps of 2x3");
    assert!(anomaly_maps(&[], [usize::MAX, 2, 3], [4, 4], SIGMA).is_err());
    let empty = anomaly_maps(&[0.0; 6], [1, 2, 3], [0, 4], SIGMA).unwrap_err();
    assert_eq!(empty.to_string(), "cannot make a 0x4 map from 2x3 scores: a side is 0");
    assert!(matches!(image_scores(&[], [1, 0, 3]), Err(MapError::Empty { .. })));
    for sigma in [-1.0, f32::NAN, f32::INFINITY, 1e9] {
        assert!(matches!(
            gaussian_blur(&[0.0; 6], [1, 2, 3], sigma),
            Err(MapError::Sigma(_))
        ));
    }
    for shape in [[0, 2, 3], [0, 0, 3], [0, 2, 0]] {
        assert_eq!(anomaly_maps(&[], shape, [4, 4], SIGMA), Ok(vec![]));
        assert_eq!(upsample_bilinear(&[], shape, [4, 4]), Ok(vec![]));
        assert_eq!(gaussian_blur(&[], shape, SIGMA), Ok(vec![]));
    }
    assert_eq!(image_scores(&[], [0, 2, 3]), Ok(vec![]));
}
