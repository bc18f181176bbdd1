//! The command line.

use std::fs::File;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use sha2::{Digest, Sha256};
use simplenet::{Detector, LoadOptions, Method};
use simplenet_backbone::{Arch, Precision, Stage};

/// The most that is read of a detector file; the library refuses one as large.
const LARGEST: u64 = (1 << 30) + 1;

/// Heading of the options that every verb has.
const EVERYWHERE: &str = "Options of every command";

#[derive(Parser)]
#[command(
    name = "simplenet",
    version,
    about = "Learn from photographs of good parts, then find those that are not",
    long_about = "Learn from photographs of good parts, then find those that are not. Everything is in this program: no \
                  downloads, no network.\n\n  simplenet train good/ --out part.simplenet\n  simplenet predict \
                  part.simplenet new/ --heatmaps maps/"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Args, Clone)]
pub(crate) struct Common {
    /// Print errors and data only
    #[arg(long, short, global = true, help_heading = EVERYWHERE)]
    pub(crate) quiet: bool,
    /// Print JSON instead of text
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    /// Threads; all cores if not given. Scores do not depend on it
    #[arg(long, global = true, value_name = "N", value_parser = threads, help_heading = EVERYWHERE)]
    pub(crate) threads: Option<usize>,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Make a detector from a folder of good parts
    Train(Train),
    /// Judge images: one JSON line each
    ///
    /// An image whose score is above the threshold is good where no region of it is as large as the detector's
    /// --min-defect-area; `too_small` then counts its regions.
    Predict(Predict),
    /// Measure a detector on labelled images
    Evaluate(Evaluate),
    /// Show or change the threshold
    Threshold(Threshold),
    /// Show what a detector was made of and what to expect of it
    Inspect(Inspect),
    /// Measure latency and throughput
    Bench(Bench),
    /// Judge images as they arrive in a folder, each once, for as long as it runs
    ///
    /// The detector is read once: start it again after `threshold`.
    Watch(Watch),
    /// Write the man pages, or the completions of a shell
    Manual(Manual),
}

#[derive(Args)]
pub(crate) struct Train {
    /// Folder of good parts (images directly in it; those in its folders are counted and not used), a category in MVTec AD's
    /// layout, or a glob in quotes such as 'good/**/*'
    pub(crate) good: PathBuf,
    /// The detector file to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// An HTML page to write: what was found out about the good parts, and those of them that look least like the others, as models saw
    /// them that had not learnt from them
    #[arg(long, value_name = "FILE")]
    pub(crate) page: Option<PathBuf>,
    /// Labelled images to measure the detector on: good/ and one folder per defect, in this folder or in its folder test;
    /// nothing is learnt from them
    #[arg(long, value_name = "DIR")]
    pub(crate) test: Option<PathBuf>,
    /// Share of good parts that may be rejected
    #[arg(long, value_name = "RATE", default_value_t = 0.01, value_parser = rate)]
    pub(crate) max_false_reject: f64,
    /// Keep that share with 95 % confidence, and not only on average: fewer false rejects, fewer defects found
    #[arg(long)]
    pub(crate) confident: bool,
    /// Smallest region that is a defect, in pixels of the image; an image above the threshold without one as large is good. A
    /// region is many times as large as the defect that it marks: choose from areas that `predict` has reported
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    pub(crate) min_defect_area: u64,
    /// A mask of the images' size: only its white part is judged and learnt from
    #[arg(long, value_name = "FILE")]
    pub(crate) roi: Option<PathBuf>,
    /// A mask of the images' size: its white part is not judged and not learnt from
    #[arg(long, value_name = "FILE")]
    pub(crate) ignore: Option<PathBuf>,
    /// What is learnt from the features of the good parts; `patchcore` if not given
    #[arg(long, value_enum)]
    pub(crate) method: Option<MethodName>,
    /// Frozen network; all but the default need --weights
    #[arg(long, default_value_t = Arch::EfficientNetLite0)]
    pub(crate) backbone: Arch,
    /// Its checkpoint (.safetensors or .pth)
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: Option<PathBuf>,
    /// Layers of the network whose features are joined, such as `1,2,3`; `2,3` if not given. The first one's grid is that of the
    /// map: a patch of layer 1 is 4 pixels wide, of layer 2 8, of layer 3 16
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = layer)]
    pub(crate) layers: Vec<Stage>,
    /// Passes of `simplenet` over the images, instead of a number of steps that suits any number of images
    #[arg(long, value_name = "N")]
    pub(crate) epochs: Option<usize>,
    /// Train `simplenet` only until held-out good images and the same with noise move no further apart
    #[arg(long)]
    pub(crate) auto_stop: bool,
    /// Width of the hidden layer of `simplenet`'s discriminator, instead of the backbone's default
    #[arg(long, value_name = "N")]
    pub(crate) hidden: Option<usize>,
    /// Standard deviation of the noise that stands for defects in `simplenet`, instead of the backbone's default
    #[arg(long, value_name = "SIGMA")]
    pub(crate) noise: Option<f64>,
    /// Arithmetic of training and inference; bf16 rounds to two or three digits, and is faster, ResNets by half or more, where
    /// the processor multiplies it: with AMX, or AMD's with AVX512-BF16
    #[arg(long, value_name = "NAME", default_value = "f32")]
    pub(crate) precision: PrecisionArgument,
    /// Patches that `patchcore` remembers at most; 5000 if not given
    #[arg(long, value_name = "N")]
    pub(crate) vectors: Option<usize>,
    /// Length of the picture's shorter side after resizing; 256 if not given. More pixels show smaller defects and take
    /// longer
    #[arg(long, value_name = "PIXELS")]
    pub(crate) resize: Option<usize>,
    /// Side of the squares that cover the resized picture; 256 if not given, or the picture's shorter side where that is
    /// less
    #[arg(long, value_name = "PIXELS")]
    pub(crate) tile: Option<usize>,
    /// Pixels that neighbouring squares share; a quarter of a square if not given
    #[arg(long, value_name = "PIXELS")]
    pub(crate) overlap: Option<usize>,
    /// Judge only the middle square of this side, after resizing, as the papers do
    #[arg(long, value_name = "PIXELS", conflicts_with_all = ["tile", "overlap"])]
    pub(crate) middle: Option<usize>,
    /// Parts into which the images are divided for held-out scores
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) folds: usize,
    /// Seed of weights, noise and order
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

