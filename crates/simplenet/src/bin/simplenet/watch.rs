//! `simplenet watch`: judges files as they arrive, each exactly once.
//!
//! A file is judged when it has not changed for `--settle` seconds. Its line is appended to `judged.jsonl` and made
//! durable before the next ones are looked at, and the log is all the memory there is: whoever is killed and started again
//! reads it and goes on. A file whose size or time changes after it was judged is another file.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use simplenet::Detector;

use crate::arguments::Watch;
use crate::inputs::{self, Input};
use crate::output::Output;
use crate::predict::{BATCH, judge, line, pictures};
use crate::watch_log::{Entry, Log, Stamp};
use crate::{Outcome, arguments};

/// A file that may still be written.
struct Arrival {
    stamp: Stamp,
    since: Instant,
}

pub(crate) fn run(arguments: &Watch, output: &Output) -> Result<Outcome> {
    let detector = arguments.model.load()?;
    let times = [("--interval", arguments.interval), ("--settle", arguments.settle)];
    let [interval, settle] = times.map(|(name, seconds)| {
        Duration::try_from_secs_f64(seconds)
            .with_context(|| format!("`{name}` is {seconds}; it is a number of seconds"))
    });
    let (interval, settle) = (interval?, settle?);
    let cannot_make = || format!("cannot make the folder {}", arguments.out.display());
    std::fs::create_dir_all(&arguments.out).with_context(cannot_make)?;
    check_folders(arguments)?;
    let _lock = lock(&arguments.out)?;
    let mut log = Log::open(&arguments.out.join("judged.jsonl"))?;
    output.say(&format!(
        "watching {}; {} files are judged already",
        arguments.folder.display(),
        log.len()
    ));
    let mut arrivals: HashMap<PathBuf, Arrival> = HashMap::new();
    let mut outcome = Outcome::default();
    loop {
        let files = match inputs::folder(&arguments.folder) {
            Ok(files) => files,
            // A share that is gone for a while comes back; the log knows where we were.
            Err(error) if !arguments.once => {
                output.say(&format!("warning: {error:#}; trying again"));
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let ready = settled(files, &log, &mut arrivals, settle);
        for batch in ready.chunks(BATCH) {
            let judged = take(batch, &detector, arguments, &mut log, output)?;
            outcome.defects |= judged.defects;
            outcome.errors |= judged.errors;
        }
        if arguments.once && arrivals.is_empty() {
            return Ok(outcome);
        }
        std::thread::sleep(interval);
    }
}

/// The files that are new and have been the same for long enough; the others wait in `arrivals`.
fn settled(
    files: Vec<Input>,
    log: &Log,
    arrivals: &mut HashMap<PathBuf, Arrival>,
    settle: Duration,
) -> Vec<(Input, Stamp)> {
    let now = Instant::now();
    let mut waiting = HashMap::new();
    let mut ready = Vec::new();
    for file in files {
        // It may have gone since it was listed.
        let Ok(stamp) = stamp(&file.path) else { continue };
        if log.has(&file.label, stamp) {
            continue;
        }
        let since = match arrivals.get(&file.path) {
            Some(arrival) if arrival.stamp == stamp => arrival.since,
            _ => now,
        };
        if now.duration_since(since) >= settle {
            ready.push((file, stamp));
        } else {
            waiting.insert(file.path, Arrival { stamp, since });
        }
    }
    *arrivals = waiting;
    ready
}

/// Judges a batch and appends it to the log.
fn take(
    batch: &[(Input, Stamp)],
    detector: &Detector,
    arguments: &Watch,
    log: &mut Log,
    output: &Output,
) -> Result<Outcome> {
    let paths: Vec<&Path> = batch.iter().map(|(input, _)| input.path.as_path()).collect();
    let judged = judge(detector, &paths);
    let mut outcome = Outcome::default();
    let mut entries = Vec::new();
    for ((input, stamp), judged) in batch.iter().zip(&judged) {
        // A file that moved away or changed while it was read is not this file; the next round sees what is there.
        if self::stamp(&input.path).ok() != Some(*stamp) {
            continue;
        }
        if let (Ok(prediction), Some(image)) = (&judged.prediction, &judged.image) {
            let folders = [arguments.heatmaps.as_deref(), arguments.masks.as_deref()];
            pictures(detector, &input.label, image, prediction, folders)?;
            outcome.defects |= prediction.verdict == simplenet::Verdict::Defect;
        }
        outcome.errors |= judged.prediction.is_err();
        entries.push(Entry {
            name: input.label.clone(),
            stamp: *stamp,
            line: line(input.label.display().to_string(), judged),
        });
    }
    log.append(&entries)?;
    for entry in &entries {
        output.json_line(entry)?;
    }
    Ok(outcome)
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let metadata = std::fs::metadata(path)?;
    let modified = metadata.modified()?.duration_since(SystemTime::UNIX_EPOCH);
    Ok(Stamp {
        bytes: metadata.len(),
        modified_ns: modified.map_or(0, |time| time.as_nanos() as u64),
    })
}

/// Two processes on one output folder would judge everything twice.
fn lock(out: &Path) -> Result<File> {
    let path = out.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another process is watching into {}\n\nhint: give each its own --out",
            out.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// What we write must not arrive as an image.
fn check_folders(arguments: &arguments::Watch) -> Result<()> {
    let canonical = |path: &Path| {
        path.canonicalize()
            .with_context(|| format!("cannot read the folder {}", path.display()))
    };
    let watched = canonical(&arguments.folder)?;
    for folder in [&arguments.heatmaps, &arguments.masks].into_iter().flatten() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        if canonical(folder)?.starts_with(&watched) {
            bail!(
                "{} lies in {}, which is watched\n\nhint: name a folder outside of it",
                folder.display(),
                arguments.folder.display()
            );
        }
    }
    Ok(())
}
