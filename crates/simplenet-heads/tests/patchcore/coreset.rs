//! The selection of the memory.

use simplenet_heads::patchcore::{Coreset, Sampler, coreset_rows, greedy_k_center};

use crate::plain::{APPROXIMATE, config, exact, largest, plain_greedy, row, squared};
use crate::reference::{bank, floats, for_any_threads};

#[test]
fn lazy_selection_takes_the_points_that_the_plain_one_takes() {
    // Fewer points than a batch, more batches than one, more points than catch up at once; few and many dimensions.
    for (points, dim, count) in [
        (1, 1, 1),
        (7, 3, 9),
        (301, 5, 300),
        (611, 37, 400),
        (4501, 2, 700),
        (4203, 19, 530),
    ] {
        for center in [0.0, 1000.0] {
            let data = exact(points * dim, center, (points + dim) as u64);
            let infinite = vec![f32::INFINITY; points];
            let first: Vec<f32> = exact(points, 2.0, 9).iter().map(|x| x * 4.0).collect();
            for bounds in [infinite, first] {
                let expected = bounds.iter().copied().map(f64::from).collect();
                let expected = plain_greedy(&data, dim, expected, count);
                let found = greedy_k_center(&data, dim, bounds, count).expect("a selection");
                assert_eq!(found, expected, "{points} points of {dim} dimensions around {center}");
            }
        }
    }
}

#[test]
fn selection_among_clusters_is_the_plain_one() {
    // 40 points far apart, each surrounded by 60 near ones: most bounds fall at once, and then hardly.
    let (dim, near) = (11, 60);
    let centers = exact(40 * dim, 0.0, 1);
    let offsets = exact(40 * near * dim, 0.0, 2);
    let data: Vec<f32> = (0..40 * near * dim)
        .map(|i| 64.0 * centers[i / (near * dim) * dim + i % dim] + offsets[i])
        .collect();
    let bounds = vec![f32::INFINITY; 40 * near];
    let expected = plain_greedy(&data, dim, vec![f64::INFINITY; 40 * near], 900);
    assert_eq!(greedy_k_center(&data, dim, bounds, 900).expect("a selection"), expected);
}

#[test]
fn equal_points_are_taken_once() {
    let (different, dim) = (23, 4);
    let once = exact(different * dim, 3.0, 4);
    let data = once.repeat(9);
    let found = greedy_k_center(&data, dim, vec![1e6; different * 9], 100).expect("a selection");
    let mut sorted = found.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        (0..different).collect::<Vec<_>>(),
        "each point once, its first copy"
    );
    let error = greedy_k_center(&data, dim, vec![1.0; 5], 3).expect_err("too few bounds");
    assert!(
        error.to_string().starts_with("bounds has 5 values, expected 207"),
        "{error}"
    );
}

/// Oracle: `GreedyCoresetSampler` of amazon-science/patchcore-inspection (`sampler.py`), which begins with the row of the
/// distance matrix that has the largest norm.
#[test]
fn the_greedy_sampler_is_that_of_the_distance_matrix() {
    let (images, patches, dim) = (9, 11, 5);
    let rows: Vec<f32> = floats(images * patches * dim, 5).iter().map(|x| 7.0 + x).collect();
    let count = images * patches;
    let matrix: Vec<Vec<f64>> = (0..count)
        .map(|a| {
            (0..count)
                .map(|b| squared(row(&rows, dim, a), row(&rows, dim, b)).sqrt())
                .collect()
        })
        .collect();
    let mut anchors: Vec<f64> = matrix
        .iter()
        .map(|row| row.iter().map(|x| x * x).sum::<f64>().sqrt())
        .collect();
    let mut expected = Vec::new();
    for _ in 0..(count as f64 * 0.3) as usize {
        let chosen = largest(&anchors);
        expected.push(chosen);
        anchors
            .iter_mut()
            .zip(&matrix[chosen])
            .for_each(|(anchor, &x)| *anchor = anchor.min(x));
    }
    for spilled in [false, true] {
        let bank = bank(&rows, patches, dim, spilled);
        let found = coreset_rows(&bank, &config(0.3, Sampler::Greedy).coreset, 8).expect("rows");
        assert_eq!(found, expected);
    }
}

/// What makes the approximate sampler greedy too: from the second row on, each is the farthest from those before, so no
/// row is farther from the coreset than the kept ones are from each other.
#[test]
fn the_approximate_sampler_covers_the_bank() {
    let (images, patches, dim) = (7, 13, 6);
    let rows = floats(images * patches * dim, 6);
    let bank = bank(&rows, patches, dim, false);
    let coreset = |fraction| config(fraction, APPROXIMATE).coreset;
    let kept = coreset_rows(&bank, &coreset(0.25), 1).expect("rows");
    assert_eq!(kept.len(), 22);
    let distance = |a: &usize, b: &usize| squared(row(&rows, dim, *a), row(&rows, dim, *b));
    let to_kept = |a: usize| kept.iter().map(|b| distance(&a, b)).fold(f64::INFINITY, f64::min);
    let radius = (0..images * patches).map(to_kept).fold(0.0, f64::max);
    let pairs = kept
        .iter()
        .enumerate()
        .flat_map(|(i, a)| kept[..i].iter().map(move |b| (a, b)));
    let spacing = pairs.map(|(a, b)| distance(a, b)).fold(f64::INFINITY, f64::min);
    assert!(radius <= spacing * 1.000_001, "{radius} {spacing}");

    let fewer = coreset_rows(&bank, &coreset(0.1), 1).expect("rows");
    assert_eq!(fewer, kept[..9], "a smaller coreset begins the larger one");
    assert_eq!(coreset_rows(&bank, &coreset(1e-9), 1).expect("rows"), kept[..1]);
    assert_eq!(
        coreset_rows(&bank, &coreset(1.0), 1).expect("rows"),
        (0..91).collect::<Vec<_>>()
    );
}

#[test]
fn a_projection_keeps_the_spread_of_the_rows() {
    let (images, patches, dim) = (5, 17, 60);
    // Ten rows that stand out among 75 near the origin.
    let mut rows: Vec<f32> = floats(images * patches * dim, 7).iter().map(|x| 0.01 * x).collect();
    let outstanding: Vec<usize> = (0..10).map(|i| i * 8 + 3).collect();
    for &index in &outstanding {
        rows[index * dim + index % dim] += 5.0;
    }
    let coreset = Coreset {
        projection: 24,
        ..config(11.5 / 85.0, APPROXIMATE).coreset
    };
    let found = for_any_threads(|| {
        let kept = [false, true].map(|spilled| coreset_rows(&bank(&rows, patches, dim, spilled), &coreset, 3));
        let [memory, file] = kept.map(|rows| rows.expect("rows"));
        assert_eq!(memory, file);
        memory
    });
    assert_eq!(found.len(), 11);
    assert!(outstanding.iter().all(|index| found.contains(index)), "{found:?}");
    let bank = bank(&rows, patches, dim, false);
    let other = coreset_rows(&bank, &coreset, 4).expect("rows");
    assert_ne!(other, found, "another seed projects otherwise");
}
