//! The training loop: that it learns, that it repeats, that it stops.

use std::ops::ControlFlow;

use simplenet_heads::{
    Adaptor, BankBuilder, EpochReport, Error, Head, Loss, Precision, Rule, Standardizer, TrainConfig, train,
};

use crate::support::{ADAPTORS, TRUNCATED, authors, bank_of, floats, head, optimizer};

fn config(loss: Loss) -> TrainConfig {
    let mut config = authors(loss, 10.0);
    config.adaptor_optimizer = optimizer(Rule::Adam, 1e-4, 1e-5);
    config
}

fn trained(adaptor: Adaptor, config: &TrainConfig, seed: u64, threads: usize) -> Vec<u8> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("threads");
    pool.install(|| {
        // 5 images in batches of 2: the last batch has one. 131 rows fill two chunks of 64 and a rest.
        let bank = bank_of(5, 131, 19, 1.0, 1);
        let mut head = head::<f32>(19, 45, adaptor, seed);
        head.set_standardizer(Standardizer::fit(&bank))
            .expect("nineteen channels");
        train(&mut head, &bank, config, seed, |_, _| {
            Ok::<_, Error>(ControlFlow::Continue(()))
        })
        .expect("trained");
        head.to_safetensors().expect("bytes")
    })
}

#[test]
fn the_same_seed_makes_the_same_bytes_with_any_number_of_threads() {
    for (adaptor, precision) in ADAPTORS
        .into_iter()
        .flat_map(|a| [(a, Precision::F32), (a, Precision::Bf16)])
    {
        let config = TrainConfig {
            precision,
            ..config(TRUNCATED)
        };
        let one = trained(adaptor, &config, 7, 1);
        for threads in [2, 3] {
            assert!(
                one == trained(adaptor, &config, 7, threads),
                "{adaptor:?} {precision:?}: {threads} threads make other bytes"
            );
        }
        assert!(
            one != trained(adaptor, &config, 8, 1),
            "{adaptor:?} {precision:?}: the seed changes nothing"
        );
    }
}

/// Chance that an anomalous row scores above a normal one.
fn separation(normal: &[f32], anomalous: &[f32]) -> f64 {
    let above = normal
        .iter()
        .flat_map(|n| anomalous.iter().map(move |a| f64::from(u8::from(a > n))));
    above.sum::<f64>() / (normal.len() * anomalous.len()) as f64
}

/// Normal features lie near a plane: channels 8..16 repeat channels 0..8. Anomalous ones leave it.
#[test]
fn it_learns_to_tell_features_that_leave_the_normal_ones() {
    let near_the_plane = |rows: usize, seed: u64| -> Vec<f32> {
        let (free, small) = (floats(rows * 8, seed), floats(rows * 16, seed + 1));
        let rows = free.chunks_exact(8).zip(small.chunks_exact(16));
        rows.flat_map(|(free, small)| (0..16).map(move |c| free[c % 8] + 0.02 * small[c]))
            .collect()
    };
    let mut builder = BankBuilder::new(16, 50, 1 << 20, &std::env::temp_dir()).expect("a builder");
    builder.push(&near_the_plane(8 * 50, 1)).expect("rows");
    let bank = builder.finish().expect("a bank");
    let normal = near_the_plane(100, 100);
    let mut anomalous = near_the_plane(100, 200);
    anomalous.chunks_exact_mut(16).for_each(|row| row[3] += 2.0);
    for adaptor in ADAPTORS {
        for loss in [TRUNCATED, Loss::CrossEntropy] {
            let config = TrainConfig {
                epochs: 100,
                noise: 0.3,
                ..config(loss)
            };
            let mut head = head::<f32>(16, 64, adaptor, 3);
            let measure = |head: &Head| {
                separation(
                    &head.score(&normal).expect("scores"),
                    &head.score(&anomalous).expect("scores"),
                )
            };
            let mut reports: Vec<EpochReport> = Vec::new();
            let outcome = train(&mut head, &bank, &config, 5, |report, _| {
                reports.push(*report);
                Ok::<_, Error>(ControlFlow::Continue(()))
            });
            outcome.expect("trained");
            let after = measure(&head);
            assert!(
                after > 0.9,
                "{adaptor:?} {loss:?}: anomalous above normal with chance {after}"
            );
            let (first, last) = (reports[0], reports[99]);
            assert!(
                last.loss < first.loss && last.mean_normal > last.mean_noised,
                "{first:?} {last:?}"
            );
            assert!(
                last.normal_past_margin > 0.5 && last.noised_past_margin > 0.5,
                "{last:?}"
            );
            assert_eq!((last.epoch, last.steps), (100, 400));
        }
    }
}

#[test]
fn it_stops_when_told_and_passes_errors_on() {
    let bank = bank_of(3, 4, 6, 1.0, 1);
    let config = TrainConfig {
        epochs: 50,
        ..config(TRUNCATED)
    };
    let mut epochs = Vec::new();
    let mut stopped = head::<f32>(6, 8, Adaptor::None, 1);
    let outcome = train(&mut stopped, &bank, &config, 1, |report, head| {
        epochs.push((report.epoch, report.steps));
        assert!(head.score(bank.image(0)).is_ok());
        Ok::<_, Error>(if report.epoch == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    });
    outcome.expect("stopped is not failed");
    assert_eq!(epochs, [(1, 2), (2, 4)]);

    let mut short = head::<f32>(6, 8, Adaptor::None, 1);
    let two = TrainConfig { epochs: 2, ..config };
    train(&mut short, &bank, &two, 1, |_, _| {
        Ok::<_, Error>(ControlFlow::Continue(()))
    })
    .expect("trained");
    assert_eq!(stopped, short, "stopping after two epochs is training for two");

    let outcome = train(&mut short, &bank, &two, 1, |_, _| {
        Err::<ControlFlow<()>, _>(Error::EmptyBank)
    });
    assert!(matches!(outcome, Err(Error::EmptyBank)));
}

#[test]
fn a_diverging_training_is_an_error() {
    let mut builder = BankBuilder::new(6, 4, 1 << 20, &std::env::temp_dir()).expect("a builder");
    builder
        .push(&floats(72, 1).iter().map(|x| 1e30 * x).collect::<Vec<f32>>())
        .expect("rows");
    let bank = builder.finish().expect("a bank");
    let mut head = head::<f32>(6, 8, Adaptor::Linear { bias: false }, 1);
    let outcome = train(&mut head, &bank, &config(TRUNCATED), 1, |_, _| {
        Ok::<_, Error>(ControlFlow::Continue(()))
    });
    let error = outcome.expect_err("features of 1e30").to_string();
    assert!(
        error.starts_with("the loss became NaN in epoch 1, step 0\n\nhint: "),
        "{error}"
    );
}

#[test]
fn a_bank_of_other_channels_is_refused() {
    let mut head = head::<f32>(7, 8, Adaptor::None, 1);
    let bank = bank_of(3, 4, 6, 1.0, 1);
    let outcome = train(&mut head, &bank, &config(TRUNCATED), 1, |_, _| {
        Ok::<_, Error>(ControlFlow::Continue(()))
    });
    let error = outcome.expect_err("six channels").to_string();
    assert_eq!(error, "the head has 7 channels, but the feature bank has 6 channels");
}
