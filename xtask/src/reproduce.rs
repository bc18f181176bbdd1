//! `cargo xtask reproduce`: from the command line to a printed table.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use simplenet::BankMemory;
use simplenet_backbone::{Arch, Backbone, Stage};
use simplenet_data::{Dataset, mvtec, toy};
use simplenet_report::file::write_atomic;
use simplenet_report::results;
use toml::Table;

use crate::experiment::{Experiment, Library, Protocol, parse_set};
use crate::plan::{self, Cell, Choice, Only};
use crate::progress::Progress;
use crate::run::{self, Run, Stopped};
use crate::{report, weights, workspace};

/// Seed of the procedural set: the same pictures for everybody.
const TOY_SEED: u64 = 0;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Which table or figure, for example `table1`
    experiment: String,
    /// Folder of MVTec AD, with one folder per category
    #[arg(long, value_name = "DIR", env = "MVTEC_AD")]
    data: Option<PathBuf>,
    /// Run only cells with this value of category, variant, protocol or seed; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = Only::parse)]
    only: Vec<Only>,
    /// Frozen network, for example `resnet18`
    #[arg(long)]
    backbone: Option<Arch>,
    /// Its checkpoint (.safetensors or .pth); otherwise the embedded, downloaded or hub weights
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Reading of the method: the paper's text or the authors' code; may be repeated
    #[arg(long)]
    protocol: Vec<Protocol>,
    /// Passes over the training images
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Epochs between evaluations on the test set
    #[arg(long, value_name = "N")]
    eval_every: Option<usize>,
    /// Seeds from A up to but not including B
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: Option<Seeds>,
    /// Any other value of the configuration, for example `train.noise=0.1`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where to compute
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Threads; 0 is one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Folder of this run's rows and sheets [default: results/DATASET]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the plan and what is done, run nothing
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DeviceChoice {
    /// The best there is
    Auto,
    /// The processor
    Cpu,
    /// An NVIDIA GPU
    Cuda,
}

#[derive(Clone)]
struct Seeds(Vec<u64>);

fn parse_seeds(text: &str) -> Result<Seeds, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is not a seed"));
    let seeds: Vec<u64> = match text.split_once("..") {
        Some((from, to)) => (number(from)?..number(to)?).collect(),
        None => vec![number(text)?],
    };
    if seeds.is_empty() {
        Err("the range is empty".into())
    } else {
        Ok(Seeds(seeds))
    }
}