/// `--precision`.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum PrecisionArgument {
    /// 24 bits of significand
    F32,
    /// Factors rounded to 8 bits of significand, sums in f32
    Bf16,
}

impl From<PrecisionArgument> for Precision {
    fn from(argument: PrecisionArgument) -> Precision {
        match argument {
            PrecisionArgument::F32 => Precision::F32,
            PrecisionArgument::Bf16 => Precision::Bf16,
        }
    }
}

/// A method by its name.
#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "lowercase")]
pub(crate) enum MethodName {
    /// A network that tells features from noisy ones
    SimpleNet,
    /// The distance to the nearest of many remembered features
    PatchCore,
    /// The distance from a Gaussian for every position; for parts that always lie the same way
    Padim,
}

impl From<MethodName> for Method {
    fn from(name: MethodName) -> Method {
        match name {
            MethodName::SimpleNet => Method::SimpleNet,
            MethodName::PatchCore => Method::patchcore(),
            MethodName::Padim => Method::padim(),
        }
    }
}

/// A detector file, and how to load it.
#[derive(Args)]
pub(crate) struct Model {
    /// The detector file
    #[arg(value_name = "DETECTOR")]
    pub(crate) path: PathBuf,
    /// The backbone's checkpoint, where it is not in this program and has moved
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: Option<PathBuf>,
    /// Load even if the reference images no longer get their scores
    #[arg(long)]
    pub(crate) allow_drift: bool,
}

#[derive(Args)]
pub(crate) struct Predict {
    #[command(flatten)]
    pub(crate) model: Model,
    /// Images, folders (searched to the bottom) or globs; one that holds no image is a line with an error, and the others go
    /// on. `-` reads names from stdin, a line each, and answers each at once
    #[arg(required = true)]
    pub(crate) images: Vec<PathBuf>,
    /// Folder for pictures of the images under their anomaly maps: yellow to orange below the pixel threshold, crimson to violet
    /// from it on. Refused where one would replace an image that is judged
    #[arg(long, value_name = "DIR")]
    pub(crate) heatmaps: Option<PathBuf>,
    /// Folder for masks of the defects, white where a region is; another one than that of --heatmaps
    #[arg(long, value_name = "DIR")]
    pub(crate) masks: Option<PathBuf>,
    /// A table of all images, written when all are judged
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// An HTML page, written when all are judged: how many are good, and pictures of the images under their anomaly maps, from the
    /// highest score down. Not with `-`
    #[arg(long, value_name = "FILE")]
    pub(crate) page: Option<PathBuf>,
    /// Exit with 0 if all are good, 1 if there is a defect, 2 if something could not be judged or written, a picture was
    /// passed over (another format, a link to nothing) or there was none
    #[arg(long)]
    pub(crate) exit_code: bool,
}

