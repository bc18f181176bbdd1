//! Fetches data sets and weights, and checks those that are there.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Subcommand, ValueEnum};
use indicatif::{DecimalBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use simplenet_data::fetch::{self, Event, Installed, Licence, Manifest, Options, Retry, State};

use crate::workspace;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// The folder that holds or gets all of it, each set in a folder of its own [default: the project's data]
    #[arg(long, value_name = "DIR", global = true)]
    folder: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// Download a data set or weights; an interrupted download goes on where it ended
    Fetch(Fetch),
    /// Check everything that is there; exit with 1 if something is damaged
    Verify,
}

#[derive(clap::Args)]
struct Fetch {
    what: What,
    /// Another source of the same file; with one --category, also the archive of that category
    #[arg(long)]
    url: Option<String>,
    /// Extract only this category of MVTec AD (repeatable)
    #[arg(long)]
    category: Vec<String>,
    /// Accept the licence that is shown without this flag
    #[arg(long, alias = "accept-licence")]
    accept_license: bool,
    /// The network that the weights are for [default: wide_resnet50_2]
    #[arg(long, value_name = "ARCH")]
    backbone: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// MVTec AD: 5.3 GB, extracted as much again
    Mvtec,
    /// CIFAR-10, binary version: 170 MB
    Cifar10,
    /// Pretrained weights of a backbone: 19 to 276 MB
    Weights,
}

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let root = workspace::root()?;
    let manifest = Manifest::read(root.join("data/manifest.toml"))?;
    // Relative where it can be: messages are read from the project's folder.
    let data = match arguments.folder {
        Some(folder) => folder,
        None if std::env::current_dir().is_ok_and(|here| here == root) => PathBuf::from("data"),
        None => root.join("data"),
    };
    match arguments.verb {
        Verb::Fetch(arguments) => fetch(&manifest, &data, &arguments),
        Verb::Verify => verify(&manifest, &data),
    }
}