/// Where the images are and what they are called.
struct Source {
    name: String,
    root: PathBuf,
    categories: Vec<String>,
    is_fallback: bool,
}

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let root = workspace::root()?;
    let library = Library::open(&root.join("xtask/experiments"))?;
    let experiment = library.experiment(&arguments.experiment)?;
    if arguments.device == DeviceChoice::Cuda {
        bail!("this build has no CUDA\n\nhint: use `--device cpu`");
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(arguments.threads)
        .build_global()
        .context("failed to start the threads")?;
    let threads = rayon::current_num_threads();

    let source = find_data(&arguments, &root, &experiment)?;
    let backbone_name = arguments.backbone.unwrap_or(match source.is_fallback {
        true => experiment.fallback.backbone,
        false => experiment.backbone,
    });
    let out = arguments
        .out
        .clone()
        .unwrap_or_else(|| root.join("results").join(&source.name));
    if source.is_fallback {
        eprintln!(
            "MVTec AD is not here: running the procedural set `toy` with {backbone_name}. These numbers are not the paper's; for \
             those, `cargo xtask data fetch mvtec` or `--data DIR`."
        );
    }
    let weights = weights::find(backbone_name, arguments.weights.as_deref(), &root)?;
    let cells = plan_cells(
        &arguments,
        &library,
        &experiment,
        &source,
        backbone_name,
        weights.identity(),
    )?;

    let csv = out.join(format!("{}.csv", experiment.id));
    if !arguments.list {
        // Before anything is read or run, so that an unwritable place is known at once.
        let configs = out.join("configs");
        std::fs::create_dir_all(&configs).with_context(|| {
            format!(
                "failed to create `{}`\n\nhint: choose a folder you may write to with `--out`",
                configs.display()
            )
        })?;
    }
    let rows = results::read_or_empty(&csv)?;
    if arguments.list {
        println!(
            "{}: {}\n{}\n{}",
            experiment.paper,
            experiment.title,
            experiment.why.trim(),
            experiment.expectation
        );
        print!("{}", plan::describe(&cells, &rows, &csv));
        return Ok(ExitCode::SUCCESS);
    }
    let missing: Vec<&Cell> = cells.iter().filter(|cell| !cell.is_done(&rows)).collect();
    if missing.len() < cells.len() {
        eprintln!(
            "{} of {} cells are in {} already",
            cells.len() - missing.len(),
            cells.len(),
            csv.display()
        );
    }
    describe_run(&out, &missing, threads)?;
    let failures = match run_missing(&missing, &source, &weights, &root, &out, &csv, threads) {
        Err(error) if error.is::<Stopped>() => {
            eprintln!(
                "stopped; what is finished is in {}, and the same command goes on from there",
                csv.display()
            );
            return Ok(ExitCode::from(130));
        }
        outcome => outcome?,
    };

    let rows: Vec<_> = results::read_or_empty(&csv)?
        .into_iter()
        .filter(|row| cells.iter().any(|cell| cell.owns(row)))
        .collect();
    report::table1(&rows, &experiment, &source.name, &root, &out)?;
    for failure in &failures {
        eprintln!("{}", crate::render(failure));
    }
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn plan_cells(
    arguments: &Arguments,
    library: &Library,
    experiment: &Experiment,
    source: &Source,
    backbone: Arch,
    weights: &str,
) -> Result<Vec<Cell>> {
    let mut set = Table::new();
    let mut put = |assignment: &str| -> Result<()> {
        crate::experiment::merge(&mut set, &parse_set(assignment)?);
        Ok(())
    };
    if let Some(epochs) = arguments.epochs {
        put(&format!("train.epochs={epochs}"))?;
    }
    if let Some(every) = arguments.eval_every {
        put(&format!("evaluate.every={every}"))?;
    }
    arguments.set.iter().try_for_each(|assignment| put(assignment))?;
    let fallback = if source.is_fallback {
        experiment.fallback.set.clone()
    } else {
        Table::new()
    };

    let fingerprints = source
        .categories
        .iter()
        .map(|category| Ok((category.clone(), fingerprint(&source.root, category)?)));
    let categories = fingerprints.collect::<Result<Vec<_>>>()?;
    let choice = Choice {
        dataset: &source.name,
        categories: &categories,
        protocols: if arguments.protocol.is_empty() {
            &experiment.protocols
        } else {
            &arguments.protocol
        },
        backbone,
        weights,
        seeds: arguments.seeds.as_ref().map_or(&experiment.seeds, |seeds| &seeds.0),
        set: &[&fallback, &set],
        only: &arguments.only,
    };
    plan::cells(library, experiment, &choice)
}

/// `--data`, else data/mvtec, else the procedural set.
fn find_data(arguments: &Arguments, root: &Path, experiment: &Experiment) -> Result<Source> {
    let local = root.join("data/mvtec");
    let given = arguments.data.clone().or_else(|| local.is_dir().then_some(local));
    let (name, root, is_fallback) = match given {
        Some(folder) => (experiment.dataset.clone(), folder, false),
        None => (
            experiment.fallback.dataset.clone(),
            toy::generate(&root.join("data/toy"), TOY_SEED)?,
            true,
        ),
    };
    let categories = mvtec::categories(&root)?;
    Ok(Source {
        name,
        root,
        categories,
        is_fallback,
    })
}

/// Relative path and size of every file of a category: cheap, and changes when an image is added, removed or replaced by
/// one of another size.
fn fingerprint(root: &Path, category: &str) -> Result<String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.join(category)];
    while let Some(folder) = folders.pop() {
        let context = || format!("failed to read `{}`", folder.display());
        for entry in std::fs::read_dir(&folder).with_context(context)? {
            let entry = entry.with_context(context)?;
            let metadata = std::fs::metadata(entry.path()).with_context(context)?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path();
                let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                files.insert(relative, metadata.len());
            }
        }
    }
    Ok(files.iter().map(|(path, bytes)| format!("{path} {bytes}\n")).collect())
}

/// Writes what stands beside the rows: the machine, and the complete configuration of every cell.
fn describe_run(out: &Path, cells: &[&Cell], threads: usize) -> Result<()> {
    write_atomic(&out.join("machine.txt"), workspace::machine(threads).as_bytes())?;
    for cell in cells {
        let path = out.join("configs").join(format!("{}.toml", cell.config_sha256));
        write_atomic(&path, cell.config_toml.as_bytes())?;
    }
    Ok(())
}

fn run_missing(
    missing: &[&Cell],
    source: &Source,
    weights: &weights::Weights,
    root: &Path,
    out: &Path,
    csv: &Path,
    threads: usize,
) -> Result<Vec<anyhow::Error>> {
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    // A second Ctrl-C ends the process at once; finished rows are on disk either way.
    let stop = || {
        if run::STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(stop).context("failed to listen for Ctrl-C")?;
    let sheets = out.join("sheets");
    let run = Run {
        results: csv,
        sheets: &sheets,
        device: "cpu",
        threads,
        commit: workspace::commit(root),
        memory: BankMemory::new(workspace::memory_budget()),
    };
    let dataset = |category: &str| -> Result<Dataset> { Ok(mvtec::load(&source.root, category)?) };
    let backbone = |config: &simplenet::config::Config| -> Result<Backbone> {
        let last = config.features.stages.iter().copied().max().unwrap_or(Stage::Layer3);
        weights.load(config.features.backbone, last)
    };
    let mut progress = Progress::new(missing.len());
    let mut failures = Vec::new();
    for group in missing.chunk_by(|left, right| left.shares_bank(right)) {
        match run.group(group, &dataset, &backbone, &mut progress) {
            Ok(failed) => failures.extend(failed),
            Err(error) => {
                progress.end();
                return Err(error);
            }
        }
    }
    progress.end();
    Ok(failures)
}