#[derive(Args)]
pub(crate) struct Evaluate {
    #[command(flatten)]
    pub(crate) model: Model,
    /// Labelled images: good/ and one folder per defect, in this folder or in its folder test; masks in
    /// ground_truth/DEFECT beside good/ or beside test/
    pub(crate) dataset: PathBuf,
    /// An HTML page to write: tables, curves, every score, pictures of what was missed, rejected or just found
    #[arg(long, value_name = "FILE")]
    pub(crate) page: Option<PathBuf>,
    /// A table of the curves' points to write
    #[arg(long, value_name = "FILE")]
    pub(crate) curves: Option<PathBuf>,
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("rule").args(["max_false_reject", "value", "from_test"]))]
pub(crate) struct Threshold {
    #[command(flatten)]
    pub(crate) model: Model,
    /// Choose it for this share of rejected good parts, by the held-out scores in the file
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) max_false_reject: Option<f64>,
    /// Keep that share, or the one that it is chosen for already, with 95 % confidence, and not only on average
    #[arg(long, conflicts_with_all = ["value", "from_test"])]
    pub(crate) confident: bool,
    /// Set it
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    pub(crate) value: Option<f32>,
    /// From where on a pixel of a map is marked, instead of what the share of rejected good parts gives; `--value` and
    /// `--from-test` leave it as it is
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    pub(crate) pixel_value: Option<f32>,
    /// Choose it for the highest F1 on labelled images (a folder as `evaluate` takes it); measure on others afterwards
    #[arg(long, value_name = "DIR")]
    pub(crate) from_test: Option<PathBuf>,
    /// Smallest region that is a defect, in pixels of the image; an image above the threshold without one as large is good. A
    /// region is many times as large as the defect that it marks: choose from areas that `predict` has reported
    #[arg(long, value_name = "PIXELS")]
    pub(crate) min_defect_area: Option<u64>,
    /// From which `absence` on an image is a defect whatever its score is: 1 after training, more is more tolerant, `off` is never
    #[arg(long, value_name = "LIMIT", value_parser = max_absence, allow_negative_numbers = true)]
    pub(crate) max_absence: Option<MaxAbsence>,
    /// Write here instead of changing the file
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// A limit, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaxAbsence(pub(crate) Option<f32>);

fn max_absence(text: &str) -> Result<MaxAbsence, String> {
    match (text, text.parse::<f32>()) {
        (off, _) if off.eq_ignore_ascii_case("off") => Ok(MaxAbsence(None)),
        (_, Ok(limit)) => Ok(MaxAbsence(Some(limit))),
        (_, Err(_)) => Err("it is a number above 0, or `off`".into()),
    }
}

#[derive(Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    pub(crate) model: Model,
}

#[derive(Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) model: Model,
    /// An image as it comes from the camera
    pub(crate) image: PathBuf,
    /// Seconds to measure for
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
}

#[derive(Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) model: Model,
    /// The folder where images arrive, searched to the bottom
    pub(crate) folder: PathBuf,
    /// Folder of the log, judged.jsonl
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Folder for pictures of the images under their anomaly maps
    #[arg(long, value_name = "DIR")]
    pub(crate) heatmaps: Option<PathBuf>,
    /// Folder for masks of the defects; another one than that of --heatmaps
    #[arg(long, value_name = "DIR")]
    pub(crate) masks: Option<PathBuf>,
    /// Seconds between two looks at the folder
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    pub(crate) interval: f64,
    /// Seconds for which a file must not have changed; 0 where files are renamed into the folder
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub(crate) settle: f64,
    /// Stop when everything in the folder is judged
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Manual {
    /// Folder for the man pages: simplenet.1, simplenet-train.1, ...
    #[arg(long, value_name = "DIR")]
    pub(crate) man: Option<PathBuf>,
    /// Print the completions of this shell
    #[arg(long, value_name = "SHELL")]
    pub(crate) completions: Option<clap_complete::Shell>,
}

impl Model {
    pub(crate) fn load(&self) -> Result<Detector> {
        self.check()?;
        Ok(Detector::load(&self.path, &self.options())?)
    }

    /// Also what tells the file from other ones, and from the same with another threshold: the beginning of its SHA-256.
    pub(crate) fn load_identified(&self) -> Result<(Detector, String)> {
        self.check()?;
        let mut bytes = Vec::new();
        let file = File::open(&self.path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
        file.with_context(|| format!("cannot read {}", self.path.display()))?;
        let detector = Detector::from_bytes(&bytes, &self.path, &self.options())?;
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        Ok((detector, digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    fn check(&self) -> Result<()> {
        let path = self.path.display();
        if self.path.is_dir() {
            bail!("{path} is a folder and no detector\n\nhint: the file that `simplenet train` wrote comes first");
        }
        if let Ok(false) = self.path.try_exists() {
            bail!("there is no detector {path}\n\nhint: `simplenet train FOLDER --out {path}` makes one");
        }
        Ok(())
    }

    fn options(&self) -> LoadOptions {
        LoadOptions {
            weights: self.weights.clone(),
            allow_drift: self.allow_drift,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| *rate > 0.0 && *rate < 1.0);
    rate.ok_or_else(|| "a rate is a number between 0 and 1: 0.01 is one good part in a hundred".into())
}

fn layer(text: &str) -> Result<Stage, String> {
    let number = text.trim().parse::<usize>().ok();
    let stage = number.and_then(|number| Stage::ALL.get(number.checked_sub(1)?).copied());
    stage.ok_or_else(|| format!("a layer is a number from 1 to {}", Stage::ALL.len()))
}

fn threads(text: &str) -> Result<usize, String> {
    let threads: NonZeroUsize = text.parse().map_err(|error| format!("{error}"))?;
    Ok(threads.get())
}
