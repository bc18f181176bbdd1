//! Training and scoring in bf16 against f32, and against the same rounding in f64.

use simplenet_heads::{Adaptor, Head, Loss, Precision, Scalar, Step, StepReport, TrainConfig};

use crate::support::{ADAPTORS, TRUNCATED, authors, floats, head};

const ROWS: usize = 131;
const DIM: usize = 70;
const HIDDEN: usize = 37;

/// One step on features as a ReLU leaves them and noise of a tenth of their size, and all its gradients.
fn step<T: Scalar>(adaptor: Adaptor, loss: Loss, precision: Precision) -> (StepReport, Vec<(String, Vec<f64>)>) {
    let config = TrainConfig {
        precision,
        ..authors(loss, 1.0)
    };
    let mut head: Head<T> = head(DIM, HIDDEN, adaptor, 4);
    let values = |seed: u64, value: fn(f32) -> f32| -> Vec<T> {
        let values = floats(ROWS * DIM, seed).into_iter();
        values.map(|x| T::from_f32(value(x))).collect()
    };
    let (features, noise) = (values(1, |x| (x + 0.3).max(0.0)), values(2, |x| 0.1 * x));
    let mut step = Step::new(head.config(), &config, ROWS).expect("a step");
    let report = step.run(&mut head, &features, &noise).expect("a step");
    let gradients = step.gradients().map(|tensor| {
        (
            tensor.name.to_string(),
            tensor.data.iter().map(|x| x.to_f64()).collect(),
        )
    });
    (report, gradients.collect())
}

/// Relative L2 distance.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let apart = square(&mut a.iter().zip(b).map(|(a, b)| a - b));
    (apart / square(&mut b.iter().copied()).max(1e-30)).sqrt()
}

/// Rounding to bf16 moves a factor by up to 1/256 of it, and with it a few in a thousand of the pre-activations across
/// LeakyReLU's corner, where their gradients jump by four fifths: three in a thousand are 5 % of a gradient's norm.
#[test]
fn a_step_in_bf16_is_close_to_one_in_f32() {
    for adaptor in ADAPTORS {
        for loss in [TRUNCATED, Loss::CrossEntropy] {
            let (full, expected) = step::<f32>(adaptor, loss, Precision::F32);
            let (rounded, found) = step::<f32>(adaptor, loss, Precision::Bf16);
            let apart = (full.loss - rounded.loss).abs();
            assert!(apart < 5e-3 * full.loss, "{adaptor:?} {loss:?}: losses {apart:e} apart");
            assert!(apart > 0.0, "{adaptor:?} {loss:?}: nothing was rounded");
            for ((name, expected), (_, found)) in expected.iter().zip(&found) {
                let distance = distance(found, expected);
                assert!(distance < 0.1, "{adaptor:?} {loss:?} gradient of {name}: {distance:e}");
            }
        }
    }
}

/// The same rounding with sums in f64. What differs is the last bit of f32 sums, where it decides a rounding to bf16.
#[test]
fn sums_of_bf16_products_are_those_of_f32() {
    for adaptor in ADAPTORS {
        for loss in [TRUNCATED, Loss::CrossEntropy] {
            let (exact, expected) = step::<f64>(adaptor, loss, Precision::Bf16);
            let (rounded, found) = step::<f32>(adaptor, loss, Precision::Bf16);
            let apart = (exact.loss - rounded.loss).abs();
            assert!(
                apart < 1e-4 * exact.loss,
                "{adaptor:?} {loss:?}: losses {apart:e} apart"
            );
            for ((name, expected), (_, found)) in expected.iter().zip(&found) {
                let distance = distance(found, expected);
                assert!(distance < 3e-3, "{adaptor:?} {loss:?} gradient of {name}: {distance:e}");
            }
        }
    }
}

#[test]
fn scores_in_bf16_are_close_to_those_in_f32() {
    for adaptor in ADAPTORS {
        let head: Head<f32> = head(DIM, HIDDEN, adaptor, 9);
        let rows = floats(ROWS * DIM, 3);
        let score = |precision| {
            head.scorer_in(precision)
                .expect("a scorer")
                .score(&rows)
                .expect("scores")
        };
        let (full, rounded) = (score(Precision::F32), score(Precision::Bf16));
        let wide = |scores: &[f32]| scores.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let distance = distance(&wide(&rounded), &wide(&full));
        assert!(distance > 0.0 && distance < 1e-2, "{adaptor:?}: {distance:e}");
    }
}
