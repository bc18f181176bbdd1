//! Heads on a GPU against heads on the processor. Without a GPU they say that they are skipped; with
//! `SIMPLENET_REQUIRE_GPU=1` that is a failure.

#[path = "../../../simplenet-kernels/tests/gpu/mod.rs"]
mod gpu;

use std::ops::ControlFlow;

use gpu::gpu;
use simplenet_heads::cuda::{DeviceBank, DeviceHead, DeviceStep, Products, train as train_on};
use simplenet_heads::{
    Adaptor, Bank, BankBuilder, EpochReport, Error, Head, HeadConfig, Loss, Optimizer, Rule, Standardizer, Step,
    TrainConfig, fill_noise, train,
};
use simplenet_kernels::cuda::{Gpu, Math};
use simplenet_kernels::engine::Precision;
use simplenet_kernels::noise::{NoiseKey, fill_normal};

const DIM: usize = 40;
const HIDDEN: usize = 72;

/// Seven images of 33 rows: with two images to a step the last step has one, and no size is round.
fn bank(seed: u64) -> Bank {
    let mut builder = BankBuilder::new(DIM, 33, 1 << 30, &std::env::temp_dir()).expect("a builder");
    let mut values = vec![0.0; 7 * 33 * DIM];
    fill_normal(&mut values, NoiseKey { seed, stream: 1 }, 0, 0.4);
    for (index, value) in values.iter_mut().enumerate() {
        *value += (index % DIM) as f32 * 0.1;
    }
    builder.push(&values).expect("rows");
    builder.finish().expect("a bank")
}

fn config(loss: Loss) -> TrainConfig {
    let optimizer = |rule, learning_rate, weight_decay| Optimizer {
        rule,
        learning_rate,
        weight_decay,
    };
    TrainConfig {
        epochs: 4,
        batch_images: 2,
        noise: 0.2,
        loss,
        adaptor_optimizer: optimizer(Rule::AdamW, 1e-3, 0.01),
        discriminator_optimizer: optimizer(Rule::Adam, 2e-3, 1e-5),
        precision: Precision::F32,
    }
}

const TRUNCATED: Loss = Loss::TruncatedL1 {
    positive_margin: 0.5,
    negative_margin: -0.5,
};

fn new_head(adaptor: Adaptor, bank: &Bank, is_standardised: bool) -> Head {
    let config = HeadConfig {
        dim: DIM,
        hidden: HIDDEN,
        adaptor,
    };
    let mut head = Head::new(config, 5).expect("a head");
    if is_standardised {
        head.set_standardizer(Standardizer::fit(bank))
            .expect("the same channels");
    }
    head
}

fn go_on<H>(reports: &mut Vec<EpochReport>) -> impl FnMut(&EpochReport, &H) -> Result<ControlFlow<()>, Error> + '_ {
    |report, _| {
        reports.push(*report);
        Ok(ControlFlow::Continue(()))
    }
}

/// L2 distance relative to the expected values.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let pairs = || found.iter().zip(expected).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let difference: f64 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
    let norm: f64 = pairs().map(|(_, b)| b * b).sum();
    let distance = (difference / norm.max(1e-12)).sqrt();
    if distance.is_nan() { f64::INFINITY } else { distance }
}

