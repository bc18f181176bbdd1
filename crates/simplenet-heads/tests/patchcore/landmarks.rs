//! The nearest of many rows to each of a few vectors.

use simplenet_heads::patchcore::{Landmarks, NearestNeighbours};

use crate::plain::{exact, squared};
use crate::reference::{floats, for_any_threads};

#[test]
fn distances_are_those_of_the_plain_search() {
    for (rows, count, dim) in [
        (1, 1, 1),
        (5, 9, 2),
        (63, 7, 19),
        (64, 128, 33),
        (701, 130, 40),
        (3, 17, 400),
    ] {
        // As for neighbours: around the origin, where norms hide the distances, and near 0.
        for (center, scale) in [(0.0, 1.0), (1000.0, 1.0), (0.0, 2.0_f32.powi(-64))] {
            let values = |rows: usize, seed: u64| -> Vec<f32> {
                let values = exact(rows * dim, center, seed);
                values.into_iter().map(|x| x * scale).collect()
            };
            let (vectors, rows) = (values(count, 1), values(rows, 2));
            let landmarks = Landmarks::new(vectors.clone(), dim).expect("vectors");
            let found = for_any_threads(|| landmarks.nearest(&rows).expect("distances"));
            for (vector, found) in vectors.chunks_exact(dim).zip(found) {
                let all = rows.chunks_exact(dim).map(|row| squared(vector, row));
                assert_eq!(
                    f64::from(found),
                    all.fold(f64::INFINITY, f64::min),
                    "{dim} around {center}"
                );
            }
        }
    }
}

/// To the last bit where distances are rounded, whichever of both is the memory.
#[test]
fn the_search_the_other_way_round_finds_the_same() {
    for (rows, count, dim) in [(300, 128, 152), (784, 31, 77)] {
        let (rows, vectors) = (floats(rows * dim, 3), floats(count * dim, 4));
        let found = Landmarks::new(vectors.clone(), dim)
            .expect("vectors")
            .nearest(&rows)
            .expect("distances");
        let memory = NearestNeighbours::new(rows, dim).expect("rows");
        let expected = memory.nearest(&vectors, 1).expect("neighbours");
        let expected: Vec<f32> = expected.iter().map(|x| x.squared_distance).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn where_there_is_no_row_everything_is_far() {
    let landmarks = Landmarks::new(vec![1.0, 2.0, 3.0, 4.0], 2).expect("vectors");
    assert_eq!(landmarks.nearest(&[]).expect("distances"), [f32::INFINITY; 2]);
}

#[test]
fn what_has_no_finite_length_is_refused() {
    for damage in [f32::NAN, f32::INFINITY, 1e30] {
        let error = Landmarks::new(vec![1.0, 0.0, damage, 1.0], 2).expect_err("no length");
        assert_eq!(
            error.to_string(),
            "vectors has 4 values, expected at least one row of 2 channels, of a squared length that is a finite number"
        );
        let landmarks = Landmarks::new(vec![1.0, 0.0], 2).expect("a vector");
        let mut rows = vec![0.5; 2 * 100];
        rows[2 * 70] = damage;
        let error = landmarks.nearest(&rows).expect_err("no length").to_string();
        assert!(error.contains("70"), "{error}");
    }
    assert!(Landmarks::new(Vec::new(), 3).is_err() && Landmarks::new(vec![1.0; 4], 3).is_err());
}
