//! `cargo xtask bench precision`: what bf16 does to the metrics, beside what another seed does.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use simplenet::config::{Config, FeatureScale};
use simplenet::{BankMemory, Evaluation, Pipeline, Scores, Truth};
use simplenet_backbone::{Arch, Precision, Stage};
use simplenet_data::fetch::Manifest;
use simplenet_data::{Dataset, mvtec};
use simplenet_heads::{Bank, Head, Standardizer, train};
use simplenet_report::{Align, Column, Line, Measurement, Table, measurements};

use crate::experiment::{self, Library, Protocol, Variant};
use crate::source::mvtec_name;
use crate::weights::{Arsenal, Weights};
use crate::workspace;

/// What `cargo xtask bench precision` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Folder of MVTec AD
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Categories to run
    #[arg(long, value_delimiter = ',', default_value = "bottle,screw")]
    categories: Vec<String>,
    /// Frozen network
    #[arg(long, default_value_t = Arch::ResNet18)]
    backbone: Arch,
    /// Its checkpoint [default: data/weights]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Seeds 0 to this, without it
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Epochs, instead of the protocol's
    #[arg(long)]
    epochs: Option<usize>,
    /// The file for the numbers [default: results/bench/precision.csv]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Features in one precision.
struct Features {
    pipeline: Pipeline,
    train: Bank,
    test: Bank,
    standardizer: Standardizer,
}

