//! The same bits for any number of threads.

use rayon::ThreadPoolBuilder;
use simplenet_metrics::{MapShape, pixel_metrics, pro_code, pro_curve};

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    // Large enough for several blocks of every parallel loop, with coarse scores so that ties cross the blocks.
    let shape = MapShape {
        images: 13,
        height: 231,
        width: 227,
    };
    let pixels = 13 * 231 * 227;
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let maps: Vec<f32> = (0..pixels).map(|_| (next() % 50_021) as f32 / 999.0).collect();
    let masks: Vec<bool> = maps.iter().map(|&score| next() % 100 < score as u32).collect();
    let fractions: Vec<f32> = masks
        .iter()
        .map(|&mask| if mask { 1.0 } else { (next() % 2) as f32 / 2.0 })
        .collect();

    let run = |threads| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            (
                pixel_metrics(&maps, &masks, shape, 0.3),
                pro_code(&maps, &fractions, shape),
                pro_curve(&maps, &masks, shape, 101),
            )
        })
    };
    let alone = run(1);
    assert!(alone.0.is_ok() && alone.1.is_ok() && alone.2.is_ok(), "{alone:?}");
    for threads in [2, 3, 8] {
        assert_eq!(run(threads), alone, "{threads} threads");
    }
}