fn fetch(manifest: &Manifest, data: &Path, arguments: &Fetch) -> Result<ExitCode> {
    if !arguments.category.is_empty() && arguments.what != What::Mvtec {
        bail!("`--category` is for mvtec only");
    }
    if arguments.backbone.is_some() && arguments.what != What::Weights {
        bail!("`--backbone` is for weights only");
    }
    let options = Options {
        url: arguments.url.as_deref(),
        categories: &arguments.category,
        accept_licence: arguments.accept_license,
        retry: Retry::default(),
    };
    let mut watch = Watch::new();
    let mut progress = |event: Event<'_>| watch.event(event);
    match arguments.what {
        What::Mvtec => {
            let source = &manifest.mvtec;
            let done = fetch::mvtec(manifest, data, &options, &mut progress)?;
            watch.end();
            report(&source.title, &done, &source.licence, &source.citation);
        }
        What::Cifar10 => {
            let source = &manifest.cifar10;
            let done = fetch::cifar10(manifest, data, &options, &mut progress)?;
            watch.end();
            report(&source.title, &done, &source.licence, &source.citation);
        }
        What::Weights => {
            let arch = arguments.backbone.as_deref().unwrap_or("wide_resnet50_2");
            let path = fetch::weights_with(manifest, arch, data, &options, &mut progress)?;
            watch.end();
            let licence = &manifest.weights(arch)?.licence;
            outln!("{arch}: {} is there and whole", path.display());
            outln!("licence: {} ({})", licence.name, licence.url);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn report(title: &str, done: &Installed, licence: &Licence, citation: &str) {
    match done {
        Installed::Already(target) => outln!("{title}: {} is there and whole, nothing to do", target.display()),
        Installed::New { target, archive } => {
            outln!("{title}: now in {}", target.display());
            outln!("licence: {} ({})", licence.name, licence.url);
            outln!("cite: {citation}");
            outln!("{} may be deleted", archive.display());
        }
    }
}

fn verify(manifest: &Manifest, data: &Path) -> Result<ExitCode> {
    if !data.is_dir() {
        bail!(
            "there is no folder `{}`\n\nhint: name the one that holds the data with `--folder`, or `cargo xtask data fetch` makes it",
            data.display()
        );
    }
    let mut watch = Watch::new();
    let findings = fetch::verify(manifest, data, &mut |event| watch.event(event))?;
    watch.end();
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    let mut is_whole = true;
    for finding in &findings {
        let (word, detail) = match &finding.state {
            State::Ok(what) => ("ok", what.clone()),
            State::Missing(command) => ("missing", command.clone()),
            State::Damaged(problems) => {
                is_whole = false;
                ("damaged", problems.join("; "))
            }
        };
        outln!("{word:<7}  {:<width$}  {detail}", finding.name);
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A bar on a terminal; elsewhere a line when something happens, and now and then while it takes long.
struct Watch {
    bar: Option<ProgressBar>,
    phase: &'static str,
    spoke: Instant,
}

impl Watch {
    fn new() -> Watch {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style =
                "{prefix} {msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} (left {eta})";
            bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Watch {
            bar,
            phase: "",
            spoke: Instant::now(),
        }
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Requested { name, url } => self.say(&format!("{name}: from {url}")),
            Event::Resuming { name, bytes } => self.say(&format!("{name}: going on after {}", DecimalBytes(bytes))),
            Event::Restarting { name, reason } => self.say(&format!("{name}: from the beginning, because {reason}")),
            Event::Retrying {
                name,
                reason,
                wait,
                attempt,
                attempts,
            } => self.say(&format!(
                "{name}: {reason}; try {attempt} of {attempts} in {} s",
                wait.as_secs()
            )),
            Event::MovedAside { from, to } => self.say(&format!(
                "{} is damaged or unknown; it was moved to {}",
                from.display(),
                to.display()
            )),
            Event::Received { name, bytes, total } => self.at("downloading", name, bytes, total),
            Event::Hashed { name, bytes, total } => self.at("checking", name, bytes, Some(total)),
            Event::Extracted { name, bytes, total } => self.at("extracting", name, bytes, Some(total)),
            _ => {}
        }
    }

    fn at(&mut self, phase: &'static str, name: &str, bytes: u64, total: Option<u64>) {
        const SILENCE: Duration = Duration::from_secs(10);
        let Some(bar) = &self.bar else {
            if self.spoke.elapsed() > SILENCE {
                let of = total
                    .map(|total| format!(" of {}", DecimalBytes(total)))
                    .unwrap_or_default();
                self.say(&format!("{name}: {phase}, {}{of}", DecimalBytes(bytes)));
            }
            return;
        };
        if self.phase != phase {
            self.phase = phase;
            bar.reset();
            bar.set_prefix(phase);
            bar.set_message(name.to_owned());
            // What was there before says nothing about the speed.
            bar.set_position(bytes);
            bar.reset_eta();
        }
        match total {
            Some(total) => bar.set_length(total),
            None => bar.unset_length(),
        }
        bar.set_position(bytes);
    }

    fn say(&mut self, line: &str) {
        self.spoke = Instant::now();
        match &self.bar {
            Some(bar) => bar.suspend(|| errln!("{line}")),
            None => errln!("{line}"),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use simplenet_backbone::Arch;
    use simplenet_data::fetch::Manifest;

    #[test]
    fn every_backbone_can_be_fetched_from_its_own_repository() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/manifest.toml");
        let manifest = Manifest::read(path).unwrap();
        assert_eq!(manifest.weights.len(), Arch::ALL.len());
        for arch in Arch::ALL {
            let (source, description) = (manifest.weights(arch.name()).unwrap(), arch.describe());
            assert_eq!(source.repository, description.hub_repository);
            assert_eq!(source.file, description.hub_file);
        }
    }
}
