//! `simplenet watch`: judges files as they arrive, each exactly once.
//!
//! A file is judged when it has not changed for `--settle` seconds. Its line is appended to `judged.jsonl` and made
//! durable before the next ones are looked at, and the log is all the memory there is: whoever is killed and started again
//! reads it and goes on. A file whose size or time changes after it was judged is another file.

use std::collections::{HashMap, HashSet};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use simplenet::detector::shift::{RejectAlarm, ShiftAlarm};
use simplenet::{Detector, Error, Verdict};

use crate::arguments::Watch;
use crate::inputs::{self, Found, Input};
use crate::output::Output;
use crate::outputs::{self, Folders, Outputs};
use crate::predict::{BATCH, judge, pictures};
use crate::rows::line;
use crate::sizes::OtherSizes;
use crate::watch_log::{Entry, Log, Stamp};
use crate::{Outcome, clock, message, remark};

/// How often a file is opened before the log says that it cannot be read: a share may fail for a moment.
const TRIES: usize = 3;

/// A file that may still be written.
struct Arrival {
    stamp: Stamp,
    since: Instant,
    /// How often it could not be read.
    tries: usize,
}

/// What judges files, and what it keeps of them.
struct Station<'a> {
    detector: &'a Detector,
    /// Which file it is.
    model: String,
    pictures: Pictures<'a>,
    log: Log,
    shift: ShiftAlarm,
    rejects: RejectAlarm,
    sizes: OtherSizes<'a>,
    output: &'a Output,
}

/// A file to judge.
struct Ready {
    input: Input,
    stamp: Stamp,
    tries: usize,
}

pub(crate) fn run(arguments: &Watch, output: &Output) -> Result<Outcome> {
    let (detector, model) = arguments.model.load_identified()?;
    let times = [("--interval", arguments.interval), ("--settle", arguments.settle)];
    let [interval, settle] = times.map(|(name, seconds)| {
        Duration::try_from_secs_f64(seconds)
            .with_context(|| format!("`{name}` is {seconds}; it is a number of seconds"))
    });
    let (interval, settle) = (interval?, settle?);
    let folders = [
        ("--heatmaps", arguments.heatmaps.as_deref()),
        ("--masks", arguments.masks.as_deref()),
    ];
    let mut pictures = Pictures::new(arguments, folders)?;
    outputs::make("--out", &arguments.out)?;
    pictures.outputs.folders(folders)?;
    let _lock = lock(&arguments.out)?;
    let mut station = Station {
        log: Log::open(&arguments.out.join("judged.jsonl"), &model)?,
        shift: ShiftAlarm::new(&detector),
        rejects: RejectAlarm::new(&detector),
        sizes: OtherSizes::new(&detector),
        detector: &detector,
        model,
        pictures,
        output,
    };
    output.say(&format!(
        "watching {}; {} files are judged already",
        arguments.folder.display(),
        station.log.len()
    ));
    if let Some(text) = station.log.of_another() {
        output.say(&text);
    }
    let mut arrivals: HashMap<PathBuf, Arrival> = HashMap::new();
    let mut outcome = Outcome::default();
    let mut said = [false; 2];
    let mut unlisted = HashSet::new();
    loop {
        let Found {
            images,
            failed,
            skipped,
        } = inputs::folder(&arguments.folder);
        // Once each: they would be said again with every look at the folder.
        let passed_over = [skipped.pictures("not judged"), skipped.folders()];
        for (passed_over, said) in passed_over.into_iter().zip(&mut said) {
            if let (Some(passed_over), false) = (passed_over, *said) {
                output.say(&format!("warning: {passed_over}"));
                (*said, outcome.unjudged) = (true, true);
            }
        }
        // A share that is gone for a while comes back, and the log knows where we were. With `--once` there is no later.
        for (path, error) in &failed {
            if unlisted.insert(path.clone()) {
                let next = if arguments.once { "" } else { "; trying again" };
                output.say(&format!("warning: {error}{next}"));
            }
        }
        unlisted.retain(|path: &PathBuf| {
            // Also what lies in one that cannot be listed.
            let is_closed = failed.iter().any(|(failed, _)| path.starts_with(failed));
            if !is_closed && std::fs::read_dir(path).is_ok() {
                output.say(&format!("{} can be read again", path.display()));
            }
            is_closed
        });
        let closed = if arguments.once {
            [].as_slice()
        } else {
            failed.as_slice()
        };
        let ready = settled(images, closed, &station.log, &mut arrivals, settle);
        for batch in ready.chunks(BATCH) {
            let judged = station.take(batch, &mut arrivals)?;
            outcome.defects |= judged.defects;
            outcome.errors |= judged.errors;
        }
        if arguments.once && arrivals.is_empty() {
            outcome.errors |= !unlisted.is_empty();
            return Ok(outcome);
        }
        std::thread::sleep(interval);
    }
}

