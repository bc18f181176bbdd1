//! `simplenet bench`

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;
use simplenet::open_upright;

use crate::Outcome;
use crate::arguments::Bench;
use crate::output::Output;
use crate::predict::{BATCH, judge};

/// Rounds before measuring: caches, memory, the processor's clock.
const WARM_UP: usize = 3;

#[derive(Debug, Serialize)]
struct Report {
    image: String,
    threads: usize,
    /// From the start of loading to the first verdict.
    load_and_first_verdict_ms: f64,
    /// One image at a time, from the file to the verdict.
    latency: Latency,
    /// Batches of [`BATCH`] files.
    images_per_second: f64,
    /// The most memory that the program had so far, in MB; absent where the system does not tell.
    peak_memory_mb: Option<f64>,
    parts: Vec<Part>,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Latency {
    rounds: usize,
    p50_ms: f64,
    p99_ms: f64,
}

/// A part of the way of one image.
#[derive(Debug, Serialize)]
struct Part {
    name: &'static str,
    #[serde(flatten)]
    latency: Latency,
}

pub(crate) fn run(arguments: &Bench, output: &Output) -> Result<Outcome> {
    let positive = arguments.seconds > 0.0 && arguments.seconds.is_finite();
    if !positive {
        bail!("`--seconds` is {}; it is a time above 0", arguments.seconds);
    }
    if arguments.image.is_dir() {
        bail!(
            "{} is a folder\n\nhint: name one picture of it",
            arguments.image.display()
        );
    }
    let start = Instant::now();
    let detector = arguments.model.load()?;
    let image = open_upright(&arguments.image)?;
    detector.predict(&image)?;
    let load = start.elapsed();

    let each = Duration::from_secs_f64(arguments.seconds / 6.0);
    let latency = measure(each, || Ok(detector.predict_file(&arguments.image)?))?;
    let (pipeline, model) = (detector.pipeline(), detector.model());
    let input = detector.prepare(&image)?;
    let seen = pipeline.features_for(model, &input)?;
    let whole = measure(each, || Ok(detector.predict(&image)?))?;
    let resize = measure(each, || Ok(detector.prepare(&image)?))?;
    let features = measure(each, || Ok(pipeline.features_for(model, &input)?))?;
    let head = measure(each, || Ok(pipeline.score(model, &seen)?))?;
    let rest = whole.p50_ms - resize.p50_ms - features.p50_ms - head.p50_ms;
    let parts = vec![
        Part {
            name: "decode",
            latency: measure(each, || Ok(open_upright(&arguments.image)?))?,
        },
        Part {
            name: "resize",
            latency: resize,
        },
        Part {
            name: "backbone",
            latency: features,
        },
        Part {
            name: "model",
            latency: head,
        },
    ];
    let batch = [arguments.image.as_path(); BATCH];
    let throughput = measure(each, || {
        for judged in judge(&detector, &batch) {
            judged.prediction?;
        }
        Ok(())
    })?;
    let report = Report {
        image: format!("{} x {}", image.width(), image.height()),
        threads: rayon::current_num_threads(),
        load_and_first_verdict_ms: milliseconds(load),
        latency,
        images_per_second: BATCH as f64 / throughput.p50_ms * 1e3,
        peak_memory_mb: peak_memory_mb(),
        parts,
    };
    output.either(&report, || report.to_text(rest))?;
    Ok(Outcome::default())
}

fn measure<T>(time: Duration, mut work: impl FnMut() -> Result<T>) -> Result<Latency> {
    for _ in 0..WARM_UP {
        work()?;
    }
    let start = Instant::now();
    let mut rounds = Vec::new();
    while start.elapsed() < time || rounds.is_empty() {
        let start = Instant::now();
        black_box(work()?);
        rounds.push(milliseconds(start.elapsed()));
    }
    rounds.sort_by(f64::total_cmp);
    let last = rounds.len() - 1;
    Ok(Latency {
        rounds: rounds.len(),
        p50_ms: rounds[last / 2],
        p99_ms: rounds[(last * 99).div_ceil(100)],
    })
}

/// Linux writes it in kB.
fn peak_memory_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024.0 / 1e6)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Report {
    fn to_text(&self, rest: f64) -> String {
        let mut lines = vec![
            format!("image           {}, {} threads", self.image, self.threads),
            format!("load and judge  {:8.1} ms", self.load_and_first_verdict_ms),
            format!(
                "latency         {:8.1} ms p50, {:.1} ms p99 of {} rounds",
                self.latency.p50_ms, self.latency.p99_ms, self.latency.rounds
            ),
            format!("throughput      {:8.1} images/s", self.images_per_second),
        ];
        if let Some(megabytes) = self.peak_memory_mb {
            lines.push(format!("memory          {megabytes:8.1} MB at most"));
        }
        for part in &self.parts {
            let Latency { p50_ms, p99_ms, .. } = part.latency;
            lines.push(format!("  {:<14}{p50_ms:8.1} ms p50, {p99_ms:.1} ms p99", part.name));
        }
        lines.push(format!("  {:<14}{rest:8.1} ms p50", "map, verdict"));
        lines.join("\n")
    }
}
