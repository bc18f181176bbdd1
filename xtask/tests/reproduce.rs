//! `cargo xtask reproduce table1` as a user runs it, on a small procedural set: rows, resume, determinism, errors.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{cells, data, stderr};
use tempfile::TempDir;

fn command(data: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args([
        "reproduce",
        "table1",
        "--backbone",
        "efficientnet_lite0",
        "--epochs",
        "2",
        "--eval-every",
        "1",
        "--only",
        "variant=simplenet",
    ]);
    command
        .arg("--data")
        .arg(data)
        .arg("--out")
        .arg(out)
        .args(more)
        .env_remove("MVTEC_AD");
    command
}

fn run(data: &Path, out: &Path, more: &[&str]) -> Output {
    command(data, out, more).output().unwrap()
}

const NUMBERS: [&str; 9] = [
    "category",
    "selection",
    "epoch",
    "image_auroc",
    "pixel_auroc",
    "aupro",
    "image_f1_max",
    "pixel_ap",
    "config_sha256",
];

#[test]
fn a_run_writes_rows_table_configuration_and_sheets_and_the_next_one_only_reads_them() {
    let folder = TempDir::new().unwrap();
    let data = data(folder.path(), &["ring"]);
    let out = folder.path().join("out");
    let first = run(&data, &out, &[]);
    assert!(first.status.success(), "{}", stderr(&first));

    let csv = out.join("table1.csv");
    let rows = cells(
        &csv,
        &[
            "category",
            "selection",
            "epoch",
            "dataset",
            "backbone",
            "protocol",
            "error",
        ],
    );
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0][..3], ["ring", "last", "2"]);
    assert_eq!(rows[1][..2], ["ring", "best"]);
    assert_eq!(rows[0][3..], ["set", "efficientnet_lite0", "paper", ""]);
    let config = cells(&csv, &["config_sha256"])[0][0].clone();
    let toml = fs::read_to_string(out.join("configs").join(format!("{config}.toml"))).unwrap();
    assert!(toml.contains("epochs = 2"), "{toml}");
    assert!(
        toml.contains("weights: sha256 ") && toml.contains("image files and their sizes: sha256 "),
        "{toml}"
    );
    assert!(
        fs::read_to_string(out.join("machine.txt"))
            .unwrap()
            .contains("instructions")
    );
    assert!(
        fs::read_to_string(out.join("reproduction.md"))
            .unwrap()
            .contains("ring")
    );
    let shown = String::from_utf8_lossy(&first.stdout);
    assert!(!shown.contains("published"), "the paper has no such category: {shown}");
    let sheets: Vec<_> = fs::read_dir(out.join("sheets")).unwrap().collect();
    assert_eq!(sheets.len(), 1);

    let before = fs::read(&csv).unwrap();
    let second = run(&data, &out, &[]);
    assert!(second.status.success(), "{}", stderr(&second));
    assert_eq!(first.stdout, second.stdout, "the same table");
    assert_eq!(before, fs::read(&csv).unwrap(), "nothing was run");
    assert!(stderr(&second).contains("1 of 1 cells are in"), "{}", stderr(&second));
}

