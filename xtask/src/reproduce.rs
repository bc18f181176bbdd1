//! `cargo xtask reproduce`: from the command line to printed tables.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use simplenet::BankMemory;
use simplenet::device::Device;
use simplenet_backbone::{Arch, Backbone, Checkpoint, Stage};
use simplenet_report::{Row, results};
use toml::Table;

use crate::experiment::{Experiment, Library, Limit, Named, Protocol, Show, parse_set};
use crate::folder::RunFolder;
use crate::plan::{self, Cell, Choice, Images, NothingMatches, Only, Runnable};
use crate::progress::Progress;
use crate::run::{self, Run, Stopped};
use crate::shard::Shard;
use crate::source::{Given, Source};
use crate::weights::{Arsenal, Weights};
use crate::{exhibits, report, workspace};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Which table or figure, for example `table1`; `all` for every one
    experiment: String,
    /// Folder of MVTec AD, with one folder per category
    #[arg(long, value_name = "DIR", env = "MVTEC_AD")]
    data: Option<PathBuf>,
    /// Folder of CIFAR-10: its binary files, or train/CLASS and test/CLASS
    #[arg(long, value_name = "DIR", env = "CIFAR10")]
    cifar10: Option<PathBuf>,
    /// A small version on the procedural set, whatever else is there: few images, few epochs, the embedded backbone
    #[arg(long)]
    quick: bool,
    /// Run only cells with this value of category, variant, protocol or seed; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = Only::parse)]
    only: Vec<Only>,
    /// Frozen network, for example `resnet18`
    #[arg(long)]
    backbone: Option<Arch>,
    /// Its checkpoint (.safetensors or .pth); otherwise the embedded or downloaded weights. Where variants have backbones of their
    /// own and `--backbone` names none, it is for the one that it looks like
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
    /// Seeds from A up to but not including B; a single number is that seed alone
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: Option<Seeds>,
    /// Train on at most so many images of a category, a seeded subset; the rows say so
    #[arg(long, value_name = "N", value_parser = parse_limit)]
    limit_train: Option<usize>,
    /// Test on at most so many images, the same share of every defect or class; the rows say so
    #[arg(long, value_name = "N", value_parser = parse_limit)]
    limit_test: Option<usize>,
    /// Any other value of the configuration, for example `train.noise=0.1`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Part I of N of the plan, from 0, with rows in a file of its own; `cargo xtask report` merges them
    #[arg(long, value_name = "I/N", value_parser = Shard::parse)]
    shard: Option<Shard>,
    /// Where to compute
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Threads; 0 is one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Folder of this run's rows and figures [default: results/local-DATASET]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also keep the image scores and anomaly maps at `last` of every cell that runs, as CSV and .npy in the run's folder `kept`
    #[arg(long)]
    keep_maps: bool,
    /// Print the plan, what is done and how long the rest takes; train nothing
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

