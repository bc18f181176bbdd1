//! `cargo xtask bench report`: the tables of docs/performance.md whose rows are not of the processor at hand.

use std::process::ExitCode;

use anyhow::Result;
use simplenet_report::{benchmarks, measurements};

use super::{cpu, cuda, precision, publish, publish_table};
use crate::workspace;

/// What made the rows of `results/bench-amx/cpu.csv`.
const AMX_COMMAND: &str = "cargo xtask bench cpu --peers --quick --threads 1,2 --out results/bench-amx";

/// Renews the tables of `results/bench/cuda.csv`, of `results/bench/precision.csv` and of the processor of
/// `results/bench-amx/cpu.csv`.
pub(crate) fn run() -> Result<ExitCode> {
    let root = workspace::root()?;
    let document = root.join("docs/performance.md");
    let cuda = benchmarks::read_or_empty(&root.join("results/bench/cuda.csv"))?;
    publish(&document, "bench-cuda", cuda::COMMAND, &cuda)?;
    let amx = benchmarks::read_or_empty(&root.join("results/bench-amx/cpu.csv"))?;
    cpu::publish_all(&document, "bench-amx", AMX_COMMAND, &amx)?;
    let precision = measurements::read_or_empty(&root.join("results/bench/precision.csv"))?;
    if !precision.is_empty() {
        let commands = precision::commands(&precision).join("\n    ");
        publish_table(&document, "bench-precision", &commands, &precision::table(&precision))?;
    }
    println!("renewed {}", document.display());
    Ok(ExitCode::SUCCESS)
}
