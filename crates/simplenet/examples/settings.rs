//! Measures settings of `simplenet train` on labelled sets, as a user would: trains with the program, evaluates with the
//! program, writes a row per setting and set.
//!
//!     cargo run --release -p simplenet --example settings -- target/release/simplenet results/detector/settings.csv bottle=data/mvtec/bottle ...
//!
//! With `--pictures 10,30,100` before the sets it measures the default setting instead, on as many of the good pictures: three
//! draws of each number, evenly spaced over the folder.
//!
//! Rows that are there are not measured again; settings of ResNet-18 are left out where its weights are not there. A set is
//! a folder with train/good, test and ground_truth.
#![expect(clippy::print_stderr, reason = "progress of an example")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use simplenet::write_atomic;

/// How to train.
struct Training {
    arguments: &'static [&'static str],
    /// Name of the row, and how the threshold is chosen afterwards; no arguments leave it as it is.
    rows: &'static [(&'static str, &'static [&'static str])],
}

const fn training(
    arguments: &'static [&'static str],
    rows: &'static [(&'static str, &'static [&'static str])],
) -> Training {
    Training { arguments, rows }
}

/// Where `cargo xtask data fetch weights` puts it.
const RESNET: &str = "data/weights/resnet18/model.safetensors";

const TRAININGS: [Training; 10] = [
    training(
        &[],
        &[
            ("default", &[]),
            ("confident", &["--max-false-reject", "0.01", "--confident"]),
            ("5 % false rejects", &["--max-false-reject", "0.05"]),
        ],
    ),
    training(&["--vectors", "20000"], &[("20000 vectors", &[])]),
    training(&["--method", "simplenet"], &[("simplenet", &[])]),
    training(
        &["--method", "simplenet", "--auto-stop"],
        &[("simplenet with auto-stop", &[])],
    ),
    training(&["--method", "padim"], &[("padim", &[])]),
    training(&["--middle", "224"], &[("middle 224 of 256", &[])]),
    training(&["--resize", "320", "--tile", "320"], &[("320", &[])]),
    training(&["--resize", "512", "--tile", "512"], &[("512", &[])]),
    training(&["--resize", "512"], &[("512 in tiles of 256", &[])]),
    training(&["--backbone", "resnet18", "--weights", RESNET], &[("ResNet-18", &[])]),
];

const HEADER: &str = "set,setting,arguments,images,train_seconds,file_mb,threshold,image_auroc,pixel_auroc,aupro,good,good_rejected,defects,defects_found,evaluate_seconds";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: settings PROGRAM OUT.csv [--pictures N,...] NAME=DIR...";
    let [program, out, sets @ ..] = &arguments[..] else {
        bail!(usage);
    };
    let (counts, sets) = match sets {
        [option, counts, sets @ ..] if option == "--pictures" => (Some(counts), sets),
        sets => (None, sets),
    };
    let counts: Option<Vec<usize>> = counts
        .map(|counts| counts.split(',').map(str::parse).collect::<Result<_, _>>())
        .transpose()
        .context(usage)?;
    let mut table = Table::open(program, Path::new(out));
    for set in sets {
        let (set, folder) = set.split_once('=').context("a set is NAME=DIR")?;
        match &counts {
            None => table.settings(set, folder)?,
            Some(counts) => counts.iter().try_for_each(|&count| table.fewer(set, folder, count))?,
        }
    }
    Ok(())
}

/// Rows, and the program that is measured.
struct Table<'a> {
    program: &'a str,
    out: &'a Path,
    rows: Vec<String>,
}

