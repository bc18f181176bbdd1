//! A soak of `simplenet watch`: files arrive while it is killed (SIGKILL) and started again; then the log is counted.
//!
//!     cargo run -p simplenet --example watch_soak -- PROGRAM DETECTOR IMAGES FILES KILLS SECONDS
//!
//! FILES pictures arrive within about SECONDS, drawn from the folder IMAGES: most renamed into place, some written slowly
//! in pieces, some damaged, some in folders further down. Fails unless every file has exactly one line, with an error if
//! and only if it is damaged, and each good line has its heatmap.
#![expect(clippy::print_stdout, reason = "a command for developers")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, detector, images, files, kills, seconds] = &arguments[..] else {
        bail!("usage: watch_soak PROGRAM DETECTOR IMAGES FILES KILLS SECONDS");
    };
    let (files, kills): (usize, u32) = (files.parse()?, kills.parse()?);
    let time = Duration::try_from_secs_f64(seconds.parse()?)?;
    let mut pictures: Vec<PathBuf> = std::fs::read_dir(images)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    pictures.sort();
    ensure!(!pictures.is_empty(), "no pictures in {images}");
    let folder = tempfile::tempdir()?;
    let (incoming, out, maps) = (
        folder.path().join("in"),
        folder.path().join("out"),
        folder.path().join("maps"),
    );
    std::fs::create_dir(&incoming)?;
    let watch = |once: bool| -> Result<Child> {
        let mut command = Command::new(program);
        command.args(["watch".as_ref(), Path::new(detector), &incoming]);
        command.args(["--out".as_ref(), out.as_path(), "--heatmaps".as_ref(), maps.as_path()]);
        command.args(["--interval", "0.05", "--settle", "0.4", "--quiet"]);
        command.args(once.then_some("--once"));
        Ok(command.stdout(Stdio::null()).spawn()?)
    };

    let start = Instant::now();
    let feeder = {
        let incoming = incoming.clone();
        std::thread::spawn(move || feed(&incoming, &pictures, files, time))
    };
    for kill in 1..=kills {
        let mut child = watch(false)?;
        // At uneven moments, some of them before the program has loaded its detector.
        let share = f64::from(kill) / f64::from(kills + 1);
        let jitter = 0.3 * f64::from(kill * 7 % 5);
        while start.elapsed().as_secs_f64() < time.as_secs_f64() * share + jitter {
            if let Some(status) = child.try_wait()? {
                bail!("watch ended by itself: {status}");
            }
            std::thread::sleep(Duration::from_millis(7));
        }
        child.kill()?;
        child.wait()?;
    }
    feeder.join().ok().context("the feeder panicked")??;
    let status = watch(true)?.wait()?;
    // 1: some files are damaged.
    ensure!(status.code() == Some(1), "the last run ended with {status}");

    let text = std::fs::read_to_string(out.join("judged.jsonl"))?;
    let mut lines: BTreeMap<String, u32> = BTreeMap::new();
    let (mut errors, mut missing) = (0, 0);
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).context("a line of the log is no JSON")?;
        let file = line["file"].as_str().context("a line without a file")?.to_string();
        let failed = line["error"].is_string();
        ensure!(failed == is_damaged(&file), "{line}");
        errors += u32::from(failed);
        missing += u32::from(!failed && !maps.join(&file).is_file());
        *lines.entry(file).or_insert(0) += 1;
    }
    let twice = lines.values().filter(|&&count| count > 1).count();
    println!(
        "{files} files, {kills} kills, {:.0} s: {} judged, {twice} twice, {} lost, {errors} damaged, {missing} without heatmap",
        start.elapsed().as_secs_f64(),
        lines.len(),
        files - lines.len()
    );
    ensure!(
        lines.len() == files && twice == 0 && missing == 0,
        "that is not one line for each"
    );
    Ok(())
}

fn is_damaged(file: &str) -> bool {
    file.ends_with("3-bad.png")
}

fn feed(incoming: &Path, pictures: &[PathBuf], files: usize, time: Duration) -> Result<()> {
    let start = Instant::now();
    for index in 0..files {
        let bytes = std::fs::read(&pictures[index % pictures.len()])?;
        let shift = incoming.join(format!("shift-{}", index % 3));
        std::fs::create_dir_all(&shift)?;
        match index % 50 {
            // A camera that writes slowly, without a temporary name.
            11 => {
                let path = shift.join(format!("{index:05}-slow.png"));
                for part in 1..=4 {
                    std::fs::write(&path, &bytes[..bytes.len() * part / 4])?;
                    std::thread::sleep(Duration::from_millis(40));
                }
            }
            23 => std::fs::write(shift.join(format!("{index:05}3-bad.png")), &bytes[..bytes.len() / 2])?,
            _ => {
                let hidden = shift.join(format!(".{index:05}"));
                std::fs::write(&hidden, &bytes)?;
                std::fs::rename(&hidden, shift.join(format!("{index:05}.png")))?;
            }
        }
        let due = time.mul_f64((index + 1) as f64 / files as f64);
        std::thread::sleep(due.saturating_sub(start.elapsed()));
    }
    Ok(())
}