#[test]
fn training_in_f32_is_that_of_the_processor() {
    let Some(gpu) = gpu() else { return };
    let bank = bank(1);
    let on_device = DeviceBank::upload(&gpu, &bank).expect("room");
    let adaptors = [
        Adaptor::None,
        Adaptor::Linear { bias: false },
        Adaptor::Linear { bias: true },
        Adaptor::Mlp,
    ];
    for (index, adaptor) in adaptors.into_iter().enumerate() {
        // Adam divides by the gradient's own size and so makes much of its rounding. Where that moves a score past its margin,
        // a whole row's gradient appears or vanishes; wide margins have none there.
        let wide = Loss::TruncatedL1 {
            positive_margin: 50.0,
            negative_margin: -50.0,
        };
        for (loss, tolerance) in [(wide, 3e-3), (Loss::CrossEntropy, 3e-3), (TRUNCATED, 2e-2)] {
            // Features around 0 for two layers: a unit that is positive in every row has a bias whose gradient is rounding
            // noise (batch norm removes it), which Adam divides by its own size.
            let is_standardised = index % 3 == 0;
            let what = format!("{adaptor:?} {loss:?}");
            let config = config(loss);
            let (mut expected, mut found) = (
                new_head(adaptor, &bank, is_standardised),
                new_head(adaptor, &bank, is_standardised),
            );
            let (mut cpu_reports, mut gpu_reports) = (Vec::new(), Vec::new());
            train(&mut expected, &bank, &config, 3, go_on(&mut cpu_reports)).expect("training");
            train_on(
                &mut found,
                &on_device,
                &config,
                Products::F32,
                3,
                go_on(&mut gpu_reports),
            )
            .expect("training");
            for (cpu, gpu) in cpu_reports.iter().zip(&gpu_reports) {
                assert_eq!((cpu.epoch, cpu.steps), (gpu.epoch, gpu.steps), "{what}");
                for (cpu, gpu) in [
                    (cpu.loss, gpu.loss),
                    (cpu.mean_normal, gpu.mean_normal),
                    (cpu.mean_noised, gpu.mean_noised),
                ] {
                    assert!(
                        (cpu - gpu).abs() < tolerance * cpu.abs().max(1.0),
                        "{what}: {cpu} on the processor, {gpu} on the GPU"
                    );
                }
                // A score may fall on the other side of its margin by rounding: one row of 231 is 0.0043.
                assert!((cpu.normal_past_margin - gpu.normal_past_margin).abs() < 0.01, "{what}");
                assert!((cpu.noised_past_margin - gpu.noised_past_margin).abs() < 0.01, "{what}");
            }
            assert_eq!(cpu_reports.len(), gpu_reports.len());
            for (expected, found) in expected.tensors().zip(found.tensors()) {
                let distance = distance(found.data, expected.data);
                assert!(distance < tolerance, "{what}: {} differs by {distance:e}", found.name);
            }
            let device_head = DeviceHead::upload(&gpu, &expected).expect("room");
            let scores = device_head.score(&on_device, Math::F32).expect("scores");
            let rows: Vec<f32> = (0..bank.images())
                .flat_map(|image| bank.image(image).to_vec())
                .collect();
            let distance = distance(&scores, &expected.score(&rows).expect("scores"));
            assert!(distance < 1e-5, "{what}: scores differ by {distance:e}");
        }
    }
}

#[test]
fn gradients_of_a_step_are_those_of_the_processor() {
    let Some(gpu) = gpu() else { return };
    let bank = bank(6);
    let on_device = DeviceBank::upload(&gpu, &bank).expect("room");
    let rows: Vec<f32> = (0..2).flat_map(|image| bank.image(image).to_vec()).collect();
    let mut noise = vec![0.0; rows.len()];
    fill_noise(&mut noise, 8, 0, 0.2);
    for adaptor in [Adaptor::None, Adaptor::Linear { bias: true }, Adaptor::Mlp] {
        for loss in [TRUNCATED, Loss::CrossEntropy] {
            let config = config(loss);
            let mut host = new_head(adaptor, &bank, true);
            let device_head = DeviceHead::upload(&gpu, &host).expect("room");
            let mut device = DeviceStep::<f32>::new(&device_head, &on_device, &config, Math::F32, 8).expect("room");
            let mut features = rows.clone();
            host.standardizer()
                .expect("a standardizer")
                .apply(&mut features)
                .expect("whole rows");
            let mut step = Step::new(host.config(), &config, 66).expect("a step");
            let expected = step.run(&mut host, &features, &noise).expect("a step");

            device.begin_epoch(&[0, 1, 2, 3, 4, 5, 6]).expect("an order");
            device.run(2).expect("a step");
            let found = device.report().expect("a report");
            let share = 2.0 / 7.0;
            assert!(
                (found.loss - share * expected.loss).abs() < 1e-6,
                "{found:?} {expected:?}"
            );
            let found = device.gradients().expect("gradients");
            for (expected, found) in step.gradients().zip(found) {
                let what = expected.name;
                if !what.ends_with(".bias") || what == "disc.bn.bias" {
                    let distance = distance(&found, expected.data);
                    assert!(
                        distance < 1e-4,
                        "{adaptor:?} {loss:?}: gradient of {what} differs by {distance:e}"
                    );
                }
            }
        }
    }
}

