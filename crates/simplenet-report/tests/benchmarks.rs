//! The CSV file of timings: round trip, replacement, refusals, and the table.

use simplenet_report::{Benchmark, benchmark_table, benchmarks};

fn timing(engine: &str, precision: &str, batch: u32, p50_ms: f64) -> Benchmark {
    Benchmark {
        subject: "backbone".into(),
        model: "resnet18 to layer3".into(),
        weights: "random".into(),
        engine: engine.into(),
        isa: String::new(),
        precision: precision.into(),
        device: "a processor".into(),
        threads: 2,
        batch,
        rounds: 9,
        p50_ms,
        p99_ms: 2.0 * p50_ms,
        best_ms: 0.5 * p50_ms,
        gflop: Some(3.0),
        peak_gflops: Some(150.0),
        difference: None,
        commit: "0123abc".into(),
    }
}

#[test]
fn a_timing_that_is_repeated_takes_the_place_of_the_old_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("cpu.csv");
    assert_eq!(benchmarks::read_or_empty(&path).expect("nothing there"), []);
    let old = [timing("own", "f32", 1, 40.0), timing("rival", "f32", 1, 50.0)];
    benchmarks::replace(&path, &old).expect("written");
    let other_device = Benchmark {
        device: "another".into(),
        ..timing("own", "f32", 1, 4.0)
    };
    let new = [timing("own", "f32", 1, 30.0), other_device.clone()];
    benchmarks::replace(&path, &new).expect("written");
    let all = benchmarks::read_or_empty(&path).expect("readable");
    assert_eq!(all, [new[0].clone(), old[1].clone(), other_device]);
    assert_eq!(all[0].images_per_second(), 1000.0 / 30.0);
    // 3 GFLOP in 30 ms are 100 GFLOP/s of 150.
    assert!((all[0].share_of_peak().expect("a peak") - 2.0 / 3.0).abs() < 1e-12);
}

#[test]
fn what_could_not_be_read_is_not_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("cpu.csv");
    for wrong in [
        timing("", "f32", 1, 40.0),
        timing("own", "f32", 1, 0.0),
        timing("own", "f32", 1, f64::NAN),
    ] {
        assert!(benchmarks::replace(&path, &[wrong]).is_err());
    }
    assert!(!path.exists());
    std::fs::write(&path, "subject,model\n").expect("written");
    assert!(benchmarks::read_or_empty(&path).is_err());
}

#[test]
fn the_table_compares_with_rivals_in_the_same_circumstances_only() {
    let rows = [
        timing("own", "bf16", 8, 160.0),
        timing("own", "f32", 1, 30.0),
        timing("rival", "f32", 1, 50.0),
        timing("rival", "bf16", 1, 25.0),
    ];
    let text = benchmark_table(&rows, "own").to_text();
    let line = |engine: &str, precision: &str| {
        let found = text.lines().find(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(engine) && words.next() == Some(precision)
        });
        found
            .unwrap_or_else(|| panic!("no {engine} {precision} in\n{text}"))
            .to_string()
    };
    assert!(text.contains("[backbone: resnet18 to layer3 (random)]"), "{text}");
    assert!(line("own", "bf16").contains("20.0"), "{text}");
    assert!(line("rival", "f32").ends_with("0.60"), "{text}");
    assert!(!line("rival", "bf16").contains("0.60"), "{text}");
    assert!(line("own", "f32").contains("67 %"), "{text}");
}
