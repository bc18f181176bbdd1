//! The search for nearest neighbours.

use simplenet_heads::patchcore::NearestNeighbours;

use crate::plain::{exact, plain_nearest};
use crate::reference::for_any_threads;

#[test]
fn neighbours_are_those_of_the_plain_search() {
    for (queries, count, dim, wanted) in [
        (1, 1, 1, 1),
        (5, 9, 2, 3),
        (37, 1500, 19, 4),
        (701, 2100, 33, 1),
        (3, 1025, 400, 130),
    ] {
        // Around the origin, in two clusters so far apart that norms hide the distances inside of them, and so near 0 that a product
        // of two coordinates is hardly a number that instructions for bf16 know.
        for (center, scale) in [(0.0, 1.0), (1000.0, 1.0), (0.0, 2.0_f32.powi(-64))] {
            let clusters = |rows: usize, seed: u64| -> Vec<f32> {
                let near = exact(rows * dim, center, seed).into_iter().enumerate();
                near.map(|(i, x)| if i / dim % 2 == 0 { x } else { x - 2.0 * center })
                    .map(|x| x * scale)
                    .collect()
            };
            let (vectors, asked) = (clusters(count, 1), clusters(queries, 2));
            let memory = NearestNeighbours::new(vectors.clone(), dim).expect("vectors");
            let found = for_any_threads(|| memory.nearest(&asked, wanted).expect("neighbours"));
            assert_eq!(found.len(), queries * wanted);
            for (query, found) in asked.chunks_exact(dim).zip(found.chunks_exact(wanted)) {
                let found: Vec<(usize, f64)> = found.iter().map(|x| (x.index, f64::from(x.squared_distance))).collect();
                let expected = plain_nearest(&vectors, dim, query, wanted);
                assert_eq!(
                    found, expected,
                    "{queries} {count} {dim} {wanted} around {center}, {scale:e}"
                );
            }
        }
    }
}

#[test]
fn vectors_without_a_finite_length_are_refused() {
    for damage in [f32::NAN, f32::INFINITY, 1e30] {
        let error = NearestNeighbours::new(vec![1.0, 0.0, damage, 1.0], 2).expect_err("no length");
        assert_eq!(
            error.to_string(),
            "vectors has 4 values, expected rows whose squared lengths are finite numbers"
        );
    }
}

#[test]
fn of_equal_vectors_the_first_is_nearest() {
    let memory = NearestNeighbours::new(vec![0.3; 3000 * 7], 7).expect("vectors");
    let found = memory.nearest(&[0.3; 14], 2).expect("neighbours");
    let indices: Vec<usize> = found.iter().map(|x| x.index).collect();
    assert_eq!(indices, [0, 1, 0, 1]);
    assert!(found.iter().all(|x| x.squared_distance == 0.0));
}