#[test]
fn an_epoch_takes_every_image_once_and_ends() {
    let Some(gpu) = gpu() else { return };
    let on_device = DeviceBank::upload(&gpu, &bank(7)).expect("room");
    let head = new_head(Adaptor::None, &bank(7), false);
    let device_head = DeviceHead::upload(&gpu, &head).expect("room");
    let mut step = DeviceStep::<f32>::new(&device_head, &on_device, &config(TRUNCATED), Math::F32, 1).expect("a step");
    let past_end = |result: Result<(), Error>, expected: usize| match result {
        Err(Error::NoSuchStep { left, most: 2, .. }) => assert_eq!(left, expected),
        other => panic!("{other:?}"),
    };
    past_end(step.run(1), 0);
    for (order, fault) in [
        (&[0, 1, 2, 3, 4, 5][..], "has 6 entries"),
        (&[0, 1, 2, 3, 4, 5, 7], "image 7 in entry 6"),
        (&[0, 1, 2, 3, 4, 5, usize::MAX], "in entry 6"),
        (&[6, 1, 2, 1, 4, 5, 0], "image 1 twice, in entries 1 and 3"),
    ] {
        let error = step.begin_epoch(order).expect_err("no order").to_string();
        assert!(error.contains("7 images") && error.contains(fault), "{error}");
        past_end(step.run(1), 0);
    }
    for epoch in 0..2 {
        step.begin_epoch(&[6, 5, 4, 3, 2, 1, 0]).expect("an order");
        past_end(step.run(0), 7);
        past_end(step.run(3), 7);
        (0..3).for_each(|_| step.run(2).expect("a step"));
        past_end(step.run(2), 1);
        step.run(1).expect("the last step");
        past_end(step.run(1), 0);
        assert!(step.report().expect("a report").loss.is_finite(), "epoch {epoch}");
    }
}

#[test]
fn a_head_goes_back_only_where_it_fits() {
    let Some(gpu) = gpu() else { return };
    let bank = bank(8);
    let head = new_head(Adaptor::Linear { bias: false }, &bank, false);
    let device_head = DeviceHead::upload(&gpu, &head).expect("room");
    let mut other = new_head(Adaptor::None, &bank, false);
    let before = other.clone();
    let error = device_head.download(&mut other).expect_err("another head");
    assert!(matches!(error, Error::OtherHead { .. }), "{error}");
    assert_eq!(other, before);
}

#[test]
fn a_head_and_a_bank_of_different_streams_are_refused() {
    let Some(gpu) = gpu() else { return };
    let bank = bank(8);
    let head = new_head(Adaptor::Linear { bias: false }, &bank, false);
    let other = DeviceBank::upload(&Gpu::new(0).expect("the same GPU"), &bank).expect("room");
    let head = DeviceHead::upload(&gpu, &head).expect("room");
    let error = head.score(&other, Math::F32).expect_err("another stream");
    assert!(matches!(error, Error::OtherGpu), "{error}");
    let same = DeviceBank::upload(&gpu.clone(), &bank).expect("room");
    assert!(head.score(&same, Math::F32).is_ok());
}