fn parse_limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("a subset has at least 1 image; without the option it has all".into()),
        Ok(count) => Ok(count),
        Err(_) => Err(format!("`{text}` is not a number of images")),
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let root = workspace::root()?;
    let library = Library::open(&root.join("xtask/experiments"))?;
    let experiments = match arguments.experiment.as_str() {
        "all" => library.all()?,
        id => vec![library.experiment(id)?],
    };
    // The run's document is of all; a file that is broken is better known before the work.
    let all = library.all()?;
    let device = match arguments.device {
        DeviceChoice::Cpu => Device::Cpu,
        DeviceChoice::Cuda => Device::cuda(0)?,
        DeviceChoice::Auto => Device::cuda(0).unwrap_or_else(|error| {
            // A build without CUDA promises no GPU, and needs no word.
            if cfg!(feature = "cuda") {
                let error = error.to_string();
                errln!("running on the processor: {}", error.lines().next().unwrap_or_default());
            }
            Device::Cpu
        }),
    };
    rayon::ThreadPoolBuilder::new()
        .num_threads(arguments.threads)
        .build_global()
        .context("failed to start the threads")?;
    // A second Ctrl-C ends the process at once; finished rows are on disk either way.
    let stop = || {
        if run::STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(stop).context("failed to listen for Ctrl-C")?;

    if arguments.quick && (arguments.data.is_some() || arguments.cifar10.is_some()) {
        errln!(
            "`--quick` runs on the procedural set; the folders of `--data`, `--cifar10`, MVTEC_AD and CIFAR10 are not looked at"
        );
    }
    let mut failures = Vec::new();
    let mut nothing = None;
    let mut folders: Vec<RunFolder> = Vec::new();
    // All data sets are looked for before hours are spent on the first.
    let sessions: Vec<Session<'_>> = experiments
        .iter()
        .map(|experiment| Session::new(arguments, &root, &library, experiment, &device))
        .collect::<Result<_>>()?;
    for session in sessions {
        let experiment = session.experiment;
        if experiments.len() > 1 {
            errln!("\n{}: {} ({})", experiment.paper, experiment.title, experiment.id);
        }
        match session.run() {
            Ok(failed) => failures.extend(failed),
            Err(error) if error.is::<Stopped>() => {
                errln!(
                    "stopped; what is finished is in {}, and the same command goes on from there",
                    session.csv().display()
                );
                return Ok(ExitCode::from(130));
            }
            // Another experiment may have such cells.
            Err(error) if experiments.len() > 1 && error.is::<NothingMatches>() => {
                errln!("skipped: {}", error.to_string().lines().next().unwrap_or_default());
                nothing = Some(error);
                continue;
            }
            Err(error) if experiments.len() > 1 => {
                failures.push(error.context(format!("experiment `{}`", experiment.id)))
            }
            Err(error) => return Err(error),
        }
        if !folders.iter().any(|folder| folder.path() == session.folder.path()) {
            folders.push(session.folder);
        }
    }
    // No experiment had such cells.
    if let (Some(error), true, true) = (nothing, folders.is_empty(), failures.is_empty()) {
        return Err(error);
    }
    if !arguments.list {
        for folder in &folders {
            report::write_text(&root, folder, &all)?;
            report::write_page(&root, folder, &all)?;
        }
    }
    for failure in &failures {
        errln!("{}", crate::render(failure));
    }
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Weights of every backbone that the plan needs.
type Found = Vec<(Arch, Weights)>;

/// One experiment with everything that the command line decides about it.
struct Session<'a> {
    arguments: &'a Arguments,
    root: &'a Path,
    library: &'a Library,
    experiment: &'a Experiment,
    source: Source,
    backbone: Arch,
    folder: RunFolder,
    device: &'a Device,
}

