//! The kernels as candle operations, on candle's processor device, against the functions that they call and against the same
//! made of candle's own operations.

use candle_core::{DType, Device, Tensor};
use simplenet_kernels::candle_ops::{add_normal, anomaly_maps, code_embed, mean_embed};
use simplenet_kernels::noise::{self, NoiseKey};
use simplenet_kernels::{maps, patch_candle};

const KEY: NoiseKey = NoiseKey { seed: 7, stream: 3 };

/// Repeatable values.
fn tensor(shape: &[usize], seed: usize) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor")
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("values")
}

fn largest_difference(found: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    let (found, expected) = (numbers(found), numbers(expected));
    found
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[test]
fn one_to_three_maps_are_embedded() {
    let maps = [
        tensor(&[2, 5, 7, 6], 1),
        tensor(&[2, 8, 4, 3], 2),
        tensor(&[2, 3, 2, 2], 3),
    ];
    for count in 1..=3 {
        for patch in [1, 3, 5] {
            let maps = &maps[..count];
            let found = mean_embed(maps, patch).expect("rows");
            let expected = patch_candle::mean_embed(maps, patch).expect("rows");
            assert!(
                largest_difference(&found, &expected) < 1e-5,
                "mean of {count}, patch {patch}"
            );
            let found = code_embed(maps, patch, 11, 9).expect("rows");
            let expected = patch_candle::code_embed(maps, patch, 11, 9).expect("rows");
            assert!(
                largest_difference(&found, &expected) < 1e-5,
                "code of {count}, patch {patch}"
            );
        }
    }
}

#[test]
fn views_are_read_as_what_they_show() {
    let whole = tensor(&[4, 6, 5, 8], 4);
    let view = whole
        .narrow(0, 1, 2)
        .and_then(|part| part.transpose(2, 3))
        .expect("a view");
    let copy = view.copy().expect("a copy");
    let rows = |map: Tensor| mean_embed(&[map], 3).expect("rows");
    assert_eq!(largest_difference(&rows(view), &rows(copy)), 0.0);
    let scores = tensor(&[3, 4, 5], 5).transpose(1, 2).expect("a view");
    let map = |scores: &Tensor| anomaly_maps(scores, [20, 16], 2.0).expect("maps");
    assert_eq!(
        largest_difference(&map(&scores), &map(&scores.copy().expect("a copy"))),
        0.0
    );
}

#[test]
fn maps_are_those_of_the_function() {
    let scores = tensor(&[2, 5, 9], 6);
    let found = anomaly_maps(&scores, [37, 70], 4.0).expect("maps");
    assert_eq!(found.dims(), [2, 37, 70]);
    let expected = maps::anomaly_maps(&numbers(&scores), [2, 5, 9], [37, 70], 4.0).expect("maps");
    assert_eq!(numbers(&found), expected);
}

#[test]
fn noise_is_added_where_it_belongs() {
    let features = tensor(&[3, 5000], 7);
    let before = numbers(&features);
    // Only the middle row: what a view does not show stays as it is.
    add_normal(&features.narrow(0, 1, 1).expect("a view"), KEY, 0.015).expect("noise");
    let after = numbers(&features);
    let mut noised = before[5000..10_000].to_vec();
    noise::add_normal(&mut noised, &before[5000..10_000], KEY, 0, 0.015).expect("noise");
    assert_eq!(after[5000..10_000], noised);
    assert_eq!((&after[..5000], &after[10_000..]), (&before[..5000], &before[10_000..]));
}

#[test]
fn what_does_not_fit_is_refused() {
    let map = tensor(&[1, 2, 3, 3], 8);
    let error = |result: candle_core::Result<Tensor>| result.expect_err("a refusal").to_string();
    assert!(error(mean_embed(&[], 3)).contains("0 feature maps"));
    assert!(error(mean_embed(&[map.clone(), map.clone(), map.clone(), map.clone()], 3)).contains("4 feature maps"));
    assert!(error(mean_embed(std::slice::from_ref(&map), 2)).contains("no centre"));
    assert!(error(mean_embed(&[map.to_dtype(DType::F64).expect("f64")], 3)).contains("F64"));
    assert!(error(anomaly_maps(&map, [8, 8], 1.0)).contains("unexpected rank"));
    let turned = tensor(&[4, 6], 9).t().expect("a view");
    let error = add_normal(&turned, KEY, 1.0).expect_err("a refusal").to_string();
    assert!(error.contains("not contiguous"), "{error}");
    let whole = Tensor::zeros(4, DType::U8, &Device::Cpu).expect("a tensor");
    let error = add_normal(&whole, KEY, 1.0).expect_err("a refusal").to_string();
    assert!(error.contains("U8"), "{error}");
}