impl<'a> Table<'a> {
    /// Goes on where the file ends, if there is one.
    fn open(program: &'a str, out: &'a Path) -> Table<'a> {
        let rows = match std::fs::read_to_string(out) {
            Ok(text) => text.lines().map(str::to_string).collect(),
            Err(_) => vec![HEADER.to_string()],
        };
        Table { program, out, rows }
    }

    fn has(&self, set: &str, name: &str) -> bool {
        self.rows.iter().any(|row| row.starts_with(&format!("{set},{name},")))
    }

    fn push(&mut self, row: String) -> Result<()> {
        eprintln!("{row}");
        self.rows.push(row);
        write_atomic(self.out, format!("{}\n", self.rows.join("\n")).as_bytes())?;
        Ok(())
    }

    fn settings(&mut self, set: &str, folder: &str) -> Result<()> {
        for training in &TRAININGS {
            let missing: Vec<_> = training.rows.iter().filter(|(name, _)| !self.has(set, name)).collect();
            if missing.is_empty() {
                continue;
            }
            if training.arguments.contains(&RESNET) && !Path::new(RESNET).exists() {
                eprintln!("skipped {set}, {}: there is no {RESNET}", missing[0].0);
                continue;
            }
            let temporary = tempfile::tempdir()?;
            let file = temporary.path().join("part.simplenet");
            let trained = train(self.program, folder.as_ref(), &file, training.arguments)
                .with_context(|| format!("{set}, {}", training.arguments.join(" ")))?;
            for (name, threshold) in missing {
                let row = measure(self.program, folder, &file, &trained, threshold)
                    .with_context(|| format!("{set}, {name}"))?;
                let arguments = [training.arguments, threshold].concat().join(" ");
                self.push(format!("{set},{name},{arguments},{row}"))?;
            }
        }
        Ok(())
    }

    /// The default setting on `count` good pictures, each draw beginning at another one.
    fn fewer(&mut self, set: &str, folder: &str, count: usize) -> Result<()> {
        const DRAWS: usize = 3;
        let good = Path::new(folder).join("train/good");
        let mut pictures: Vec<PathBuf> = std::fs::read_dir(&good)
            .with_context(|| good.display().to_string())?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        pictures.sort();
        for draw in 0..DRAWS {
            let name = format!("{count} pictures draw {draw}");
            if count >= pictures.len() || self.has(set, &name) {
                continue;
            }
            let temporary = tempfile::tempdir()?;
            let (few, file) = (temporary.path().join("good"), temporary.path().join("part.simplenet"));
            std::fs::create_dir(&few)?;
            for index in 0..count {
                let picture = &pictures[(index * DRAWS + draw) * pictures.len() / (count * DRAWS)];
                std::fs::copy(picture, few.join(picture.file_name().context("a picture has a name")?))?;
            }
            let trained = train(self.program, &few, &file, &[]).with_context(|| format!("{set}, {name}"))?;
            let row = measure(self.program, folder, &file, &trained, &[]).with_context(|| format!("{set}, {name}"))?;
            self.push(format!("{set},{name},,{row}"))?;
        }
        Ok(())
    }
}

/// Images that were trained on, and how long it took.
struct Trained {
    images: Value,
    seconds: f64,
}

fn train(program: &str, folder: &Path, file: &Path, arguments: &[&str]) -> Result<Trained> {
    let mut train: Vec<&OsStr> = vec!["train".as_ref(), folder.as_ref(), "--out".as_ref(), file.as_ref()];
    train.extend(arguments.iter().map(OsStr::new));
    let start = Instant::now();
    let card = run(program, &train)?;
    Ok(Trained {
        images: card["data"]["images"].clone(),
        seconds: start.elapsed().as_secs_f64(),
    })
}

fn measure(program: &str, folder: &str, file: &Path, trained: &Trained, threshold: &[&str]) -> Result<String> {
    if !threshold.is_empty() {
        let mut change: Vec<&OsStr> = vec!["threshold".as_ref(), file.as_ref()];
        change.extend(threshold.iter().map(OsStr::new));
        run(program, &change)?;
    }
    let start = Instant::now();
    let report = run(program, &["evaluate".as_ref(), file.as_ref(), folder.as_ref()])?;
    let evaluate_seconds = start.elapsed().as_secs_f64();
    let number = |value: &Value| value.as_f64().map_or(String::new(), |value| format!("{value:.4}"));
    Ok(format!(
        "{},{:.1},{:.1},{},{},{},{},{},{},{},{},{evaluate_seconds:.1}",
        trained.images,
        trained.seconds,
        std::fs::metadata(file)?.len() as f64 / 1e6,
        number(&report["threshold"]),
        number(&report["image_auroc"]),
        number(&report["pixel_auroc"]),
        number(&report["aupro"]),
        report["good"]["images"],
        report["good"]["rejected"],
        report["defects"]["images"],
        report["defects"]["rejected"],
    ))
}

fn run(program: &str, arguments: &[&OsStr]) -> Result<Value> {
    let out = Command::new(program)
        .args(arguments)
        .args(["--quiet", "--json"])
        .output()?;
    if !out.status.success() {
        bail!("{}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(serde_json::from_slice(&out.stdout)?)
}