/// The files that are new and have been the same for long enough; the others wait in `arrivals`, and so do those in folders
/// that cannot be listed now.
fn settled(
    files: Vec<Input>,
    closed: &[(PathBuf, String)],
    log: &Log,
    arrivals: &mut HashMap<PathBuf, Arrival>,
    settle: Duration,
) -> Vec<Ready> {
    let now = Instant::now();
    let mut waiting = HashMap::new();
    let mut ready = Vec::new();
    for file in files {
        // It may have gone since it was listed.
        let Ok(stamp) = stamp(&file.path) else { continue };
        if log.has(&file.label, stamp) {
            continue;
        }
        let (since, tries) = match arrivals.get(&file.path) {
            Some(arrival) if arrival.stamp == stamp => (arrival.since, arrival.tries),
            _ => (now, 0),
        };
        if now.duration_since(since) >= settle {
            ready.push(Ready {
                input: file,
                stamp,
                tries,
            });
        } else {
            waiting.insert(file.path, Arrival { stamp, since, tries });
        }
    }
    let of_closed = |path: &Path| closed.iter().any(|(folder, _)| path.starts_with(folder));
    waiting.extend(std::mem::take(arrivals).into_iter().filter(|(path, _)| of_closed(path)));
    *arrivals = waiting;
    ready
}

impl Station<'_> {
    /// Judges a batch and appends it to the log. What cannot be read arrives again, a few times.
    fn take(&mut self, batch: &[Ready], arrivals: &mut HashMap<PathBuf, Arrival>) -> Result<Outcome> {
        let paths: Vec<&Path> = batch.iter().map(|file| file.input.path.as_path()).collect();
        let judged = judge(self.detector, &paths);
        let mut outcome = Outcome::default();
        let (mut entries, mut verdicts) = (Vec::new(), Vec::new());
        let time = clock::utc(SystemTime::now());
        let had_other_sizes = self.sizes.text().is_some();
        for (Ready { input, stamp, tries }, judged) in batch.iter().zip(&judged) {
            // A file that moved away or changed while it was read is not this file; the next round sees what is there, which
            // has to be waited for where it is still something.
            match self::stamp(&input.path) {
                Ok(now) if now == *stamp => {}
                Ok(now) => {
                    let changed = Arrival {
                        stamp: now,
                        since: Instant::now(),
                        tries: 0,
                    };
                    arrivals.insert(input.path.clone(), changed);
                    continue;
                }
                Err(_) => continue,
            }
            if matches!(&judged.prediction, Err(Error::Data(simplenet_data::Error::Read { .. }))) && tries + 1 < TRIES {
                let again = Arrival {
                    stamp: *stamp,
                    since: Instant::now(),
                    tries: tries + 1,
                };
                arrivals.insert(input.path.clone(), again);
                continue;
            }
            let mut picture_error = None;
            if let (Ok(prediction), Some(photo)) = (&judged.prediction, &judged.photo) {
                // A verdict is worth more than its pictures: it is logged without them.
                picture_error = match self.pictures.check(input) {
                    Ok(()) => pictures(
                        self.detector,
                        &input.label,
                        &photo.pixels,
                        prediction,
                        self.pictures.folders,
                    ),
                    Err(error) => Some(message(&error)),
                };
                let is_defect = prediction.verdict == Verdict::Defect;
                verdicts.push((prediction.score, is_defect));
                outcome.defects |= is_defect;
                outcome.errors |= picture_error.is_some();
                let geometry = &prediction.map.geometry;
                self.sizes.add(&input.path, [geometry.width, geometry.height]);
            }
            outcome.errors |= judged.prediction.is_err();
            entries.push(Entry {
                name: input.label.clone(),
                line: line(input.label.display().to_string(), judged, picture_error),
                model: &self.model,
                time: &time,
                stamp: *stamp,
            });
        }
        self.log.append(&entries)?;
        for entry in &entries {
            self.output.json_line_if_read(entry)?;
        }
        // Once: the log has the size of each.
        if let (Some(text), false) = (self.sizes.text(), had_other_sizes) {
            self.output.say(&text);
        }
        for (score, is_defect) in verdicts {
            let shift = self.shift.add(score).map(|change| remark::shift(&change));
            let rejects = self.rejects.add(is_defect).map(|change| remark::rejects(&change));
            for text in shift.into_iter().chain(rejects) {
                self.output.say(&text);
            }
        }
        Ok(outcome)
    }
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

/// Folders for pictures, which must not arrive as images.
struct Pictures<'a> {
    folders: Folders<'a>,
    outputs: Outputs,
    watched: PathBuf,
}

impl Pictures<'_> {
    /// Refuses folders in the one that is watched; none is made yet.
    fn new<'a>(arguments: &Watch, folders: Folders<'a>) -> Result<Pictures<'a>> {
        let watched = arguments.folder.canonicalize().with_context(|| {
            format!(
                "cannot read the folder {}\n\nhint: it has to be there before it is watched",
                arguments.folder.display()
            )
        })?;
        let mut outputs = Outputs::default();
        outputs.keep(&arguments.model.path, "the detector");
        for folder in folders.into_iter().filter_map(|(_, folder)| folder) {
            if outputs::resolved(folder).starts_with(&watched) {
                bail!(
                    "{} lies in {}, which is watched\n\nhint: name a folder outside of it",
                    folder.display(),
                    arguments.folder.display()
                );
            }
        }
        Ok(Pictures {
            folders,
            outputs,
            watched,
        })
    }

    /// Refuses pictures that would replace the detector or lie among what is watched, as they may where that is a folder
    /// in a folder of pictures.
    fn check(&self, input: &Input) -> Result<()> {
        for (option, folder) in self.folders {
            let target = folder.map(|folder| crate::picture::path(folder, &input.label));
            if let Some(target) = target
                && outputs::place(&target).starts_with(&self.watched)
            {
                bail!(
                    "the picture of `{option}` would be {}, which is watched",
                    target.display()
                );
            }
        }
        self.outputs.check(self.folders, input)
    }
}
