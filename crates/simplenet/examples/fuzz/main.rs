//! Fuzzes what reads foreign bytes: the detector file, image files, data set folders.
//!
//!     cargo run -p simplenet --example fuzz -- model|image|dataset SEED SECONDS [FIRST_ROUND]
//!
//! Every round is a function of seed and round alone. A panic names both and leaves the program with code 1; so does memory
//! that passes a limit set from outside (`ulimit -v`). The last line says how many rounds there were, how many inputs were
//! taken for good, and the largest memory.
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a command for developers")]

mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::targets::{Fuzzer, Target};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (target, seed, seconds, first) = match &arguments[..] {
        [target, seed, seconds] => (target, seed, seconds, "0"),
        [target, seed, seconds, first] => (target, seed, seconds, first.as_str()),
        _ => bail!("usage: fuzz model|image|dataset SEED SECONDS [FIRST_ROUND]"),
    };
    let target = match target.as_str() {
        "model" => Target::Model,
        "image" => Target::Image,
        "dataset" => Target::Dataset,
        other => bail!("`{other}` is none of model, image, dataset"),
    };
    let seed: u64 = seed.parse().context("SEED is a number")?;
    let seconds: f64 = seconds.parse().context("SECONDS is a number")?;
    let limit = Duration::try_from_secs_f64(seconds).context("SECONDS is a time")?;
    let fuzzer = Fuzzer::new(target)?;
    let (start, mut slowest) = (Instant::now(), (Duration::ZERO, 0));
    let first: u64 = first.parse().context("FIRST_ROUND is a number")?;
    let (mut rounds, mut taken) = (first, 0_u64);
    while start.elapsed() < limit {
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| fuzzer.round(seed, rounds)));
        match outcome {
            Ok(outcome) => taken += u64::from(outcome?),
            Err(_) => {
                eprintln!("{target:?} panics at seed {seed}, round {rounds}");
                std::process::exit(1);
            }
        }
        slowest = slowest.max((began.elapsed(), rounds));
        rounds += 1;
    }
    println!(
        "{target:?}: {} rounds, {taken} taken for good, slowest {:.1} s (round {}), {}",
        rounds - first,
        slowest.0.as_secs_f64(),
        slowest.1,
        peak_memory()
    );
    Ok(())
}

/// The largest resident and virtual size so far, where the system tells.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status
        .lines()
        .filter(|line| line.starts_with("VmHWM") || line.starts_with("VmPeak"));
    lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}
