//! Banks in memory and in a file, and standardisation over them.

use std::path::Path;

use simplenet_heads::{Bank, BankBuilder, Error, Head, HeadConfig, Standardizer};

use crate::support::{ADAPTORS, bank_of, floats, largest_difference};

fn built(budget: u64) -> Bank {
    let mut builder = BankBuilder::new(5, 7, budget, &std::env::temp_dir()).expect("a builder");
    for batch in [2, 1, 3] {
        builder.push(&floats(batch * 35, batch as u64)).expect("rows");
    }
    builder.finish().expect("a bank")
}

#[test]
fn a_spilled_bank_is_the_bank_in_memory() {
    let expected: Vec<f32> = [2, 1, 3]
        .into_iter()
        .flat_map(|batch| floats(batch * 35, batch as u64))
        .collect();
    // Everything in memory; the first images in memory and then moved; everything in the file.
    for (budget, spilled) in [(6 * 140, false), (3 * 140, true), (0, true)] {
        let bank = built(budget);
        assert_eq!(
            (bank.images(), bank.rows_per_image(), bank.dim(), bank.rows()),
            (6, 7, 5, 42)
        );
        assert_eq!(bank.is_spilled(), spilled);
        let found: Vec<f32> = (0..6).flat_map(|image| bank.image(image).to_vec()).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_sample_has_rows_of_every_image_and_of_every_place() {
    let (images, places, count) = (200, 9, 4);
    let mut builder = BankBuilder::new(2, places, 1 << 20, &std::env::temp_dir()).expect("a builder");
    // A row says of which image and which place it is.
    for image in 0..images {
        let rows: Vec<f32> = (0..places).flat_map(|place| [image as f32, place as f32]).collect();
        builder.push(&rows).expect("rows");
    }
    let bank = builder.finish().expect("a bank");
    let sample = |seed, budget| {
        bank.sample(count, seed, budget, &std::env::temp_dir())
            .expect("a sample")
    };
    let rows = |bank: &Bank| -> Vec<Vec<f32>> { (0..bank.images()).map(|image| bank.image(image).to_vec()).collect() };

    let sampled = sample(3, 1 << 20);
    assert_eq!((sampled.images(), sampled.rows_per_image()), (images, count));
    let mut at_place = [0_usize; 9];
    for (image, rows) in rows(&sampled).iter().enumerate() {
        assert!(rows.iter().step_by(2).all(|&of| of == image as f32));
        let chosen: Vec<usize> = rows.iter().skip(1).step_by(2).map(|&place| place as usize).collect();
        assert!(chosen.is_sorted_by(|a, b| a < b), "{chosen:?}");
        chosen.iter().for_each(|&place| at_place[place] += 1);
    }
    // 200 · 4/9 = 89 of each, with a standard deviation of 7.
    assert!(at_place.iter().all(|count| (54..124).contains(count)), "{at_place:?}");

    assert_eq!(rows(&sample(3, 0)), rows(&sampled), "in a file");
    assert_ne!(rows(&sample(4, 1 << 20)), rows(&sampled), "another seed");
    let all = bank
        .sample(places + 1, 0, 1 << 20, &std::env::temp_dir())
        .expect("all rows");
    assert_eq!(rows(&all), rows(&bank));
}

#[test]
fn a_spilled_bank_leaves_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut builder = BankBuilder::new(4, 3, 0, folder.path()).expect("a builder");
    builder.push(&floats(120, 1)).expect("rows");
    let bank = builder.finish().expect("a bank");
    assert!(bank.is_spilled());
    drop(bank);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn a_feature_that_is_no_number_names_its_image() {
    let mut builder = BankBuilder::new(5, 7, 1 << 20, &std::env::temp_dir()).expect("a builder");
    builder.push(&floats(2 * 35, 1)).expect("rows");
    for (value, at) in [(f32::NAN, 35 + 3 * 5 + 4), (f32::NEG_INFINITY, 35 + 3 * 5 + 4)] {
        let mut rows = floats(3 * 35, 2);
        rows[at] = value;
        let error = builder.push(&rows).expect_err("no number");
        assert!(
            matches!(
                error,
                Error::FeatureNotFinite {
                    image: 3,
                    row: 3,
                    channel: 4,
                    ..
                }
            ),
            "{error}"
        );
    }
    assert_eq!(
        builder.finish().expect("a bank").images(),
        2,
        "refused rows are not in the bank"
    );
}

#[test]
fn what_is_no_bank_is_refused() {
    let temporary = std::env::temp_dir();
    let mut builder = BankBuilder::new(5, 7, 1 << 20, &temporary).expect("a builder");
    let error = builder.push(&[0.0; 34]).expect_err("half a row");
    assert_eq!(
        error.to_string(),
        "rows has 34 values, expected a multiple of 35 (images of 7 rows of 5 channels)"
    );
    assert!(matches!(builder.finish(), Err(Error::EmptyBank)));
    assert!(matches!(
        BankBuilder::new(0, 7, 0, &temporary),
        Err(Error::Config { .. })
    ));

    let nowhere = Path::new("/nowhere/at/all");
    let mut builder = BankBuilder::new(5, 7, 100, nowhere).expect("a builder");
    let error = builder.push(&[0.0; 35]).expect_err("no such folder");
    assert!(
        error
            .to_string()
            .starts_with("cannot keep 140 bytes of features in /nowhere/at/all\n\nhint: "),
        "{error}"
    );
}

/// Runs itself again where a file has at most 8192 bytes, which is what a full disk looks like.
#[cfg(unix)]
#[test]
fn a_bank_that_finds_no_room_is_what_it_was() {
    const LIMITED: &str = "SIMPLENET_TEST_FILES_ARE_LIMITED";
    if std::env::var_os(LIMITED).is_none() {
        let test = std::env::current_exe().expect("this program");
        let out = std::process::Command::new("sh")
            .args([
                "-c",
                "ulimit -f 16 && trap '' XFSZ && exec \"$0\" --exact bank::a_bank_that_finds_no_room_is_what_it_was",
            ])
            .arg(test)
            .env(LIMITED, "1")
            .output()
            .expect("a shell");
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    // Images of 4096 bytes. Two fit into the file, and a third does not; three do not, and stay in memory.
    for (kept, spilled) in [(2, true), (3, false)] {
        let budget = kept * 4096;
        let mut builder = BankBuilder::new(64, 16, budget, &std::env::temp_dir()).expect("a builder");
        for image in 0..kept {
            builder.push(&floats(1024, image)).expect("rows");
        }
        for _ in 0..2 {
            let error = builder.push(&floats(1024, 9)).expect_err("no room");
            assert!(matches!(error, Error::Spill { .. }), "{error}");
        }
        let bank = builder.finish().expect("a bank");
        assert_eq!((bank.images() as u64, bank.is_spilled()), (kept, spilled));
        for image in 0..kept {
            assert_eq!(bank.image(image as usize), floats(1024, image));
        }
    }
}

/// What a full disk is called.
#[test]
fn a_full_disk_says_so() {
    let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let error = Error::Spill {
        dir: "/tmp".into(),
        bytes: 9,
        source,
    };
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(
        error.to_string().contains("free disk space") && cause.contains("no storage space"),
        "{cause}"
    );
}

#[test]
fn standardised_channels_have_mean_0_and_deviation_1() {
    let (images, rows, dim) = (11, 13, 6);
    let mut values = floats(images * rows * dim, 3);
    for row in values.chunks_exact_mut(dim) {
        row[1] = 1000.0 + 0.01 * row[1];
        row[2] *= 1e-12;
        row[3] = 7.25;
        row[4] = 0.0;
        row[5] = 1e12;
    }
    let mut builder = BankBuilder::new(dim, rows, 1 << 20, &std::env::temp_dir()).expect("a builder");
    builder.push(&values).expect("rows");
    let standardizer = Standardizer::fit(&builder.finish().expect("a bank"));
    let mut applied: Vec<f64> = values.iter().copied().map(f64::from).collect();
    standardizer.apply(&mut applied).expect("whole rows");
    for channel in 0..dim {
        let column: Vec<f64> = applied.iter().copied().skip(channel).step_by(dim).collect();
        let mean = column.iter().sum::<f64>() / column.len() as f64;
        let deviation = (column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / column.len() as f64).sqrt();
        let constant = channel >= 3;
        // 1000 ± 0.006 in f32 has a mean that is known to 6e-5, a hundredth of the deviation.
        assert!(mean.abs() < 0.02, "channel {channel}: mean {mean}");
        assert!(
            (deviation - if constant { 0.0 } else { 1.0 }).abs() < 1e-3,
            "channel {channel}: {deviation}"
        );
    }
    assert!(
        standardizer
            .scale()
            .iter()
            .all(|scale| scale.is_finite() && *scale > 0.0)
    );
    assert!(matches!(
        standardizer.apply(&mut [0.0_f32; 5]),
        Err(Error::Shape { .. })
    ));
}

#[test]
fn a_head_that_standardises_scores_raw_features() {
    let bank = bank_of(3, 10, 6, 40.0, 1);
    let standardizer = Standardizer::fit(&bank);
    for adaptor in ADAPTORS {
        let plain = Head::<f64>::new(
            HeadConfig {
                dim: 6,
                hidden: 9,
                adaptor,
            },
            2,
        )
        .expect("a head");
        let mut standardising = plain.clone();
        standardising
            .set_standardizer(standardizer.clone())
            .expect("six channels");
        let raw: Vec<f64> = bank.image(1).iter().copied().map(f64::from).collect();
        let mut standardised = raw.clone();
        standardizer.apply(&mut standardised).expect("whole rows");
        let found = standardising.score(&raw).expect("scores");
        assert!(largest_difference(&found, &plain.score(&standardised).expect("scores")) < 1e-10);
        let found = standardising.adapt(&raw).expect("features");
        assert!(largest_difference(&found, &plain.adapt(&standardised).expect("features")) < 1e-10);
    }
    let mut other = Head::<f32>::new(
        HeadConfig {
            dim: 5,
            hidden: 9,
            adaptor: ADAPTORS[0],
        },
        2,
    )
    .expect("a head");
    let error = other.set_standardizer(standardizer).expect_err("five channels");
    assert_eq!(
        error.to_string(),
        "the head has 5 channels, but the standardisation has 6 channels"
    );
}
