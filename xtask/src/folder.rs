//! The files of a run: `results/<run>/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use simplenet::config::Config;
use simplenet_report::file::write_atomic;
use simplenet_report::{Measurement, Row, measurements, results};

use crate::shard::Shard;

/// A folder under results/, or the one that `--out` names.
#[derive(Debug, Clone)]
pub(crate) struct RunFolder(PathBuf);

impl RunFolder {
    pub(crate) fn new(path: impl Into<PathBuf>) -> RunFolder {
        RunFolder(path.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The last part of its path.
    pub(crate) fn name(&self) -> String {
        let path = self.0.canonicalize().unwrap_or_else(|_| self.0.clone());
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// Whether it is a user's own and not one that the documents show: git ignores it.
    pub(crate) fn is_local(&self) -> bool {
        self.name().starts_with("local-")
    }

    /// Where a process appends its rows.
    pub(crate) fn rows_file(&self, id: &str, shard: Option<Shard>) -> PathBuf {
        self.0.join(format!("{}.csv", stem(id, shard)))
    }

    /// Where a process appends its curves and lists.
    pub(crate) fn measurements_file(&self, id: &str, shard: Option<Shard>) -> PathBuf {
        self.0.join(format!("{}.measurements.csv", stem(id, shard)))
    }

    /// Sheets of examples.
    pub(crate) fn sheets(&self) -> PathBuf {
        self.0.join("sheets")
    }

    /// What the image browser of report.html shows.
    pub(crate) fn gallery(&self) -> PathBuf {
        self.0.join("gallery")
    }

    /// Figures of the run.
    pub(crate) fn figures(&self) -> PathBuf {
        self.0.join("figures")
    }

    /// Makes the folders, so that an unwritable place is known before anything is run.
    pub(crate) fn create(&self) -> Result<()> {
        for folder in [self.0.join("configs"), self.figures(), self.sheets(), self.gallery()] {
            std::fs::create_dir_all(&folder).with_context(|| {
                format!(
                    "failed to create `{}`\n\nhint: choose a folder you may write to with `--out`",
                    folder.display()
                )
            })?;
        }
        Ok(())
    }

    /// Writes what stands beside the rows of a process: the machine, and the command once.
    pub(crate) fn describe(&self, id: &str, shard: Option<Shard>, machine: &str, command: &str) -> Result<()> {
        let machine_file = match shard {
            Some(shard) => format!("machine.{}.txt", shard.name()),
            None => "machine.txt".into(),
        };
        write_atomic(&self.0.join(machine_file), machine.as_bytes())?;
        let path = self.0.join(format!("{}.command.txt", stem(id, shard)));
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        if !known.lines().any(|line| line == command) {
            write_atomic(&path, format!("{known}{command}\n").as_bytes())?;
        }
        Ok(())
    }

    /// The commands that made the rows of an experiment.
    pub(crate) fn commands(&self, id: &str) -> Result<Vec<String>> {
        let mut commands = Vec::new();
        for path in self.parts(id, ".command.txt")? {
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
            commands.extend(text.lines().map(String::from));
        }
        Ok(commands)
    }

    /// Keeps the configuration of a cell.
    pub(crate) fn write_config(&self, sha256: &str, text: &str) -> Result<()> {
        Ok(write_atomic(&self.config_file(sha256), text.as_bytes())?)
    }

    /// The configuration that produced a row.
    pub(crate) fn config(&self, sha256: &str) -> Result<Config> {
        let path = self.config_file(sha256);
        let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
        toml::from_str(&text).with_context(|| format!("failed to parse `{}`", path.display()))
    }

    fn config_file(&self, sha256: &str) -> PathBuf {
        self.0.join("configs").join(format!("{sha256}.toml"))
    }

    /// The rows of an experiment, of all shards; a cell that failed in one file and not in another is done.
    pub(crate) fn rows(&self, id: &str) -> Result<Vec<Row>> {
        let mut all: Vec<Row> = Vec::new();
        for path in self.parts(id, ".csv")? {
            for row in results::read(&path)? {
                match all.iter_mut().find(|known| known.key() == row.key()) {
                    Some(known) if known.error.is_some() => *known = row,
                    Some(_) => {}
                    None => all.push(row),
                }
            }
        }
        Ok(all)
    }

    /// The curves and lists of an experiment, of all shards.
    pub(crate) fn measurements(&self, id: &str) -> Result<Vec<Measurement>> {
        let mut all: Vec<Measurement> = Vec::new();
        let mut seen = BTreeSet::new();
        for path in self.parts(id, ".measurements.csv")? {
            let key = |m: &Measurement| {
                let names = [&m.config_sha256, &m.variant, &m.category, &m.quantity].map(String::clone);
                (names, m.seed, m.x)
            };
            let new = measurements::read_or_empty(&path)?;
            all.extend(new.into_iter().filter(|measurement| seen.insert(key(measurement))));
        }
        Ok(all)
    }

    /// Writes the rows and measurements of the shards into the files of the whole.
    pub(crate) fn merge_shards(&self, id: &str) -> Result<()> {
        if self
            .parts(id, ".csv")?
            .iter()
            .all(|path| *path == self.rows_file(id, None))
        {
            return Ok(());
        }
        let whole = self.rows_file(id, None);
        let known = results::read_or_empty(&whole)?;
        let missing: Vec<Row> = self.rows(id)?.into_iter().filter(|row| !known.contains(row)).collect();
        if !missing.is_empty() {
            results::replace_failed(&whole, &missing)?;
        }
        let whole = self.measurements_file(id, None);
        let known = measurements::read_or_empty(&whole)?;
        let merged = self.measurements(id)?;
        if merged != known {
            measurements::replace(&whole, &merged)?;
        }
        Ok(())
    }

    /// `<id><ending>` and `<id>.shard-*<ending>`, the whole first.
    fn parts(&self, id: &str, ending: &str) -> Result<Vec<PathBuf>> {
        let mut shards = Vec::new();
        let mut whole = None;
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("failed to read `{}`", self.0.display())),
        };
        for entry in entries {
            let path = entry
                .with_context(|| format!("failed to read `{}`", self.0.display()))?
                .path();
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            let Some(middle) = name.strip_prefix(id).and_then(|rest| rest.strip_suffix(ending)) else {
                continue;
            };
            match middle.strip_prefix(".shard-") {
                // `fig7.shard-0-of-2.measurements.csv` also ends in `.csv`.
                Some(numbers) if !numbers.contains('.') => shards.push(path),
                _ if middle.is_empty() => whole = Some(path),
                _ => {}
            }
        }
        shards.sort();
        Ok(whole.into_iter().chain(shards).collect())
    }
}

fn stem(id: &str, shard: Option<Shard>) -> String {
    match shard {
        Some(shard) => format!("{id}.{}", shard.name()),
        None => id.to_string(),
    }
}

/// Whether there is no such folder: nothing is there, or a file is in its way, which is known when it is to be written.
fn is_absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}
