//! A whole category of MVTec AD's size: files to metrics, as `reproduce` runs it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use simplenet::config::Config;
use simplenet::device::Device;
use simplenet::{BankMemory, Evaluation, Pipeline, Truth};
use simplenet_backbone::{Arch, Precision};
use simplenet_data::{Dataset, mvtec};
use simplenet_heads::Head;
use simplenet_metrics::image_metrics;
use simplenet_report::Benchmark;

use super::features::network;
use super::procedural::Drawing;
use super::run::Bench;
use crate::bench::measure::Timing;
use crate::experiment::{Library, Protocol};

/// As many images as MVTec AD's bottle has.
const DRAWING: Drawing = Drawing {
    name: "weave",
    side: 256,
    counts: [209, 20, 63],
};

/// What the work on a category falls into. Training includes its scoring of the test set.
const PARTS: [&str; 3] = ["extraction", "training", "metrics"];

pub(super) fn run(bench: &mut Bench, data: Option<&Path>, category: &str, given: &[(Arch, PathBuf)]) -> Result<()> {
    let (dataset, what) = match data {
        Some(data) => (mvtec::load(data, category)?, format!("{category} of MVTec AD")),
        None => (DRAWING.load(&bench.cache)?, "procedural, 256 px".into()),
    };
    let (weights, backbone) = network(bench, Arch::WideResNet50_2, given)?;
    let images = [dataset.train.len(), dataset.test.len()];
    for (precision, name) in [(Precision::Bf16, "bf16"), (Precision::F32, "f32")] {
        let config = paper(precision)?;
        let times = category_once(bench, &config, &dataset, &backbone)?;
        let epochs = config.train.epochs;
        let row = Benchmark {
            model: format!("{what}, {}+{} images, {epochs} epochs", images[0], images[1]),
            weights: weights.clone(),
            ..bench.row("category", name, images[0] + images[1])
        };
        bench.push(rows(&row, times))?;
    }
    Ok(())
}

/// Rows of the whole and of its parts, from a `row` that names neither part nor times.
pub(super) fn rows(row: &Benchmark, times: [Duration; 3]) -> Vec<Benchmark> {
    let timed = |part: &str, time: Duration| {
        let model = format!("{part}: {}", row.model);
        Timing::of(vec![time]).fill(Benchmark { model, ..row.clone() })
    };
    let mut rows = vec![timed("whole", times.iter().sum())];
    rows.extend(PARTS.iter().zip(times).map(|(part, time)| timed(part, time)));
    rows
}

/// Protocol `paper` of Table 1 with WideResNet-50-2, features and training in `precision`.
pub(super) fn paper(precision: Precision) -> Result<Config> {
    let library = Library::open(&crate::workspace::root()?.join("xtask/experiments"))?;
    let table1 = library.experiment("table1")?;
    let mut config = library.config(
        "table1",
        &table1.variants[0],
        Protocol::Paper,
        Arch::WideResNet50_2,
        &[],
    )?;
    config.features.precision = precision;
    config.train.precision = precision;
    Ok(config)
}

/// What each of [`PARTS`] took.
pub(super) fn category_once(
    bench: &Bench,
    config: &Config,
    dataset: &Dataset,
    backbone: &simplenet_backbone::Backbone,
) -> Result<[Duration; 3]> {
    let start = Instant::now();
    let pipeline = Pipeline::on(&Device::Cuda(bench.gpu.clone()), config, backbone)?;
    let memory = BankMemory::new(u64::MAX);
    let go_on = |_| Ok::<(), simplenet::Error>(());
    let (train, _) = pipeline.feature_bank(&dataset.train, &memory, go_on)?;
    let (test, _) = pipeline.feature_bank(&dataset.test, &memory, go_on)?;
    let truth = Truth::load(&dataset.test, pipeline.preprocess(), &config.evaluate)?;
    bench.gpu.synchronize()?;
    let extraction = start.elapsed();

    let start = Instant::now();
    let mut head = Head::new(config.head_config(pipeline.dim()), 0)?;
    let (mut judging, mut best) = (Duration::ZERO, 0.0);
    let (precision, mut metrics) = (pipeline.precision(), None);
    train.train(&mut head, &config.train, 0, |report, head| -> Result<ControlFlow<()>> {
        let is_last = report.epoch == config.train.epochs;
        if is_last || report.epoch.is_multiple_of(config.evaluate.every) {
            let scores = head.score(&test, pipeline.grid(), precision)?;
            let start = Instant::now();
            // As in `reproduce`: pixel metrics where they decide.
            let image = image_metrics(&scores.images, &truth.anomalous)?;
            if is_last || image.auroc >= best {
                best = image.auroc;
                metrics = Some(Evaluation::of(&scores, &truth, config)?);
            }
            judging += start.elapsed();
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if metrics.is_none() {
        bail!("training ended before its last epoch");
    }
    let training = start.elapsed() - judging;
    Ok([extraction, training, judging])
}