/// Numbers of the row come out of the kept scores as well, and a table is shown where no epoch is selected.
#[test]
fn a_method_without_epochs_is_shown_and_its_scores_and_maps_can_be_kept() {
    let folder = TempDir::new().unwrap();
    let (data, out) = (data(folder.path(), &["ring"]), folder.path().join("out"));
    let run = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args([
            "reproduce",
            "table1",
            "--backbone",
            "efficientnet_lite0",
            "--only",
            "variant=padim",
            "--epochs",
            "3",
            "--keep-maps",
        ])
        .arg("--data")
        .arg(&data)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", stderr(&run));
    let shown = String::from_utf8_lossy(&run.stdout);
    assert!(shown.contains("padim") && shown.contains("AUPRO / P-AP"), "{shown}");
    assert!(!shown.contains("train.epochs"), "it has no epochs: {shown}");
    let kept = |ending: &str| {
        let files = fs::read_dir(out.join("kept"))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut found = files.filter(|path| path.to_string_lossy().ends_with(ending));
        fs::read(found.next().unwrap()).unwrap()
    };
    let scores = String::from_utf8(kept(".csv")).unwrap();
    let scores: Vec<(bool, f64)> = scores
        .lines()
        .skip(1)
        .map(|line| {
            let mut cells = line.rsplit(',');
            let score = cells.next().unwrap().parse().unwrap();
            (cells.next().unwrap() == "1", score)
        })
        .collect();
    let of = |anomalous: bool| {
        scores
            .iter()
            .filter(move |(is, _)| *is == anomalous)
            .map(|(_, score)| *score)
    };
    let pairs = of(true).flat_map(|high| {
        of(false).map(move |low| f64::from(u8::from(high > low)) + 0.5 * f64::from(u8::from(high == low)))
    });
    let auroc = pairs.sum::<f64>() / (of(true).count() * of(false).count()) as f64;
    let row: f64 = cells(&out.join("table1.csv"), &["image_auroc"])[0][0].parse().unwrap();
    assert!((auroc - row).abs() < 1e-9, "{auroc} and {row}");
    for (ending, bytes) in [(".maps.npy", 4), (".masks.npy", 1)] {
        let file = kept(ending);
        let header = 10 + usize::from(u16::from_le_bytes([file[8], file[9]]));
        assert!(
            file.starts_with(b"\x93NUMPY\x01\x00") && file[header - 1] == b'\n',
            "{ending}"
        );
        assert_eq!(file.len() - header, scores.len() * 224 * 224 * bytes, "{ending}");
    }
}

#[test]
fn maps_of_what_is_done_are_not_kept_and_it_says_so() {
    let folder = TempDir::new().unwrap();
    let (data, out) = (data(folder.path(), &["ring"]), folder.path().join("out"));
    assert!(run(&data, &out, &[]).status.success());
    let again = run(&data, &out, &["--keep-maps"]);
    let message = stderr(&again);
    assert!(message.contains("not of the 1 that are done"), "{message}");
    assert!(!out.join("kept").exists());
}

