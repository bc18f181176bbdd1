//! `cargo xtask bench cuda`

#[cfg(feature = "cuda")]
mod category;
#[cfg(feature = "cuda")]
mod features;
#[cfg(feature = "cuda")]
mod peers;
#[cfg(feature = "cuda")]
mod small;
#[cfg(feature = "cuda")]
mod time;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use simplenet_backbone::Arch;

/// What `cargo xtask bench cuda` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Time only these subjects, e.g. `features,step`
    #[arg(long, value_delimiter = ',')]
    only: Vec<Subject>,
    /// A tenth of the rounds: to see that all of it runs
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
}

#[cfg(not(feature = "cuda"))]
pub(crate) fn run(_: &Arguments) -> Result<ExitCode> {
    anyhow::bail!(
        "this program was built without CUDA\n\nhint: `scripts/setup-cuda.sh && . .cuda/env.sh`, then \
         `cargo run -p xtask --features cuda -- bench cuda`"
    )
}

#[cfg(feature = "cuda")]
pub(crate) use with_cuda::run;

#[cfg(feature = "cuda")]
use with_cuda::Bench;

#[cfg(feature = "cuda")]
mod with_cuda {
    use std::path::PathBuf;
    use std::process::ExitCode;

    use anyhow::{Context, Result};
    use simplenet_kernels::cuda::Gpu;
    use simplenet_report::Benchmark;

    use super::{Arguments, Subject, category, features, peers, small};
    use crate::bench::{OWN, cache_folder, publish, row, save};
    use crate::workspace;

    /// What all timings of a run share.
    pub(crate) struct Bench {
        pub(crate) gpu: Gpu,
        pub(crate) device: String,
        pub(crate) commit: String,
        /// Rounds per timing.
        pub(crate) rounds: usize,
        /// 10⁹ operations per second of a large product, in bf16 and in f32.
        pub(crate) peaks: [Option<f64>; 2],
        pub(crate) cache: PathBuf,
        pub(crate) file: PathBuf,
        pub(crate) rows: Vec<Benchmark>,
    }

    pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
        let root = workspace::root().ok();
        let folder = match (&arguments.out, &root) {
            (Some(folder), _) => folder.clone(),
            (None, Some(root)) => root.join("results/bench"),
            (None, None) => PathBuf::from("bench"),
        };
        let gpu =
            Gpu::new(0).context("cannot use the first GPU\n\nhint: `nvidia-smi` says whether the driver sees one")?;
        let mut bench = Bench {
            device: gpu.name()?,
            commit: root.as_deref().map_or_else(|| "unknown".into(), workspace::commit),
            rounds: if arguments.quick { 10 } else { 100 },
            peaks: [None; 2],
            cache: arguments.cache.clone().map_or_else(cache_folder, Ok)?,
            file: folder.join("cuda.csv"),
            rows: Vec::new(),
            gpu,
        };
        let wanted = |subject| arguments.only.is_empty() || arguments.only.contains(&subject);
        // Always: shares of the peak need it.
        small::ceilings(&mut bench)?;
        if wanted(Subject::Features) {
            features::run(&mut bench, &arguments.weights)?;
        }
        if wanted(Subject::Step) {
            small::steps(&mut bench)?;
        }
        if wanted(Subject::Maps) {
            small::maps(&mut bench)?;
        }
        if wanted(Subject::Category) {
            let data = arguments.data.as_deref();
            category::run(&mut bench, data, &arguments.category, &arguments.weights)?;
        }
        if arguments.peers {
            peers::run(&mut bench, &arguments.python, &arguments.weights)?;
        }
        println!("{}", simplenet_report::benchmark_table(&bench.rows, OWN).to_text());
        println!("rows in {}", bench.file.display());
        if let Some(document) = root
            .map(|root| root.join("docs/performance.md"))
            .filter(|path| path.is_file())
            && arguments.out.is_none()
        {
            publish(&document, "bench-cuda", &workspace::command(), &bench.rows)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    impl Bench {
        /// A row of ours, without its times.
        pub(crate) fn row(&self, subject: &str, precision: &str, batch: usize) -> Benchmark {
            Benchmark {
                subject: subject.into(),
                precision: precision.into(),
                batch: u32::try_from(batch).unwrap_or(u32::MAX),
                threads: u32::try_from(rayon::current_num_threads()).unwrap_or(u32::MAX),
                peak_gflops: self.peaks[usize::from(precision != "bf16")],
                ..row(&self.device, &self.commit)
            }
        }

        /// Keeps rows and writes them, so that an interrupted run leaves what it has.
        pub(crate) fn push(&mut self, rows: Vec<Benchmark>) -> Result<()> {
            for row in &rows {
                eprintln!(
                    "{} {} {} {} batch {}: {:.3} ms",
                    row.subject, row.model, row.engine, row.precision, row.batch, row.p50_ms
                );
            }
            save(&self.file, &rows)?;
            self.rows.extend(rows);
            Ok(())
        }
    }
}
