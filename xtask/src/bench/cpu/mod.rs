//! `cargo xtask bench cpu`

mod backbones;
mod detectors;
mod metrics;
mod scaling;
mod stages;
mod training;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail};
use simplenet_backbone::{Arch, Backbone, Precision, Stage};
use simplenet_kernels::isa::Isa;
use simplenet_kernels::peak;
use simplenet_report::{Benchmark, benchmark_table, benchmarks};

use super::affinity::on_last;
use super::measure::Budget;
use super::peers::{self, Peers};
use super::{OWN, cache_folder, parse_weights, publish, publish_table, random, row, save};
use crate::weights::Arsenal;
use crate::workspace;

/// What measures every row of the tables. They may have been measured in parts, a subject or a number of threads at a time.
pub(super) const COMMAND: &str = "cargo xtask bench cpu --peers --publish";

/// What `cargo xtask bench cpu` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Time only these subjects, e.g. `backbone,detector`
    #[arg(long, value_delimiter = ',')]
    only: Vec<Subject>,
    /// Numbers of threads [default: one and all]
    #[arg(long, value_delimiter = ',')]
    threads: Vec<usize>,
    /// A fifth of the time for each timing, and at least 3 rounds instead of 12
    #[arg(long)]
    quick: bool,
    /// Renew the tables of docs/performance.md with what this processor has measured
    #[arg(long)]
    publish: bool,
    /// Beside PyTorch, ONNX Runtime and OpenVINO, from PyPI in an environment in the cache folder
    #[arg(long)]
    peers: bool,
    /// Run the peers that this interpreter has, instead of making an environment
    #[arg(long, value_name = "FILE", requires = "peers")]
    python: Option<PathBuf>,
    /// A checkpoint of a backbone, e.g. `resnet18=FILE` [default: data/weights, else random]
    #[arg(long, value_name = "BACKBONE=FILE", value_parser = parse_weights)]
    weights: Vec<(Arch, PathBuf)>,
    /// Folder for the rows [default: results/bench in the project, else ./bench]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Folder for random weights and Python's packages [default: the user's cache folder]
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Subject {
    /// Images to feature maps
    Backbone,
    /// Files to anomaly maps, and the stages of that way
    Detector,
    /// A training step at the paper's size
    Train,
    /// Pixel metrics of a test set
    Metrics,
}

/// What all timings of a run share.
struct Bench {
    budget: Budget,
    threads: Vec<usize>,
    isa: Isa,
    device: String,
    commit: String,
    /// In 10⁹ operations per second.
    peaks: Vec<(Precision, usize, Option<f64>)>,
    file: PathBuf,
    rows: Vec<Benchmark>,
    /// Python, and the folder for its script.
    python: Option<(PathBuf, PathBuf)>,
    /// The peers of the number of threads that was asked for last.
    started: Option<(usize, Rc<RefCell<Peers>>)>,
}

/// A network with its weights.
struct Network {
    arch: Arch,
    /// Where its weights come from, as a row says it.
    weights: String,
    /// `None` where they are embedded.
    file: Option<PathBuf>,
    backbone: Backbone,
}

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

/// Images per call.
const BATCHES: [usize; 2] = [1, 8];

/// Side of an image, in pixels.
const SIDE: usize = 224;

