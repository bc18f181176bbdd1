//! `cargo xtask bench report`: the tables of docs/performance.md, from the rows under results/.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use simplenet_report::{benchmarks, measurements};

use super::{cpu, cuda, precision, publish, publish_table};
use crate::workspace;

/// What made the rows of `results/bench-amx/cpu.csv`.
const AMX_COMMAND: &str = "cargo xtask bench cpu --peers --out results/bench-amx";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Write nothing; fail where the document is not what the rows say
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let root = workspace::root()?;
    let document = root.join("docs/performance.md");
    if !arguments.check {
        renew(&root, &document)?;
        outln!("renewed {}", document.display());
        return Ok(ExitCode::SUCCESS);
    }
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("failed to read `{}`", path.display()));
    let folder = tempfile::tempdir()?;
    let renewed = folder.path().join("performance.md");
    std::fs::write(&renewed, read(&document)?)?;
    renew(&root, &renewed)?;
    if read(&renewed)? != read(&document)? {
        bail!("stale: docs/performance.md\n\nhint: `cargo xtask bench report` renews it");
    }
    outln!("as the rows say: docs/performance.md");
    Ok(ExitCode::SUCCESS)
}

fn renew(root: &Path, document: &Path) -> Result<()> {
    let rows = |file: &str| benchmarks::read_or_empty(&root.join("results").join(file));
    let own = rows("bench/cpu.csv")?;
    let devices: BTreeSet<&str> = own.iter().map(|row| row.device.as_str()).collect();
    if devices.len() > 1 {
        bail!("results/bench/cpu.csv has rows of {devices:?}, and the document shows one processor");
    }
    cpu::publish_all(document, "bench-cpu", cpu::COMMAND, &own)?;
    publish(document, "bench-cuda", cuda::COMMAND, &rows("bench/cuda.csv")?)?;
    cpu::publish_all(document, "bench-amx", AMX_COMMAND, &rows("bench-amx/cpu.csv")?)?;
    let precision = measurements::read_or_empty(&root.join("results/bench/precision.csv"))?;
    if !precision.is_empty() {
        let commands = precision::commands(&precision).join("\n    ");
        publish_table(document, "bench-precision", &commands, &precision::table(&precision))?;
    }
    Ok(())
}
