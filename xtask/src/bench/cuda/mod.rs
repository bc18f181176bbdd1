//! `cargo xtask bench cuda`

#[cfg(feature = "cuda")]
mod category;
#[cfg(feature = "cuda")]
mod features;
#[cfg(feature = "cuda")]
mod peers;
#[cfg(feature = "cuda")]
mod procedural;
#[cfg(feature = "cuda")]
mod run;
#[cfg(feature = "cuda")]
mod small;
#[cfg(feature = "cuda")]
mod table1;
#[cfg(feature = "cuda")]
mod time;

use std::path::PathBuf;

use simplenet_backbone::Arch;

#[cfg(feature = "cuda")]
pub(crate) use self::run::run;

/// What stands above the tables.
pub(crate) const COMMAND: &str = "cargo run -p xtask --features cuda -- bench cuda --peers";

/// What `cargo xtask bench cuda` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Time only these subjects, e.g. `features,step`
    #[arg(long, value_delimiter = ',')]
    only: Vec<Subject>,
    /// A tenth of the rounds, and small ceilings: to see that all of it runs
    #[arg(long)]
    quick: bool,
    /// Beside PyTorch, in the same run
    #[arg(long)]
    peers: bool,
    /// A Python that has torch
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
    /// A checkpoint of a backbone, e.g. `resnet18=FILE` [default: random]
    #[arg(long, value_name = "BACKBONE=FILE", value_parser = super::parse_weights)]
    weights: Vec<(Arch, PathBuf)>,
    /// A folder of MVTec AD's layout, for a whole category [default: one of 209 and 83 procedural images]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// The category in `--data`
    #[arg(long, default_value = "bottle")]
    category: String,
    /// Folder for the rows [default: results/bench in the project, else ./bench]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Folder for random weights and procedural images [default: the user's cache folder]
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Subject {
    /// The device's own ceilings: copies and matrix products
    Ceilings,
    /// Images to feature maps and patch rows
    Features,
    /// Training steps of the head
    Step,
    /// Patch scores to anomaly maps
    Maps,
    /// A whole category, from files to metrics
    Category,
    /// Fifteen categories of MVTec AD's sizes: minutes, so `--quick` leaves it out unless `--only` names it
    Table1,
}

#[cfg(not(feature = "cuda"))]
pub(crate) fn run(_: &Arguments) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!(
        "this program was built without CUDA\n\nhint: `scripts/setup-cuda.sh && . .cuda/env.sh`, then \
         `cargo run -p xtask --features cuda -- bench cuda`"
    )
}
