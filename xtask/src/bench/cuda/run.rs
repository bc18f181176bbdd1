//! What runs where there is CUDA.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use simplenet_kernels::cuda::Gpu;
use simplenet_report::Benchmark;

use super::{Arguments, Subject, category, features, peers, small, table1};
use crate::bench::{OWN, cache_folder, publish, row, save};
use crate::workspace;

/// What all timings of a run share.
pub(crate) struct Bench {
    pub(crate) gpu: Gpu,
    pub(crate) device: String,
    pub(crate) commit: String,
    /// Rounds per timing.
    pub(crate) rounds: usize,
    /// 10⁹ operations per second of a large product, by its precision.
    pub(crate) peaks: HashMap<&'static str, f64>,
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
    let gpu = Gpu::new(0).context("cannot use the first GPU\n\nhint: `nvidia-smi` says whether the driver sees one")?;
    let mut bench = Bench {
        device: gpu.name()?,
        commit: root.as_deref().map_or_else(|| "unknown".into(), workspace::commit),
        rounds: if arguments.quick { 10 } else { 100 },
        peaks: HashMap::new(),
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
    if wanted(Subject::Table1) && !(arguments.quick && arguments.only.is_empty()) {
        table1::run(&mut bench, &arguments.weights)?;
    }
    if arguments.peers {
        peers::run(&mut bench, &arguments.python, &arguments.weights)?;
    }
    outln!("{}", simplenet_report::benchmark_table(&bench.rows, OWN).to_text());
    outln!("rows in {}", bench.file.display());
    if let Some(document) = root
        .map(|root| root.join("docs/performance.md"))
        .filter(|path| path.is_file())
        && arguments.out.is_none()
    {
        publish(&document, "bench-cuda", super::COMMAND, &bench.rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Bench {
    /// A row of ours, without its times.
    pub(crate) fn row(&self, subject: &str, precision: &str, batch: usize) -> Benchmark {
        Benchmark {
            subject: subject.into(),
            weights: "none".into(),
            precision: precision.into(),
            batch: u32::try_from(batch).unwrap_or(u32::MAX),
            threads: u32::try_from(rayon::current_num_threads()).unwrap_or(u32::MAX),
            peak_gflops: self.peaks.get(precision).copied(),
            ..row(&self.device, &self.commit)
        }
    }

    /// Keeps rows and writes them, so that an interrupted run leaves what it has.
    pub(crate) fn push(&mut self, rows: Vec<Benchmark>) -> Result<()> {
        for row in &rows {
            errln!(
                "{} {} {} {} batch {}: {:.3} ms",
                row.subject,
                row.model,
                row.engine,
                row.precision,
                row.batch,
                row.p50_ms
            );
        }
        save(&self.file, &rows)?;
        self.rows.extend(rows);
        Ok(())
    }
}