#[test]
fn scores_have_the_precision_that_is_asked_for() {
    let Some(gpu) = gpu() else { return };
    let bank = bank(9);
    let on_device = DeviceBank::upload(&gpu, &bank).expect("room");
    let rows: Vec<f32> = (0..bank.images())
        .flat_map(|image| bank.image(image).to_vec())
        .collect();
    let head = new_head(Adaptor::Linear { bias: true }, &bank, true);
    let expected = head.score(&rows).expect("scores");
    let device_head = DeviceHead::upload(&gpu, &head).expect("room");
    let distance_in = |math| distance(&device_head.score(&on_device, math).expect("scores"), &expected);
    let (f32, tf32) = (distance_in(Math::F32), distance_in(Math::Tf32));
    assert!(
        f32 < 1e-5 && (2e-5..5e-3).contains(&tf32),
        "{f32:e} in f32, {tf32:e} in TF32"
    );
}

#[test]
fn the_same_seed_makes_the_same_bytes() {
    let Some(gpu) = gpu() else { return };
    let bank = bank(2);
    let on_device = DeviceBank::upload(&gpu, &bank).expect("room");
    for products in [Products::F32, Products::Tf32, Products::Bf16] {
        let run = || {
            let mut head = new_head(Adaptor::Linear { bias: false }, &bank, true);
            train_on(
                &mut head,
                &on_device,
                &config(TRUNCATED),
                products,
                9,
                go_on(&mut Vec::new()),
            )
            .expect("training");
            head
        };
        assert_eq!(run(), run(), "{products:?}");
    }
}

#[test]
fn rounded_products_learn_the_same() {
    let Some(gpu) = gpu() else { return };
    let bank = bank(3);
    let on_device = DeviceBank::upload(&gpu, &bank).expect("room");
    for adaptor in [Adaptor::None, Adaptor::Linear { bias: true }, Adaptor::Mlp] {
        let losses = |products| {
            let mut reports = Vec::new();
            let mut head = new_head(adaptor, &bank, true);
            train_on(
                &mut head,
                &on_device,
                &config(TRUNCATED),
                products,
                4,
                go_on(&mut reports),
            )
            .expect("training");
            reports.into_iter().map(|report| report.loss).collect::<Vec<_>>()
        };
        let expected = losses(Products::F32);
        for (products, tolerance) in [(Products::Tf32, 5e-3), (Products::Bf16, 3e-2)] {
            for (found, expected) in losses(products).into_iter().zip(&expected) {
                assert!(
                    (found - expected).abs() < tolerance * expected.abs().max(1.0),
                    "{adaptor:?} {products:?}: loss {found}, in f32 {expected}"
                );
            }
        }
    }
}

#[test]
fn a_bank_on_the_device_has_the_moments_of_the_bank() {
    let Some(gpu) = gpu() else { return };
    let bank = bank(4);
    let on_device = DeviceBank::upload(&gpu, &bank).expect("room");
    let (expected, found) = (Standardizer::fit(&bank), on_device.standardizer().expect("moments"));
    assert!(distance(found.mean(), expected.mean()) < 1e-6);
    assert!(distance(found.scale(), expected.scale()) < 1e-6);
    assert_eq!(on_device.image(6).expect("an image"), bank.image(6));
    on_device.check_finite().expect("finite features");
}

#[test]
fn a_feature_that_is_not_a_number_is_named() {
    let Some(gpu) = gpu() else { return };
    let on_device = DeviceBank::upload(&gpu, &bank(5)).expect("room");
    gpu.write(on_device.slot(3, 1).range(2 * DIM + 7..2 * DIM + 8), &[f32::NAN])
        .expect("a write");
    let error = on_device.check_finite().expect_err("NaN");
    assert!(
        matches!(
            error,
            Error::FeatureNotFinite {
                image: 3,
                row: 2,
                channel: 7,
                ..
            }
        ),
        "{error}"
    );
}
