//! `cargo xtask bench`: how fast it is here, and beside others. Rows go to results/bench/.
//!
//! Every file is a [`Benchmark`] per timing; docs/performance.md shows them.

mod affinity;
mod cpu;
mod cuda;
mod measure;
mod peers;
mod precision;
mod random;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use simplenet_backbone::Arch;
use simplenet_report::{Benchmark, Table, benchmark_table, benchmarks, splice_file};

/// The engine's name in rows that are our own.
pub(crate) const OWN: &str = "simplenet";

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Time backbones, head, detector, training and metrics on the processor
    Cpu(cpu::Arguments),
    /// Time networks, training and whole categories on a GPU
    Cuda(cuda::Arguments),
    /// Measure what bf16 does to the metrics, beside what another seed does
    Precision(precision::Arguments),
    /// Renew the tables of docs/performance.md from the committed rows
    Report(report::Arguments),
}

pub(crate) fn run(verb: &Verb) -> Result<ExitCode> {
    match verb {
        Verb::Cpu(arguments) => cpu::run(arguments),
        Verb::Cuda(arguments) => cuda::run(arguments),
        Verb::Precision(arguments) => precision::run(arguments),
        Verb::Report(arguments) => report::run(arguments),
    }
}

/// What all rows of a run share; its times are filled in by [`measure::Timing::fill`].
pub(crate) fn row(device: &str, commit: &str) -> Benchmark {
    Benchmark {
        engine: OWN.into(),
        device: device.into(),
        commit: commit.into(),
        ..Benchmark::default()
    }
}

/// Adds rows to `file`, in place of those of the same thing.
pub(crate) fn save(file: &Path, rows: &[Benchmark]) -> Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
    }
    Ok(benchmarks::replace(file, rows)?)
}

/// Puts the table of rows between the markers `marker` of `document`, under the command that made it.
pub(crate) fn publish(document: &Path, marker: &str, command: &str, rows: &[Benchmark]) -> Result<()> {
    publish_table(document, marker, command, &benchmark_table(rows, OWN))
}

/// [`publish`] for another table.
pub(crate) fn publish_table(document: &Path, marker: &str, command: &str, table: &Table) -> Result<()> {
    splice_file(document, marker, &format!("    {command}\n\n{}", table.to_markdown()))?;
    Ok(())
}

/// `--weights BACKBONE=FILE`.
pub(crate) fn parse_weights(text: &str) -> Result<(Arch, PathBuf), String> {
    let (arch, file) = text
        .split_once('=')
        .ok_or("expected BACKBONE=FILE, for example resnet18=resnet18.safetensors")?;
    Ok((arch.parse().map_err(|error| format!("{error}"))?, file.into()))
}

/// Where large files go that a later run can use: outside the project, which others may copy.
pub(crate) fn cache_folder() -> Result<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    variable("XDG_CACHE_HOME")
        .or_else(|| Some(variable("HOME")?.join(".cache")))
        .map(|folder| folder.join("simplenet-bench"))
        .context("there is no cache folder\n\nhint: name one with `--cache FOLDER`")
}
