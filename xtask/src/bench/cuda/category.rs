//! A whole category of MVTec AD's size: files to metrics, as `reproduce` runs it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use simplenet::config::Config;
use simplenet::device::Device;
use simplenet::{BankMemory, Evaluation, Pipeline, Truth};
use simplenet_backbone::{Arch, Precision};
use simplenet_data::toy::{CATEGORIES, Shot, render};
use simplenet_data::{Dataset, mvtec};
use simplenet_heads::Head;
use simplenet_metrics::image_metrics;
use simplenet_report::Benchmark;

use super::features::network;
use super::run::Bench;
use crate::bench::measure::Timing;
use crate::experiment::{Library, Protocol};

/// Training and test images of MVTec AD's bottle.
const IMAGES: [usize; 2] = [209, 83];

pub(super) fn run(bench: &mut Bench, data: Option<&Path>, category: &str, given: &[(Arch, PathBuf)]) -> Result<()> {
    let (dataset, what) = match data {
        Some(data) => (mvtec::load(data, category)?, format!("{category} of MVTec AD")),
        None => (procedural(&bench.cache)?, "procedural, 256 px".into()),
    };
    let (weights, backbone) = network(bench, Arch::WideResNet50_2, given)?;
    let images = [dataset.train.len(), dataset.test.len()];
    for (precision, name) in [(Precision::Bf16, "bf16"), (Precision::F32, "f32")] {
        let mut config = paper()?;
        config.features.precision = precision;
        config.train.precision = precision;
        let times = category_once(bench, &config, &dataset, &backbone)?;
        let row = |part: &str, time: Duration| {
            let epochs = config.train.epochs;
            let row = Benchmark {
                model: format!("{part}: {what}, {}+{} images, {epochs} epochs", images[0], images[1]),
                weights: weights.clone(),
                ..bench.row("category", name, images[0] + images[1])
            };
            Timing::of(vec![time]).fill(row)
        };
        let whole = times.iter().map(|(_, time)| *time).sum();
        let mut rows = vec![row("whole", whole)];
        rows.extend(times.iter().map(|(part, time)| row(part, *time)));
        bench.push(rows)?;
    }
    Ok(())
}

/// Protocol `paper` of Table 1 with WideResNet-50-2.
fn paper() -> Result<Config> {
    let library = Library::open(&crate::workspace::root()?.join("xtask/experiments"))?;
    let table1 = library.experiment("table1")?;
    library.config(
        "table1",
        &table1.variants[0],
        Protocol::Paper,
        Arch::WideResNet50_2,
        &[],
    )
}

/// The parts and what they took: extraction, training with its scoring of the test set, metrics.
fn category_once(
    bench: &Bench,
    config: &Config,
    dataset: &Dataset,
    backbone: &simplenet_backbone::Backbone,
) -> Result<Vec<(&'static str, Duration)>> {
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
    Ok(vec![
        ("extraction", extraction),
        ("training", training),
        ("metrics", judging),
    ])
}

/// As many images as MVTec AD's bottle has, of a procedural part, drawn once.
fn procedural(cache: &Path) -> Result<Dataset> {
    let root = cache.join("procedural-bench");
    let category = &CATEGORIES[0];
    let folder = root.join("weave");
    if !folder.join("complete").is_file() {
        let save = |path: PathBuf, shot: Shot| -> Result<()> {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
            }
            let rendered = render(0, category, shot);
            rendered
                .image
                .save(&path)
                .with_context(|| format!("failed to write `{}`", path.display()))?;
            if let Some(mask) = rendered.mask.filter(|_| path.to_string_lossy().contains("/bad/")) {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let truth = folder.join("ground_truth/bad");
                std::fs::create_dir_all(&truth)?;
                mask.save(truth.join(format!("{name}_mask.png")))?;
            }
            Ok(())
        };
        for index in 0..IMAGES[0] {
            save(folder.join(format!("train/good/{index:03}.png")), Shot::Train { index })?;
        }
        for index in 0..20 {
            save(folder.join(format!("test/good/{index:03}.png")), Shot::Good { index })?;
        }
        for index in 0..IMAGES[1] - 20 {
            let shot = Shot::Defective {
                defect: index % 3,
                index,
            };
            save(folder.join(format!("test/bad/{index:03}.png")), shot)?;
        }
        std::fs::write(folder.join("complete"), "")?;
    }
    Ok(mvtec::load(&root, "weave")?)
}
