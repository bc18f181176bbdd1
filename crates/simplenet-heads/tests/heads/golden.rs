//! Parity with the authors' code, step by step.

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use simplenet_heads::{Adaptor, Head, Loss, Rule, Scalar, Step, TrainConfig};

use crate::support::{TRUNCATED, authors, golden, largest, largest_difference, optimizer, values};

const STEPS: usize = 4;

struct Case {
    name: &'static str,
    adaptor: Adaptor,
    loss: Loss,
}

const CASES: [Case; 5] = [
    Case {
        name: "code",
        adaptor: Adaptor::Linear { bias: true },
        loss: TRUNCATED,
    },
    Case {
        name: "paper",
        adaptor: Adaptor::Linear { bias: false },
        loss: TRUNCATED,
    },
    Case {
        name: "ce",
        adaptor: Adaptor::Linear { bias: true },
        loss: Loss::CrossEntropy,
    },
    Case {
        name: "complex",
        adaptor: Adaptor::Mlp,
        loss: TRUNCATED,
    },
    Case {
        name: "noadapt",
        adaptor: Adaptor::None,
        loss: TRUNCATED,
    },
];

fn config(case: &Case, faster: f64) -> TrainConfig {
    let mut config = authors(case.loss, faster);
    if case.name == "paper" {
        config.adaptor_optimizer = optimizer(Rule::Adam, 1e-4 * faster, 1e-5);
    }
    config
}

/// The stored run in `T`; `check` sees (step from 1, head, step state, loss).
fn run<T: Scalar>(
    file: &SafeTensors<'_>,
    case: &Case,
    faster: f64,
    mut check: impl FnMut(usize, &Head<T>, &Step<T>, f64),
) -> Head<T> {
    let name = stored_name(case, faster);
    let mut head = Head::<T>::from_tensors(file, &format!("{name}.step0.")).expect("step 0");
    assert_eq!(head.config().adaptor, case.adaptor);
    let (inputs, noise) = (values::<T>(file, "inputs"), values::<T>(file, "noise"));
    let size = inputs.len() / STEPS;
    let mut step = Step::new(head.config(), &config(case, faster), 14).expect("a step");
    for index in 0..STEPS {
        let part = index * size..(index + 1) * size;
        let report = step
            .run(&mut head, &inputs[part.clone()], &noise[part])
            .expect("a step");
        check(index + 1, &head, &step, report.loss);
    }
    head
}

fn stored_name(case: &Case, faster: f64) -> String {
    if faster == 1.0 {
        case.name.to_string()
    } else {
        format!("{}_x100", case.name)
    }
}

fn scores<T: Scalar>(step: &Step<T>) -> Vec<T> {
    let (normal, noised) = step.scores();
    [normal, noised].concat()
}

fn assert_close<T: Scalar>(what: &str, found: &[T], expected: &[T], absolute: f64, relative: f64) {
    let difference = largest_difference(found, expected);
    let bound = absolute + relative * largest(expected);
    assert!(
        difference <= bound,
        "{what}: differs by {difference:.3e}, allowed {bound:.3e}"
    );
}

// Oracle: DonaldRR/SimpleNet `SimpleNet._train_discriminator` in float64 (torch 2.15), stored rounded to float32.
#[test]
fn four_steps_in_f64_are_the_authors() {
    let Some(bytes) = golden("train_step.safetensors") else {
        return;
    };
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let json: serde_json::Value = serde_json::from_slice(&golden("metrics.json").expect("metrics.json")).expect("json");
    for (case, faster) in CASES.iter().flat_map(|case| [(case, 1.0), (case, 100.0)]) {
        let name = stored_name(case, faster);
        let all_scores: Vec<f64> = values(&file, &format!("{name}.ref64.scores"));
        let head = run::<f64>(&file, case, faster, |index, head, step, loss| {
            let expected = json["train_step"]["cases"][&name]["loss_f64"][index - 1]
                .as_f64()
                .expect("a loss");
            assert!(
                (loss - expected).abs() < 1e-9,
                "{name} step {index}: loss {loss}, expected {expected}"
            );
            let stored = &all_scores[(index - 1) * 28..index * 28];
            assert_close(&format!("{name} scores {index}"), &scores(step), stored, 3e-7, 2e-7);
            for tensor in head.tensors() {
                let what = format!("{name}.ref64.step{index}.{}", tensor.name);
                assert_close(&what, tensor.data, &values(&file, &what), 3e-7, 2e-7);
            }
        });
        let found = head.score(&values(&file, "inputs")[..14 * 12]).expect("scores");
        let expected = values(&file, &format!("{name}.ref64.eval_scores"));
        assert_close(&format!("{name} eval_scores"), &found, &expected, 3e-7, 2e-7);
    }
}

