//! A training step of the head at the paper's size, beside autograd on the same features.

use anyhow::{Result, bail};
use serde_json::json;
use simplenet_heads::{Adaptor, Head, HeadConfig, Loss, Optimizer, Precision, Rule, Step, TrainConfig, fill_noise};
use simplenet_kernels::noise::{NoiseKey, fill_normal};
use simplenet_report::Benchmark;

use super::{Bench, PRECISIONS, pool, precision_name};
use crate::bench::measure::{Contestant, alternate, contestant};
use crate::bench::peers::{distance, write_values};

const DIM: usize = 1536;
const HIDDEN: usize = 1024;

/// Images per step, and patches of an image: the paper's batch on a grid of 28 × 28.
const IMAGES: usize = 4;
const ROWS: usize = IMAGES * 28 * 28;

const NOISE: f32 = 0.015;

/// How far loss and gradient of another's step may lie from ours in f32, relatively: in f32 rounding moves one in 10⁷ of the
/// hidden units across LeakyReLU's corner, which is a ten-thousandth of the gradient's norm.
const TOLERANCES: [f64; 2] = [1e-3, 1e-1];

fn config(precision: Precision) -> TrainConfig {
    let adam = |learning_rate| Optimizer {
        rule: Rule::Adam,
        learning_rate,
        weight_decay: 1e-5,
    };
    TrainConfig {
        epochs: 1,
        batch_images: IMAGES,
        noise: NOISE.into(),
        loss: Loss::TruncatedL1 {
            positive_margin: 0.5,
            negative_margin: -0.5,
        },
        adaptor_optimizer: adam(1e-4),
        discriminator_optimizer: adam(2e-4),
        precision,
    }
}

fn head() -> Result<Head> {
    let adaptor = Adaptor::Linear { bias: false };
    let config = HeadConfig {
        dim: DIM,
        hidden: HIDDEN,
        adaptor,
    };
    Ok(Head::new(config, 0)?)
}

/// Loss and gradient of the discriminator's first weight after one step.
fn first_step(precision: Precision, features: &[f32], noise: &[f32]) -> Result<(f64, Vec<f32>)> {
    let mut head = head()?;
    let mut step = Step::new(head.config(), &config(precision), ROWS)?;
    let loss = step.run(&mut head, features, noise)?.loss;
    let gradient = step.gradients().find(|tensor| tensor.name == "disc.fc1.weight");
    Ok((loss, gradient.map_or(Vec::new(), |tensor| tensor.data.to_vec())))
}

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    // Features as a ReLU leaves them.
    let mut features = vec![0.0; ROWS * DIM];
    fill_normal(&mut features, NoiseKey { seed: 2, stream: 0 }, 0, 0.5);
    features.iter_mut().for_each(|value| *value = value.max(0.0));
    let mut noise = vec![0.0; ROWS * DIM];
    fill_noise(&mut noise, 0, 0, NOISE);
    let (expected_loss, expected) = first_step(Precision::F32, &features, &noise)?;

    for threads in bench.threads.clone() {
        let pool = pool(threads)?;
        let peers = bench.peers(threads)?;
        let mut ours: Vec<Contestant<'_>> = Vec::new();
        let mut rows = Vec::new();
        let (rows64, dim, hidden) = (ROWS as f64, DIM as f64, HIDDEN as f64);
        // Multiplications of autograd without the input gradient that nobody reads; ours needs fewer.
        let macs = 6.0 * rows64 * hidden * dim + 2.0 * rows64 * dim * dim;
        let row = |precision| Benchmark {
            model: format!("{DIM} to {HIDDEN}, {IMAGES} images of 784 patches"),
            weights: "initial".into(),
            gflop: Some(2.0 * macs / 1e9),
            ..bench.row("train step", precision, threads, IMAGES)
        };
        for precision in PRECISIONS {
            let (_, found) = first_step(precision, &features, &noise)?;
            let difference = (precision != Precision::F32).then(|| distance(&found, &expected));
            rows.push(Benchmark {
                difference,
                ..row(precision)
            });
            let mut head = head()?;
            let mut step = Step::new(head.config(), &config(precision), ROWS)?;
            let (mut batch, mut noise) = (vec![0.0; ROWS * DIM], vec![0.0; ROWS * DIM]);
            let (pool, features, mut steps) = (&pool, &features, 0);
            ours.push(contestant(move || {
                pool.install(|| {
                    // As a training loop does: gather the batch, draw its noise, step.
                    batch.copy_from_slice(features);
                    steps += 1;
                    fill_noise(&mut noise, 0, steps, NOISE);
                    Ok(step.run(&mut head, &batch, &noise)?)
                })
            }));
        }
        let torch = peers.as_ref().and_then(|peers| {
            let peers = peers.borrow();
            peers
                .engines
                .iter()
                .find(|engine| engine.name.starts_with("torch "))
                .cloned()
        });
        let mut timings = Vec::new();
        if let (Some(peers), Some(engine)) = (peers, torch) {
            let mut theirs = Vec::new();
            let folder = tempfile::tempdir()?;
            let training = describe(folder.path(), &features, &noise)?;
            for ((precision, tolerance), ours) in PRECISIONS.into_iter().zip(TOLERANCES).zip(ours) {
                let written = precision_name(precision);
                let mut peers = peers.borrow_mut();
                peers.train_load(&training, written)?;
                let (loss, gradient) = peers.train_check(folder.path())?;
                let difference = distance(&gradient, &expected);
                if difference > tolerance || (loss - expected_loss).abs() > tolerance * expected_loss {
                    bail!(
                        "{} in {written} finds a loss of {loss}, ours is {expected_loss}; gradients are {difference:.1e} apart",
                        engine.name
                    );
                }
                rows.push(Benchmark {
                    engine: engine.name.clone(),
                    isa: engine.isa.clone(),
                    difference: Some(difference),
                    ..row(precision)
                });
                // Theirs gathers nothing and draws its noise.
                let mut turns: Vec<Contestant<'_>> = vec![ours, Box::new(|| peers.train_step())];
                let pair = alternate(bench.training_budget(), &mut turns)?;
                timings.push(pair[0]);
                theirs.push(pair[1]);
            }
            timings.extend(theirs);
        } else {
            timings = alternate(bench.training_budget(), &mut ours)?;
        }
        let rows = timings.into_iter().zip(rows);
        bench.push(rows.map(|(timing, row)| timing.fill(row)).collect())?;
    }
    Ok(())
}

/// Writes the head as it begins, the features and the noise, as the peers read them.
fn describe(folder: &std::path::Path, features: &[f32], noise: &[f32]) -> Result<std::path::PathBuf> {
    let head = head()?;
    let tensors: Vec<_> = head.tensors().collect();
    let mut arrays: Vec<&[f32]> = tensors.iter().map(|tensor| tensor.data).collect();
    arrays.extend([features, noise]);
    let values = folder.join("training.f32");
    let places = write_values(&values, &arrays)?;
    let names = tensors.iter().map(|tensor| tensor.name).chain(["features", "noise"]);
    let shapes = tensors.iter().map(|tensor| tensor.shape.clone());
    let shapes = shapes.chain([vec![ROWS, DIM], vec![ROWS, DIM]]);
    let places = places
        .into_iter()
        .zip(shapes)
        .map(|(place, shape)| json!([place, shape]));
    let described: serde_json::Map<_, _> = names.map(String::from).zip(places).collect();
    let path = folder.join("training.json");
    let about = json!({ "values": values, "tensors": described, "noise": NOISE });
    std::fs::write(&path, about.to_string())?;
    Ok(path)
}