impl<'a> Session<'a> {
    fn new(
        arguments: &'a Arguments,
        root: &'a Path,
        library: &'a Library,
        experiment: &'a Experiment,
        device: &'a Device,
    ) -> Result<Session<'a>> {
        let given = Given {
            mvtec: arguments.data.as_deref(),
            cifar10: arguments.cifar10.as_deref(),
            limit: Limit {
                train: arguments.limit_train,
                test: arguments.limit_test,
            },
            is_quick: arguments.quick,
        };
        let source = Source::find(experiment, &given, root)?;
        let usual = if source.is_fallback {
            experiment.fallback.backbone
        } else {
            experiment.backbone
        };
        let out = arguments
            .out
            .clone()
            // Not the folder of the committed runs: a fresh clone trains, and does not find itself done.
            .unwrap_or_else(|| root.join("results").join(format!("local-{}", source.folder)));
        Ok(Session {
            arguments,
            root,
            library,
            experiment,
            backbone: arguments.backbone.unwrap_or(usual),
            folder: RunFolder::new(out),
            device,
            source,
        })
    }

    fn csv(&self) -> PathBuf {
        self.folder.rows_file(&self.experiment.id, self.arguments.shard)
    }

    /// Runs what is missing, prints the tables, and returns the reasons of the cells that failed.
    fn run(&self) -> Result<Vec<anyhow::Error>> {
        let Session {
            arguments, experiment, ..
        } = self;
        let named = match experiment.dataset {
            Named::Mvtec => Some(("MVTec AD", "fetch mvtec` or `--data DIR`")),
            Named::Cifar10 => Some(("CIFAR-10", "fetch cifar10` or `--cifar10 DIR`")),
            Named::Toy | Named::ToyOneClass => None,
        };
        if let Some((name, option)) = named.filter(|_| self.source.is_fallback && !arguments.quick) {
            errln!(
                "{name} is not here: running the procedural set with {}. These numbers are not the paper's; for those, \
                 `cargo xtask data {option}.",
                self.backbone
            );
        }
        let file = arguments.weights.as_deref();
        let arsenal = Arsenal::new(self.root, self.weights_are_for(file), file);
        let (runnable, weights) = self.runnable(&arsenal)?;
        let cells = self.plan(&runnable)?;
        let rows = self.folder.rows(&experiment.id)?;
        if arguments.list {
            outln!("{}: {}", experiment.paper, experiment.title);
            outln!(
                "{}\ncost: {}\nexpected: {}",
                experiment.why.trim(),
                experiment.cost,
                experiment.expectation
            );
            outln!("{}", plan::describe(&cells, &rows, &self.csv()).trim_end());
            return Ok(Vec::new());
        }
        self.folder.create()?;
        let missing: Vec<&Cell> = cells.iter().filter(|cell| !cell.is_done(&rows)).collect();
        if missing.len() < cells.len() {
            let done: Vec<&Cell> = cells.iter().filter(|cell| cell.is_done(&rows)).collect();
            self.take_up(&done, &rows, cells.len())?;
            if arguments.keep_maps {
                errln!(
                    "`--keep-maps` keeps those of cells that run now, and not of the {} that are done",
                    done.len()
                );
            }
        }
        let failures = self.run_missing(&missing, &weights)?;
        let rows = self.folder.rows(&experiment.id)?;
        let owned: Vec<Row> = rows
            .into_iter()
            .filter(|row| cells.iter().any(|cell| cell.owns(row)))
            .collect();
        if !owned.is_empty() {
            let exhibits = report::exhibits(self.root, &self.folder, experiment, &owned)?;
            for (caption, table) in &exhibits.tables {
                outln!("\n{caption}\n\n{}", table.to_text());
            }
        }
        report::after(self.root, &self.folder, experiment)?;
        Ok(failures)
    }

    /// Says which cells are done already, and makes their rows those that tables show: what was asked for last is meant, also
    /// where another configuration of a cell was run in between. Rows in the files of other shards stay where they are, behind
    /// those of the whole until they are merged.
    fn take_up(&self, done: &[&Cell], rows: &[Row], all: usize) -> Result<()> {
        let owned = |row: &Row| done.iter().any(|cell| cell.owns(row));
        let csv = self.csv();
        errln!("{} of {all} cells are in {} already", done.len(), csv.display());
        let here = workspace::commit(self.root);
        let others: BTreeSet<&str> = rows
            .iter()
            .filter(|row| owned(row) && row.commit != here)
            .map(|row| row.commit.as_str())
            .collect();
        if !others.is_empty() {
            let others: Vec<&str> = others.into_iter().collect();
            errln!(
                "some of them were made by other commits than {here} ({}); a cell whose rows are deleted there runs again",
                others.join(", ")
            );
        }
        let shown = exhibits::newest(rows);
        if rows.iter().any(|row| owned(row) && !shown.contains(row)) && csv.exists() {
            results::move_to_end(&csv, owned)?;
        }
        Ok(())
    }

    /// The backbone that `--weights` is for: the one that `--backbone` names; or where variants have backbones of their own, the
    /// one of them that the file looks like.
    fn weights_are_for(&self, file: Option<&Path>) -> Arch {
        let variants = &self.experiment.variants;
        let is_own = |backbone: Arch| variants.iter().any(|variant| variant.backbone == Some(backbone));
        if self.arguments.backbone.is_some() || variants.iter().all(|variant| variant.backbone.is_none()) {
            return self.backbone;
        }
        // What is wrong with the file is said by whom it is for.
        let checkpoint = file.and_then(|file| Checkpoint::open(file).ok());
        let looks_like = checkpoint.and_then(|checkpoint| checkpoint.looks_like());
        looks_like.filter(|found| is_own(*found)).unwrap_or(self.backbone)
    }

    /// The variants whose weights are here, and those weights. A variant with a backbone of its own may lack them; the others
    /// may not.
    fn runnable(&self, arsenal: &Arsenal) -> Result<(Vec<Runnable<'a>>, Found)> {
        let mut runnable = Vec::new();
        let mut found = Found::new();
        let mut lacking = None;
        for variant in &self.experiment.variants {
            let backbone = variant.backbone.unwrap_or(self.backbone);
            if !found.iter().any(|(known, _)| *known == backbone) {
                match arsenal.find(backbone) {
                    Ok(weights) => found.push((backbone, weights)),
                    Err(error) if variant.backbone.is_some() && !arsenal.is_named(backbone) => {
                        let text = crate::render(&error);
                        let text = text.strip_prefix("error: ").unwrap_or(&text);
                        errln!(
                            "variant `{}` cannot run here: {}",
                            variant.name,
                            text.replace("\n\nhint: ", "; ")
                        );
                        lacking = Some(error);
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            let identity = found
                .iter()
                .find(|(known, _)| *known == backbone)
                .map(|(_, weights)| weights.identity());
            runnable.push(Runnable {
                variant,
                backbone,
                weights: identity.unwrap_or_default().to_string(),
            });
        }
        if let Some(file) = self
            .arguments
            .weights
            .as_deref()
            .filter(|_| self.arguments.experiment != "all")
            && !found.iter().any(|(backbone, _)| arsenal.is_named(*backbone))
        {
            bail!(
                "`{}` is for none of the variants' backbones\n\nhint: `--backbone NAME` says which it is for, and the variant with it runs",
                file.display()
            );
        }
        match lacking {
            Some(error) if runnable.is_empty() => Err(error),
            _ => Ok((runnable, found)),
        }
    }

    fn plan(&self, runnable: &[Runnable]) -> Result<Vec<Cell>> {
        let Session {
            arguments, experiment, ..
        } = self;
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
        let mut over: Vec<&Table> = Vec::new();
        if self.source.is_fallback {
            over.push(&experiment.fallback.set);
        }
        if arguments.quick {
            over.push(&experiment.quick.set);
        }
        over.push(&set);
        let images = |category: &String| {
            Ok(Images {
                category: category.clone(),
                dataset: self.source.name(category),
                fingerprint: self.source.fingerprint(category)?,
            })
        };
        let categories = self.source.categories.iter().map(images).collect::<Result<Vec<_>>>()?;
        let given = &arguments.protocol;
        let choice = Choice {
            categories: &categories,
            protocols: if given.is_empty() { &experiment.protocols } else { given },
            variants: runnable,
            seeds: arguments.seeds.as_ref().map_or(&experiment.seeds, |seeds| &seeds.0),
            set: &over,
            only: &arguments.only,
        };
        let cells = plan::cells(self.library, experiment, &choice)?;
        Ok(match arguments.shard {
            Some(shard) => shard.select(cells),
            None => cells,
        })
    }

    fn run_missing(&self, missing: &[&Cell], weights: &[(Arch, Weights)]) -> Result<Vec<anyhow::Error>> {
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let arguments = self.arguments;
        let (id, shard) = (&self.experiment.id, arguments.shard);
        let threads = rayon::current_num_threads();
        self.folder
            .describe(id, shard, &workspace::machine(threads), &workspace::command())?;
        for cell in missing {
            self.folder.write_config(&cell.config_sha256, &cell.config_file)?;
        }
        let device = match self.experiment.show {
            // Single images are scored on the processor, and half a GPU's time would be nobody's.
            Show::Speed { .. } if self.device.name() != Device::Cpu.name() => {
                errln!("times of single images are taken on the processor: running `{id}` there");
                Device::Cpu
            }
            _ => self.device.clone(),
        };
        let run = Run {
            results: self.csv(),
            measurements: self.folder.measurements_file(id, shard),
            sheets: self.folder.sheets(),
            gallery: self.folder.gallery(),
            kept: arguments.keep_maps.then(|| self.folder.path().join("kept")),
            show: &self.experiment.show,
            expects_masks: self.source.expects_masks(),
            device,
            threads,
            commit: workspace::commit(self.root),
            memory: BankMemory::new(workspace::memory_budget()),
            test_bank: RefCell::new(None),
        };
        let backbone = |config: &simplenet::config::Config| -> Result<Backbone> {
            let arch = config.features.backbone;
            let last = config.features.stages.iter().copied().max().unwrap_or(Stage::Layer3);
            match weights.iter().find(|(known, _)| *known == arch) {
                Some((_, weights)) => weights.load(arch, last),
                None => bail!("there are no weights for `{arch}`"),
            }
        };
        let mut progress = Progress::new(missing.len());
        let mut failures = Vec::new();
        for group in missing.chunk_by(|left, right| left.shares_bank(right)) {
            match run.group(group, &|category| self.source.load(category), &backbone, &mut progress) {
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
}
