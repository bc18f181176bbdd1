//! Measures settings of `simplenet train` on labelled sets, as a user would: trains with the program, evaluates with the
//! program, writes a row per setting and set.
//!
//!     cargo run --release -p simplenet --example settings -- target/release/simplenet results/detector/settings.csv bottle=data/mvtec/bottle ...
//!
//! Rows that are there are not measured again. A set is a folder with train/good, test and ground_truth.
#![expect(clippy::print_stderr, reason = "progress of an example")]

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use simplenet::write_atomic;

/// Name and arguments.
const SETTINGS: [(&str, &[&str]); 7] = [
    ("default", &[]),
    ("confident", &["--confident"]),
    ("simplenet", &["--method", "simplenet"]),
    ("padim", &["--method", "padim"]),
    ("middle 224 of 256", &["--middle", "224"]),
    ("320", &["--resize", "320", "--tile", "320"]),
    ("tiles of 256 in 400", &["--resize", "400", "--tile", "256"]),
];

const HEADER: &str = "set,setting,arguments,images,train_seconds,file_mb,threshold,image_auroc,pixel_auroc,aupro,good,good_rejected,defects,defects_found,evaluate_seconds";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, out, sets @ ..] = &arguments[..] else {
        bail!("usage: settings PROGRAM OUT.csv NAME=DIR...");
    };
    let out = Path::new(out);
    let mut rows = match std::fs::read_to_string(out) {
        Ok(text) => text.lines().map(str::to_string).collect(),
        Err(_) => vec![HEADER.to_string()],
    };
    for set in sets {
        let (set, folder) = set.split_once('=').context("a set is NAME=DIR")?;
        for (name, arguments) in SETTINGS {
            let key = format!("{set},{name},");
            if rows.iter().any(|row| row.starts_with(&key)) {
                continue;
            }
            let row = measure(program, folder, arguments).with_context(|| format!("{set}, {name}"))?;
            eprintln!("{key}{row}");
            rows.push(format!("{key}{row}"));
            write_atomic(out, format!("{}\n", rows.join("\n")).as_bytes())?;
        }
    }
    Ok(())
}

fn measure(program: &str, folder: &str, arguments: &[&str]) -> Result<String> {
    let temporary = tempfile::tempdir()?;
    let file = temporary.path().join("part.simplenet");
    let mut train: Vec<&OsStr> = vec!["train".as_ref(), folder.as_ref(), "--out".as_ref(), file.as_ref()];
    train.extend(arguments.iter().map(OsStr::new));
    let start = Instant::now();
    let card = run(program, &train)?;
    let train_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let report = run(program, &["evaluate".as_ref(), file.as_ref(), folder.as_ref()])?;
    let evaluate_seconds = start.elapsed().as_secs_f64();
    let number = |value: &Value| value.as_f64().map_or(String::new(), |value| format!("{value:.4}"));
    Ok(format!(
        "{},{},{train_seconds:.1},{:.1},{},{},{},{},{},{},{},{},{evaluate_seconds:.1}",
        arguments.join(" "),
        card["data"]["images"],
        std::fs::metadata(&file)?.len() as f64 / 1e6,
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
