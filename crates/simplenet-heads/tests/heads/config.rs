//! Configurations as files write them, and what is refused.

use serde_json::{from_value, json, to_value};
use simplenet_heads::{Adaptor, Error, Head, HeadConfig, Loss, Precision, Rule, Step, TrainConfig};

use crate::support::{TRUNCATED, authors};

#[test]
fn configurations_read_as_they_are_written() {
    let written = json!({
        "epochs": 160,
        "batch-images": 4,
        "noise": 0.015,
        "loss": { "truncated-l1": { "positive-margin": 0.5, "negative-margin": -0.5 } },
        "adaptor-optimizer": { "rule": "adamw", "learning-rate": 1e-4, "weight-decay": 0.01 },
        "discriminator-optimizer": { "rule": "adam", "learning-rate": 2e-4, "weight-decay": 1e-5 },
    });
    let config: TrainConfig = from_value(written.clone()).expect("a configuration");
    assert_eq!(
        config,
        TrainConfig {
            epochs: 160,
            batch_images: 4,
            noise: 0.015,
            ..authors(TRUNCATED, 1.0)
        }
    );
    assert_eq!(config.adaptor_optimizer.rule, Rule::AdamW);
    assert_eq!(to_value(config).expect("json"), written);
    let mut in_bf16 = written.clone();
    in_bf16["precision"] = json!("bf16");
    let config: TrainConfig = from_value(in_bf16.clone()).expect("a configuration");
    assert_eq!(config.precision, Precision::Bf16);
    assert_eq!(to_value(config).expect("json"), in_bf16);
    in_bf16["precision"] = json!("f32");
    let config: TrainConfig = from_value(in_bf16).expect("a configuration");
    assert_eq!(
        to_value(config).expect("json"),
        written,
        "f32 is what is meant without it"
    );
    assert_eq!(
        from_value::<Loss>(json!("cross-entropy")).expect("a loss"),
        Loss::CrossEntropy
    );
    for (written, adaptor) in [
        (json!("none"), Adaptor::None),
        (json!({ "linear": { "bias": true } }), Adaptor::Linear { bias: true }),
        (json!("mlp"), Adaptor::Mlp),
    ] {
        let head: HeadConfig =
            from_value(json!({ "dim": 3, "hidden": 4, "adaptor": written })).expect("a configuration");
        assert_eq!(
            head,
            HeadConfig {
                dim: 3,
                hidden: 4,
                adaptor
            }
        );
    }
}

#[test]
fn a_misspelt_key_is_refused() {
    let written = json!({ "dim": 3, "hiden": 4, "adaptor": "none" });
    let error = from_value::<HeadConfig>(written).expect_err("hiden").to_string();
    assert!(error.contains("unknown field `hiden`"), "{error}");
    let written = json!({ "truncated-l1": { "positive-margin": 0.5, "negative-margin": -0.5, "margin": 1.0 } });
    assert!(from_value::<Loss>(written).is_err());
    assert!(
        from_value::<Adaptor>(json!({ "linear": {} })).is_err(),
        "whether there is a bias must be said"
    );
}

#[test]
fn numbers_that_cannot_train_are_refused() {
    let good = authors(TRUNCATED, 1.0);
    assert!(good.check().is_ok());
    let overlapping = Loss::TruncatedL1 {
        positive_margin: -0.5,
        negative_margin: 0.5,
    };
    let mut rate = good;
    rate.adaptor_optimizer.learning_rate = f64::NAN;
    let mut decay = good;
    decay.discriminator_optimizer.weight_decay = -1e-5;
    let cases = [
        (
            TrainConfig { epochs: 0, ..good },
            "`epochs` is 0, but it must be at least 1",
        ),
        (
            TrainConfig {
                batch_images: 0,
                ..good
            },
            "`batch-images` is 0, but it must be at least 1",
        ),
        (
            TrainConfig { noise: -0.1, ..good },
            "`noise` is -0.1, but it must be a positive number",
        ),
        (
            TrainConfig {
                noise: f64::INFINITY,
                ..good
            },
            "`noise` is inf, but it must be a positive number",
        ),
        (
            TrainConfig {
                loss: overlapping,
                ..good
            },
            "`negative-margin` is 0.5, but it must be a number below positive-margin",
        ),
        (
            rate,
            "`adaptor-optimizer.learning-rate` is NaN, but it must be a positive number",
        ),
        (
            decay,
            "`discriminator-optimizer.weight-decay` is -0.00001, but it must be zero or a positive number",
        ),
    ];
    for (config, expected) in cases {
        assert_eq!(config.check().expect_err(expected).to_string(), expected);
    }
    let flat = HeadConfig {
        dim: 4,
        hidden: 0,
        adaptor: Adaptor::None,
    };
    assert!(matches!(Head::<f32>::new(flat, 0), Err(Error::Config { .. })));
}

#[test]
fn a_step_refuses_what_it_was_not_made_for() {
    let shape = HeadConfig {
        dim: 4,
        hidden: 6,
        adaptor: Adaptor::None,
    };
    let mut head = Head::<f32>::new(shape, 0).expect("a head");
    let mut step = Step::new(&shape, &authors(TRUNCATED, 1.0), 5).expect("a step");
    for (features, noise) in [(0, 0), (7, 7), (24, 24), (8, 12)] {
        let error = step.run(&mut head, &vec![0.0; features], &vec![0.0; noise]);
        assert!(
            matches!(error, Err(Error::Shape { .. })),
            "{features} features, {noise} noise"
        );
    }
    let mut other = Head::<f32>::new(HeadConfig { hidden: 7, ..shape }, 0).expect("a head");
    assert!(step.run(&mut other, &[0.0; 8], &[0.0; 8]).is_err());
    assert!(Step::<f32>::new(&shape, &authors(TRUNCATED, 1.0), 0).is_err());
    let error = head.score(&[1.0; 7]).expect_err("no whole rows").to_string();
    assert_eq!(
        error,
        "rows has 7 values, expected a multiple of 4, the number of channels"
    );
    assert!(matches!(
        head.score(&[0.0, 0.0, 0.0, 0.0, 1.0, f32::NAN, 0.0, 0.0]),
        Err(Error::ScoreNotFinite { row: 1 })
    ));
    assert!(head.score(&[]).expect("nothing to score").is_empty());
}