/// Trained in f32 and run in it; the same heads run in bf16; trained and run in bf16.
const VARIANTS: [&str; 3] = ["f32", "f32, run in bf16", "bf16"];
const METRICS: [&str; 2] = ["image_auroc", "pixel_auroc"];

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let root = workspace::root()?;
    let file = match &arguments.out {
        Some(file) => file.clone(),
        None => root.join("results/bench/precision.csv"),
    };
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
    }
    if arguments.seeds < 2 {
        bail!("`--seeds` is {}; a spread takes at least 2", arguments.seeds);
    }
    let weights = Arsenal::new(&root, arguments.backbone, arguments.weights.as_deref()).find(arguments.backbone)?;
    let configs = [
        config(&root, arguments, Precision::F32)?,
        config(&root, arguments, Precision::Bf16)?,
    ];
    let manifest = Manifest::read(root.join("data/manifest.toml"))?;
    let mut all = Vec::new();
    for category in &arguments.categories {
        let mut dataset = mvtec::load(&arguments.data, category)?;
        dataset.name = mvtec_name(&arguments.data, category, &manifest).into();
        let new = measure(arguments, &weights, &configs, &dataset)?;
        measurements::replace(&file, &new)?;
        all.extend(new);
    }
    outln!("{}", table(&all).to_text());
    outln!(
        "rows in {}; `cargo xtask bench report` shows those of results/bench in docs/performance.md",
        file.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// The paper's protocol with everything in one precision.
fn config(root: &Path, arguments: &Arguments, precision: Precision) -> Result<Config> {
    let library = Library::open(&root.join("xtask/experiments"))?;
    let mut config = library.config("table1", &Variant::default(), Protocol::Paper, arguments.backbone, &[])?;
    config.features.precision = precision;
    config.train.precision = precision;
    if let Some(epochs) = arguments.epochs {
        config.train.epochs = epochs;
    }
    config.check()?;
    Ok(config)
}

fn features(config: &Config, weights: &Weights, dataset: &Dataset) -> Result<Features> {
    let last = config.features.stages.iter().copied().max().unwrap_or(Stage::Layer3);
    let pipeline = Pipeline::new(config, &weights.load(config.features.backbone, last)?)?;
    let memory = BankMemory::new(workspace::memory_budget() / 4);
    let after = |_| Ok::<_, simplenet::Error>(());
    let (train, _) = pipeline.bank(&dataset.train, &memory, after)?;
    let (test, _) = pipeline.bank(&dataset.test, &memory, after)?;
    let standardizer = Standardizer::fit(&train);
    Ok(Features {
        pipeline,
        train,
        test,
        standardizer,
    })
}

/// The last head of a training, and its seconds.
fn trained(config: &Config, features: &Features, seed: u64) -> Result<(Head, f64)> {
    let mut head = Head::new(config.head_config(features.pipeline.dim()), seed)?;
    if config.scale == FeatureScale::Standardised {
        head.set_standardizer(features.standardizer.clone())?;
    }
    let start = Instant::now();
    train(&mut head, &features.train, &config.train, seed, |_, _| {
        Ok::<_, simplenet_heads::Error>(ControlFlow::Continue(()))
    })?;
    Ok((head, start.elapsed().as_secs_f64()))
}

fn measure(
    arguments: &Arguments,
    weights: &Weights,
    configs: &[Config; 2],
    dataset: &Dataset,
) -> Result<Vec<Measurement>> {
    let [full, half] = [
        features(&configs[0], weights, dataset)?,
        features(&configs[1], weights, dataset)?,
    ];
    let truth = Truth::load(&dataset.test, full.pipeline.preprocess(), &configs[0].evaluate)?;
    let judge = |head: &Head, features: &Features, config: &Config| -> Result<[f64; 2]> {
        let precision = config.features.precision;
        let scores = Scores::of(head, &features.test, features.pipeline.grid(), precision)?;
        let evaluation = Evaluation::of(&scores, &truth, config)?;
        let pixel = evaluation.pixel.context("the test set has no masks")?;
        Ok([evaluation.image.auroc, pixel.auroc])
    };
    let mut rows = Vec::new();
    for seed in 0..arguments.seeds {
        let (in_full, full_seconds) = trained(&configs[0], &full, seed)?;
        let (in_half, half_seconds) = trained(&configs[1], &half, seed)?;
        let judged = [
            judge(&in_full, &full, &configs[0])?,
            judge(&in_full, &half, &configs[1])?,
            judge(&in_half, &half, &configs[1])?,
        ];
        let trained_as = [&configs[0], &configs[0], &configs[1]];
        for ((variant, metrics), config) in VARIANTS.into_iter().zip(judged).zip(trained_as) {
            for (quantity, value) in METRICS.into_iter().zip(metrics) {
                rows.push(Measurement {
                    experiment: "precision".into(),
                    variant: variant.into(),
                    protocol: Protocol::Paper.name().into(),
                    dataset: dataset.name.clone(),
                    category: dataset.category.clone(),
                    backbone: arguments.backbone.name().into(),
                    seed,
                    config_sha256: experiment::config_sha256(&toml::to_string(config)?, weights.identity(), ""),
                    quantity: quantity.into(),
                    x: config.train.epochs as u64,
                    value,
                });
            }
        }
        let [[image, _], [image_in_half, _], [half_image, _]] = judged;
        errln!(
            "{} seed {seed}: I-AUROC {image:.4} in f32, {image_in_half:.4} run in bf16, {half_image:.4} trained in bf16; \
             {full_seconds:.0} s and {half_seconds:.0} s",
            dataset.category
        );
    }
    Ok(rows)
}

/// The trainings of rows, each a category and a number of epochs, in their order.
fn trainings(rows: &[Measurement]) -> Vec<(&str, u64)> {
    let mut trainings: Vec<_> = rows.iter().map(|row| (row.category.as_str(), row.x)).collect();
    trainings.sort_unstable();
    trainings.dedup();
    trainings
}

/// The commands that make such rows.
pub(super) fn commands(rows: &[Measurement]) -> Vec<String> {
    let mut commands: Vec<String> = rows
        .iter()
        .map(|row| {
            let (backbone, epochs) = (&row.backbone, row.x);
            format!("cargo xtask bench precision --data MVTEC --backbone {backbone} --epochs {epochs}")
        })
        .collect();
    commands.sort_unstable();
    commands.dedup();
    commands
}

/// Mean, smallest and largest over the seeds; and how far running in bf16 moves the same head.
pub(super) fn table(rows: &[Measurement]) -> Table {
    let column = |heading: &str, align| Column {
        heading: heading.into(),
        align,
    };
    let mut columns = vec![
        column("category", Align::Left),
        column("epochs", Align::Right),
        column("metric, %", Align::Left),
    ];
    columns.extend(VARIANTS.map(|variant| column(variant, Align::Right)));
    columns.push(column("largest change by running in bf16", Align::Right));
    let mut lines = Vec::new();
    for (category, epochs) in trainings(rows) {
        for (metric, heading) in METRICS.into_iter().zip(["I-AUROC", "P-AUROC"]) {
            let values = |variant: &str| -> Vec<f64> {
                let of = |row: &&Measurement| {
                    row.category == category && row.x == epochs && row.quantity == metric && row.variant == variant
                };
                rows.iter().filter(of).map(|row| 100.0 * row.value).collect()
            };
            let [full, run_in_half, half] = VARIANTS.map(values);
            let spread = |values: &[f64]| {
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let least = values.iter().copied().fold(f64::INFINITY, f64::min);
                let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                format!("{mean:.2} ({least:.2} to {most:.2})")
            };
            let change = full.iter().zip(&run_in_half).map(|(a, b)| (a - b).abs());
            lines.push(Line::Cells(vec![
                category.to_string(),
                epochs.to_string(),
                heading.into(),
                spread(&full),
                spread(&run_in_half),
                spread(&half),
                format!("{:.3}", change.fold(0.0, f64::max)),
            ]));
        }
    }
    let seeds = rows.iter().map(|row| row.seed).max().map_or(0, |last| last + 1);
    let note = rows.first().map(|row| {
        let backbone = &row.backbone;
        format!("{backbone}, {seeds} seeds, last epoch: mean (smallest to largest).")
    });
    let notes = note.into_iter().collect();
    Table { columns, lines, notes }
}