fn precision_name(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let root = workspace::root().ok();
    let folder = match (&arguments.out, &root) {
        (Some(folder), _) => folder.clone(),
        (None, Some(root)) => root.join("results/bench"),
        (None, None) => PathBuf::from("bench"),
    };
    let cache = arguments.cache.clone().map_or_else(cache_folder, Ok)?;
    let mut bench = Bench::new(arguments, root.as_deref(), &folder, &cache)?;
    let wanted = |subject| arguments.only.is_empty() || arguments.only.contains(&subject);
    let needs_networks = wanted(Subject::Backbone) || wanted(Subject::Detector) || !arguments.weights.is_empty();
    let networks = match needs_networks {
        true => networks(arguments, root.as_deref(), &cache)?,
        false => Vec::new(),
    };
    if wanted(Subject::Backbone) {
        for network in &networks {
            backbones::run(&mut bench, network)?;
        }
    }
    if wanted(Subject::Train) {
        training::run(&mut bench)?;
    }
    if wanted(Subject::Detector) {
        let photographs = detectors::Photographs::draw()?;
        for network in &networks {
            detectors::run(&mut bench, network, &photographs)?;
        }
    }
    if wanted(Subject::Metrics) {
        metrics::run(&mut bench)?;
    }
    outln!("{}", benchmark_table(&stages::others(&bench.rows), OWN).to_text());
    if let Some(table) = stages::table(&bench.rows) {
        outln!("{}", table.to_text());
    }
    outln!("rows in {}", bench.file.display());
    if arguments.publish {
        let document = workspace::root()?.join("docs/performance.md");
        // All that this processor has measured, in several runs perhaps.
        let mut known = benchmarks::read_or_empty(&bench.file)?;
        known.retain(|row| row.device == bench.device);
        publish_all(&document, "bench-cpu", COMMAND, &known)?;
        outln!("renewed {}", document.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Every table of one processor's rows, between the markers `marker`, `marker-scaling` and `marker-stages` of `document`.
pub(super) fn publish_all(document: &Path, marker: &str, command: &str, rows: &[Benchmark]) -> Result<()> {
    publish(document, marker, command, &stages::others(rows))?;
    if let Some(table) = scaling::table(rows) {
        publish_table(document, &format!("{marker}-scaling"), command, &table)?;
    }
    if let Some(table) = stages::table(rows) {
        publish_table(document, &format!("{marker}-stages"), command, &table)?;
    }
    Ok(())
}

impl Bench {
    fn new(arguments: &Arguments, root: Option<&Path>, folder: &Path, cache: &Path) -> Result<Bench> {
        let most = std::thread::available_parallelism().map_or(1, usize::from);
        let mut threads = arguments.threads.clone();
        if threads.is_empty() {
            threads = vec![1, most];
            threads.dedup();
        }
        if threads.contains(&0) {
            bail!("`--threads` is 0; a computation needs at least one");
        }
        let python = match (&arguments.python, arguments.peers) {
            (Some(python), _) => Some(python.clone()),
            (None, true) => Some(peers::environment(cache)?),
            (None, false) => None,
        };
        let share = if arguments.quick { 5 } else { 1 };
        let isa = Isa::detect()?;
        let mut peaks = Vec::new();
        for &count in &threads {
            for precision in PRECISIONS {
                let peak = pool(count)?.install(|| peak::operations_per_second(precision, isa));
                peaks.push((precision, count, peak.map(|rate| rate / 1e9)));
            }
        }
        Ok(Bench {
            budget: Budget {
                time: Duration::from_millis(1000 / share),
                least: if arguments.quick { 3 } else { 12 },
                most: 200,
                warm_up: 1,
            },
            threads,
            isa,
            device: workspace::processor(),
            commit: root.map_or_else(|| "unknown".into(), workspace::commit),
            peaks,
            file: folder.join("cpu.csv"),
            rows: Vec::new(),
            python: python.map(|python| (python, cache.to_path_buf())),
            started: None,
        })
    }

    /// A row of ours in these circumstances, without its times.
    fn row(&self, subject: &str, precision: Precision, threads: usize, batch: usize) -> Benchmark {
        let count = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let same = |&&(of, on, _): &&(Precision, usize, Option<f64>)| of == precision && on == threads;
        Benchmark {
            subject: subject.into(),
            isa: self.isa.to_string(),
            precision: precision_name(precision).into(),
            threads: count(threads),
            batch: count(batch),
            peak_gflops: self.peaks.iter().find(same).and_then(|&(_, _, peak)| peak),
            ..row(&self.device, &self.commit)
        }
    }

    /// The peers on this number of threads; `None` where they are not wanted.
    fn peers(&mut self, threads: usize) -> Result<Option<Rc<RefCell<Peers>>>> {
        let Some((python, folder)) = &self.python else {
            return Ok(None);
        };
        if let Some((_, peers)) = self.started.as_ref().filter(|(count, _)| *count == threads) {
            return Ok(Some(Rc::clone(peers)));
        }
        // The old ones first, so that two never run.
        self.started = None;
        let peers = on_last(threads, || Peers::start(python, folder, threads))?;
        let names: Vec<&str> = peers.engines.iter().map(|engine| &*engine.name).collect();
        errln!("peers on {threads} threads: {}", names.join(", "));
        for absent in peers::NAMES
            .iter()
            .filter(|known| !names.iter().any(|name| name.starts_with(*known)))
        {
            errln!("{absent} is not there and is left out");
        }
        let peers = Rc::new(RefCell::new(peers));
        self.started = Some((threads, Rc::clone(&peers)));
        Ok(Some(peers))
    }

    /// A step takes about a second: fewer rounds.
    fn training_budget(&self) -> Budget {
        Budget {
            least: 3,
            ..self.budget
        }
    }

    /// Keeps rows and writes them, so that an interrupted run leaves what it has.
    fn push(&mut self, rows: Vec<Benchmark>) -> Result<()> {
        for row in &rows {
            errln!(
                "{} {} {} {} threads {} batch {}: {:.2} ms",
                row.subject,
                row.model,
                row.engine,
                row.precision,
                row.threads,
                row.batch,
                row.p50_ms
            );
        }
        save(&self.file, &rows)?;
        self.rows.extend(rows);
        Ok(())
    }
}

fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    let pool = || rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    Ok(on_last(threads, pool)?)
}

/// The three networks that are timed, up to layer3.
fn networks(arguments: &Arguments, root: Option<&Path>, cache: &Path) -> Result<Vec<Network>> {
    if let Some((_, file)) = arguments.weights.iter().find(|(_, file)| !file.is_file()) {
        bail!("`{}` is no file", file.display());
    }
    let mut networks = Vec::new();
    for arch in [Arch::WideResNet50_2, Arch::ResNet18, Arch::EfficientNetLite0] {
        let given = arguments.weights.iter().find(|(of, _)| *of == arch);
        let found = Arsenal::new(root.unwrap_or(Path::new(".")), arch, given.map(|(_, file)| &**file)).find(arch);
        let (weights, file) = match found {
            Ok(crate::weights::Weights::File { path, identity }) => (format!("sha256 {}", &identity[..12]), Some(path)),
            Ok(crate::weights::Weights::Embedded { .. }) => ("embedded".into(), None),
            Err(error) if given.is_some() => return Err(error),
            Err(_) => (random::NAME.into(), Some(random::weights(arch, cache)?)),
        };
        let backbone = match &file {
            Some(file) => Backbone::load(arch, file, Stage::Layer3)?,
            None => Backbone::embedded(arch, Stage::Layer3)?,
        };
        networks.push(Network {
            arch,
            weights,
            file,
            backbone,
        });
    }
    Ok(networks)
}