#[test]
fn where_nobody_reads_on_it_ends_as_usual() {
    let folder = TempDir::new().unwrap();
    let data = data(folder.path(), &["ring"]);
    let mut listing = command(&data, &folder.path().join("out"), &["--list"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(listing.stdout.take());
    assert!(listing.wait().unwrap().success());
}

/// Whatever was run in between, the page of a run shows what was asked for last.
#[test]
fn a_command_that_is_repeated_brings_its_table_back() {
    let folder = TempDir::new().unwrap();
    let data = data(folder.path(), &["ring"]);
    let out = folder.path().join("out");
    let page = |more: &[&str]| {
        let ran = run(&data, &out, more);
        assert!(ran.status.success(), "{}", stderr(&ran));
        let configs: Vec<String> = cells(&out.join("table1.csv"), &["config_sha256"]).concat();
        let text = fs::read_to_string(out.join("reproduction.md")).unwrap();
        let hidden = "(2 of other configurations of the same cells, which are not shown)";
        assert_eq!(text.contains(hidden), configs.len() > 2, "{text}");
        // The command of either configuration stands above the table.
        let table = text.split_once("**simplenet").unwrap().1.to_string();
        (configs, table)
    };
    let (_, first) = page(&[]);
    let other = ["--set", "train.noise=9"];
    let (rows, second) = page(&other);
    assert_ne!(first, second);
    let (again, third) = page(&[]);
    assert_eq!(first, third);
    assert_eq!(
        [&rows[2..], &rows[..2]].concat(),
        again,
        "the same rows in another order"
    );
    assert_eq!(page(&other).1, second);
}

#[test]
fn one_thread_and_two_write_the_same_numbers_and_another_seed_others() {
    let folder = TempDir::new().unwrap();
    let data = data(folder.path(), &["weave"]);
    let numbers = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let output = run(&data, &out, more);
        assert!(output.status.success(), "{}", stderr(&output));
        cells(&out.join("table1.csv"), &NUMBERS)
    };
    let one = numbers("one", &["--threads", "1"]);
    assert_eq!(one, numbers("two", &["--threads", "2"]));
    assert_ne!(one, numbers("other", &["--seeds", "1"]));
}

#[test]
fn bf16_is_in_the_configuration_and_in_the_row() {
    let folder = TempDir::new().unwrap();
    let data = data(folder.path(), &["weave"]);
    let out = folder.path().join("out");
    let bf16 = ["--set", "train.precision=bf16", "--set", "features.precision=bf16"];
    let output = run(&data, &out, &bf16);
    assert!(output.status.success(), "{}", stderr(&output));
    let rows = cells(&out.join("table1.csv"), &["device", "config_sha256"]);
    let device = &rows[0][0];
    assert!(device.starts_with("cpu (") && device.ends_with(") in bf16"), "{device}");
    let toml = fs::read_to_string(out.join("configs").join(format!("{}.toml", rows[0][1]))).unwrap();
    assert_eq!(toml.matches("precision = \"bf16\"").count(), 2, "{toml}");
}

#[test]
fn a_killed_run_keeps_its_finished_category_and_the_next_one_goes_on() {
    let folder = TempDir::new().unwrap();
    let data = data(folder.path(), &["grain", "ring"]);
    let out = folder.path().join("out");
    let csv = out.join("table1.csv");
    let mut child = command(&data, &out, &[]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(300);
    while !csv.exists() && child.try_wait().unwrap().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = fs::read_to_string(&csv).unwrap();
    let finished = cells(&csv, &["category"]);
    assert!(
        finished[0] == ["grain"] && finished.len() < 4,
        "stopped on the way: {finished:?}"
    );

    let output = run(&data, &out, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        fs::read_to_string(&csv).unwrap().starts_with(&kept),
        "finished rows stay as they were"
    );
    assert_eq!(cells(&csv, &["category"]).len(), 4);
}

#[test]
fn without_masks_the_pixel_columns_are_empty_and_one_warning_counts() {
    let folder = TempDir::new().unwrap();
    let data = data(folder.path(), &["ring"]);
    fs::remove_dir_all(data.join("ring/ground_truth")).unwrap();
    let out = folder.path().join("out");
    let output = run(&data, &out, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let row = &cells(
        &out.join("table1.csv"),
        &["pixel_auroc", "aupro", "pixel_ap", "image_auroc"],
    )[0];
    assert_eq!(row[..3], ["", "", ""]);
    assert_ne!(row[3], "");
    let warning = stderr(&output);
    assert_eq!(warning.matches("warning:").count(), 1, "{warning}");
    assert!(warning.contains(".png: its pixel metrics stay empty"), "{warning}");
    let page = fs::read_to_string(out.join("reproduction.md")).unwrap();
    assert!(
        page.contains("Without pixel metrics, because defective test images lack masks: ring."),
        "{page}"
    );
}

/// What they were called is not what they are.
#[test]
fn rows_of_the_same_images_under_another_name_are_found() {
    let folder = TempDir::new().unwrap();
    let data = data(folder.path(), &["ring"]);
    let out = folder.path().join("out");
    assert!(run(&data, &out, &[]).status.success());
    let csv = out.join("table1.csv");
    let text = fs::read_to_string(&csv).unwrap();
    let renamed = text.replace(",set,", ",mvtec-layout,");
    assert_ne!(text, renamed);
    fs::write(&csv, &renamed).unwrap();
    let again = run(&data, &out, &[]);
    assert!(stderr(&again).contains("1 of 1 cells are in"), "{}", stderr(&again));
    assert_eq!(fs::read_to_string(&csv).unwrap(), renamed);
}

#[test]
fn a_category_that_fails_is_a_row_and_the_others_are_done() {
    let folder = TempDir::new().unwrap();
    let data = data(folder.path(), &["grain", "ring"]);
    let broken = data.join("grain/train/good/001.png");
    let bytes = fs::read(&broken).unwrap();
    fs::write(&broken, &bytes[..bytes.len() / 2]).unwrap();
    let out = folder.path().join("out");
    let output = run(&data, &out, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("001.png"), "{}", stderr(&output));
    let rows = cells(&out.join("table1.csv"), &["category", "image_auroc"]);
    assert_eq!(
        rows.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(),
        ["grain", "ring", "ring"]
    );
    assert_eq!(rows[0][1], "");

    fs::write(&broken, &bytes).unwrap();
    let output = run(&data, &out, &[]);
    assert!(
        output.status.success(),
        "a failed cell is tried again: {}",
        stderr(&output)
    );
}

/// Runs and expects exit code 1 with all `words` in the message, a hint or not, and no panic.
fn expect_error(data: &Path, out: &Path, more: &[&str], words: &[&str]) {
    let output = run(data, out, more);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("error: ") && !text.contains("panicked"), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
}

#[test]
fn bad_input_is_an_error_that_names_the_file() {
    let folder = TempDir::new().unwrap();
    let data = data(folder.path(), &["grain", "plate", "ring"]);
    let out = folder.path().join("out");

    let only = ["--only", "category=ring"];
    let with = |more: &[&'static str]| [&only[..], more].concat();

    let mask = fs::read_dir(data.join("plate/ground_truth"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
        .join("000_mask.png");
    image::GrayImage::from_pixel(40, 30, image::Luma([255]))
        .save(&mask)
        .unwrap();
    expect_error(
        &data,
        &out,
        &["--only", "category=plate"],
        &["000_mask.png", "40 x 30", "256 x 256"],
    );

    for file in fs::read_dir(data.join("grain/train/good")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    expect_error(
        &data,
        &out,
        &["--only", "category=grain"],
        &["grain/train/good", "no images"],
    );

    let junk = folder.path().join("junk.safetensors");
    fs::write(&junk, b"not a checkpoint").unwrap();
    let junk = junk.to_str().unwrap();
    expect_error(
        &data,
        &out,
        &["--only", "category=ring", "--weights", junk],
        &["junk.safetensors"],
    );
    expect_error(
        &data,
        &out,
        &["--only", "category=ring", "--weights", "missing.pth"],
        &["missing.pth"],
    );

    let embedded = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../data/backbones/efficientnet_lite0.safetensors"
    );
    let other = with(&["--backbone", "resnet18", "--weights", embedded]);
    let other_out = folder.path().join("other");
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let output = command
        .args(["reproduce", "table1"])
        .arg("--data")
        .arg(&data)
        .arg("--out")
        .arg(&other_out)
        .args(other)
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("efficientnet_lite0"), "{}", stderr(&output));
    assert!(!other_out.exists(), "refused before anything is made");

    let none = run(&data, &other_out, &with(&["--limit-train", "0"]));
    assert_eq!(none.status.code(), Some(2));
    assert!(stderr(&none).contains("at least 1 image"), "{}", stderr(&none));
    assert!(!other_out.exists());

    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    expect_error(&data, &file.join("out"), &only, &["file/out", "hint: "]);
    expect_error(&folder.path().join("nowhere"), &out, &only, &["nowhere"]);
    expect_error(&data, &out, &["--only", "category=rings"], &["category=rings", "ring"]);
    expect_error(&data, &out, &with(&["--set", "train.sgima=1"]), &["sgima", "table1"]);
    expect_error(
        &data,
        &out,
        &with(&["--set", "features.backbone=resnet18"]),
        &["hint: `--backbone NAME`"],
    );
}

#[test]
fn a_folder_that_is_not_there_cannot_be_verified() {
    let folder = TempDir::new().unwrap();
    let nowhere = folder.path().join("nowhere");
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let output = command
        .args(["data", "verify", "--folder"])
        .arg(&nowhere)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("there is no folder"), "{}", stderr(&output));
}

#[test]
fn the_plan_is_listed_and_nothing_is_run() {
    let folder = TempDir::new().unwrap();
    let data = data(folder.path(), &["grain", "ring"]);
    let out = folder.path().join("out");
    let output = run(&data, &out, &["--list", "--seeds", "0..3"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("to do  table1 simplenet paper ring seed 2"), "{text}");
    assert!(text.contains("6 cells on 2 feature banks, 6 to do"), "{text}");
    assert!(!out.exists());
}

#[test]
fn the_layers_are_as_the_architecture_says() {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask")).arg("check").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}