// Oracle: the same in float32. Tensors that rounding noise drives (README.md of the golden files, section 4) have bounds
// that hold against the float64 run.
#[test]
fn four_steps_in_f32_are_the_authors() {
    let Some(bytes) = golden("train_step.safetensors") else {
        return;
    };
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    for (case, faster) in CASES.iter().flat_map(|case| [(case, 1.0), (case, 100.0)]) {
        let name = stored_name(case, faster);
        let (slow, fast) = (1e-4 * faster, 2e-4 * faster);
        let last_bias = format!("adaptor.{}.bias", case.adaptor.layers().saturating_sub(1));
        let losses: Vec<f32> = values(&file, &format!("{name}.loss"));
        let all_scores: Vec<f32> = values(&file, &format!("{name}.scores"));
        let head = run::<f32>(&file, case, faster, |index, head, step, loss| {
            assert_close(
                &format!("{name} loss {index}"),
                &[loss as f32],
                &[losses[index - 1]],
                5e-6,
                0.0,
            );
            let stored = &all_scores[(index - 1) * 28..index * 28];
            assert_close(&format!("{name} scores {index}"), &scores(step), stored, 5e-6, 0.0);
            if index == 1 {
                for gradient in step.gradients() {
                    let what = format!("{name}.step1.grad.{}", gradient.name);
                    assert_close(&what, gradient.data, &values(&file, &what), 2e-6, 0.0);
                }
            }
            for tensor in head.tensors() {
                let what = format!("{name}.ref64.step{index}.{}", tensor.name);
                let bound = match tensor.name {
                    bias if bias == last_bias => 4.0 * slow + 1e-6,
                    "disc.fc1.bias" => 4.0 * fast,
                    "disc.bn.running_mean" => 5.0 * (slow + fast),
                    _ => 2e-6,
                };
                assert_close(&what, tensor.data, &values(&file, &what), bound, 0.0);
            }
        });
        let rows = &values(&file, "inputs")[..14 * 12];
        let expected: Vec<f32> = values(&file, &format!("{name}.ref64.eval_scores"));
        let found = head.score(rows).expect("scores");
        assert_close(
            &format!("{name} eval_scores"),
            &found,
            &expected,
            20.0 * (slow + fast),
            0.0,
        );
        let stored = Head::<f32>::from_tensors(&file, &format!("{name}.ref64.step4.")).expect("step 4");
        let found = stored.score(rows).expect("scores");
        assert_close(
            &format!("{name} eval_scores of the stored head"),
            &found,
            &expected,
            1e-5,
            0.0,
        );
    }
}

// Oracle: DonaldRR/SimpleNet `SimpleNet._predict` with random weights (section 7 of the golden files' README.md).
#[test]
fn adapted_features_and_scores_are_the_authors() {
    let (Some(bytes), Some(embeddings)) = (golden("forward.safetensors"), golden("patch_embed.safetensors")) else {
        return;
    };
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let embeddings = SafeTensors::deserialize(&embeddings).expect("safetensors");
    for case in ["code", "complex", "none", "paper"] {
        let head = Head::<f32>::from_safetensors(&only_the_head(&file, case)).expect("a head");
        let rows: Vec<f32> = if case == "paper" {
            to_rows(&values(&embeddings, "c1.p3.paper"), head.config().dim)
        } else {
            values(&embeddings, "c1.p3.embed")
        };
        let close = |what: &str, found: &[f32]| {
            let what = format!("{case}.{what}");
            assert_close(&what, found, &values(&file, &what), 1e-5, 3e-6);
        };
        let scores = head.score(&rows).expect("scores");
        close("adapted", &head.adapt(&rows).expect("features"));
        close("patch_scores", &scores);
        let largest = |scores: &[f32]| scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        close("image_score", &scores.chunks(140).map(largest).collect::<Vec<f32>>());
    }
}

/// The head's tensors of a case, which lie among its outputs, as a file of their own.
fn only_the_head(file: &SafeTensors<'_>, case: &str) -> Vec<u8> {
    let parts = file.names().into_iter().filter_map(|name| {
        let inner = name.strip_prefix(case)?.strip_prefix('.')?;
        let belongs = inner.starts_with("adaptor.") || inner.starts_with("disc.");
        belongs.then(|| (inner, file.tensor(name).expect("a tensor")))
    });
    safetensors::serialize(parts.collect::<Vec<(&str, TensorView<'_>)>>(), None).expect("a file")
}

/// `[B, C, H·W]` with H·W = 140 to rows.
fn to_rows(maps: &[f32], dim: usize) -> Vec<f32> {
    let images = maps.chunks_exact(dim * 140);
    images
        .flat_map(|map| (0..140).flat_map(move |at| (0..dim).map(move |channel| map[channel * 140 + at])))
        .collect()
}
