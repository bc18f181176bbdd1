//! Timings: how long something took, on what, beside what else.
//!
//! A [`Benchmark`] is one timing and is kept in a CSV file with the same guarantees as [`results`](crate::results).
//! [`benchmark_table`] shows them.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use polars::prelude::{Column as Values, CsvWriter, DataFrame, PolarsError, SerWriter};

use crate::cells::Cells;
use crate::file::{Lock, write_atomic};
use crate::table::{Column, Line, Table};
use crate::{Error, Result};

/// One timing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Benchmark {
    /// What was timed, e.g. `backbone`, `detector` or `train step`.
    pub subject: String,
    /// On what model or data, e.g. `wide_resnet50_2 to layer3`.
    pub model: String,
    /// Where the weights come from, e.g. `random`, `embedded`, or a file's SHA-256.
    pub weights: String,
    /// Whose code, with its version, e.g. `simplenet` or `torch 2.11.0`.
    pub engine: String,
    /// Instructions that it used, as it names them; empty where it does not say.
    pub isa: String,
    /// `f32` or `bf16`.
    pub precision: String,
    /// The processor's or the accelerator's name.
    pub device: String,
    /// CPU threads.
    pub threads: u32,
    /// Images per call.
    pub batch: u32,
    /// Calls that were timed.
    pub rounds: u32,
    /// Median of a call, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of a call, in milliseconds; the slowest where there are fewer than 100.
    pub p99_ms: f64,
    /// Fastest call, in milliseconds.
    pub best_ms: f64,
    /// Multiplications and additions of a call as its definition counts them, in 10⁹.
    pub gflop: Option<f64>,
    /// What these threads do at most in this precision, in 10⁹ operations per second, measured in the same run.
    pub peak_gflops: Option<f64>,
    /// Relative L2 distance of what it computes from the reference that the subject's documentation names.
    pub difference: Option<f64>,
    /// Commit of the code.
    pub commit: String,
}

/// Columns of the CSV file, in order.
const COLUMNS: [&str; 19] = [
    "subject",
    "model",
    "weights",
    "engine",
    "isa",
    "precision",
    "device",
    "threads",
    "batch",
    "rounds",
    "p50_ms",
    "p99_ms",
    "best_ms",
    "images_per_second",
    "gflop",
    "peak_gflops",
    "share_of_peak",
    "difference",
    "commit",
];

/// What was timed, not what came out.
type Key<'a> = ([&'a str; 6], [u32; 2]);

impl Benchmark {
    /// Images per second at the median.
    pub fn images_per_second(&self) -> f64 {
        f64::from(self.batch) / self.p50_ms * 1e3
    }

    /// Milliseconds per image at the median.
    pub fn ms_per_image(&self) -> f64 {
        self.p50_ms / f64::from(self.batch)
    }

    /// Which part of the peak it reaches at the median, 0 to 1 (above 1 where it needs fewer operations than its
    /// definition).
    pub fn share_of_peak(&self) -> Option<f64> {
        Some(self.gflop? / self.p50_ms * 1e3 / self.peak_gflops?)
    }

    fn key(&self) -> Key<'_> {
        let names = [
            &self.subject,
            &self.model,
            &self.engine,
            &self.isa,
            &self.precision,
            &self.device,
        ];
        (names.map(String::as_str), [self.threads, self.batch])
    }

    /// Whether two timings are of the same thing in the same circumstances, so that they may be compared.
    fn is_rival(&self, other: &Benchmark) -> bool {
        self.subject == other.subject
            && self.model == other.model
            && self.device == other.device
            && self.precision == other.precision
            && (self.threads, self.batch) == (other.threads, other.batch)
    }
}

/// Reads the timings of a file, in order; a file that is not there holds none.
///
/// # Errors
/// When the file has other columns, or a cell that does not parse, with its line and column.
pub fn read_or_empty(path: &Path) -> Result<Vec<Benchmark>> {
    let bytes = match fs::read(path) {
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| Error::io("read", path, e))?,
    };
    let cells = Cells::read(path, &bytes, &COLUMNS)?;
    let positive = |value: &f64| value.is_finite() && *value > 0.0;
    let whole = |row, column| cells.parsed(row, column, "a whole number", |text| text.parse().ok());
    let time = |row, column| {
        cells.parsed(row, column, "a number above 0", |text| {
            text.parse().ok().filter(positive)
        })
    };
    let optional = |row, column| cells.optional(row, column, "a number, or nothing", |value: f64| value.is_finite());
    (0..cells.len())
        .map(|row| {
            let text = |column| cells.required(row, column, "a name").map(str::to_owned);
            Ok(Benchmark {
                subject: text("subject")?,
                model: text("model")?,
                weights: text("weights")?,
                engine: text("engine")?,
                isa: cells.get(row, "isa").unwrap_or_default().to_owned(),
                precision: text("precision")?,
                device: text("device")?,
                threads: whole(row, "threads")?,
                batch: whole(row, "batch")?,
                rounds: whole(row, "rounds")?,
                p50_ms: time(row, "p50_ms")?,
                p99_ms: time(row, "p99_ms")?,
                best_ms: time(row, "best_ms")?,
                gflop: optional(row, "gflop")?,
                peak_gflops: optional(row, "peak_gflops")?,
                difference: optional(row, "difference")?,
                commit: text("commit")?,
            })
        })
        .collect()
}

/// Puts timings into a file, each in the place of the one that was there of the same thing by the same code on the same
/// device, or at the end.
///
/// # Errors
/// As [`read_or_empty`]; when a time is not above 0 or a name is empty; when the folder cannot be written. The file is then
/// unchanged.
pub fn replace(path: &Path, new: &[Benchmark]) -> Result<()> {
    new.iter().try_for_each(check)?;
    let _lock = Lock::exclusive(path)?;
    let mut all = read_or_empty(path)?;
    for row in new {
        match all.iter_mut().find(|old| old.key() == row.key()) {
            Some(old) => *old = row.clone(),
            None => all.push(row.clone()),
        }
    }
    write_atomic(path, &encode(path, &all)?)
}

/// What [`read_or_empty`] would refuse must not be written.
fn check(row: &Benchmark) -> Result<()> {
    let refuse = |column, found: String, expected| {
        let (names, [threads, batch]) = row.key();
        Err(Error::Value {
            key: format!("{} on {threads} threads, batch {batch}", names.join("/")),
            column,
            found,
            expected,
        })
    };
    for (column, text) in [
        ("subject", &row.subject),
        ("model", &row.model),
        ("weights", &row.weights),
        ("engine", &row.engine),
        ("precision", &row.precision),
        ("device", &row.device),
        ("commit", &row.commit),
    ] {
        if text.is_empty() {
            return refuse(column, "nothing".to_owned(), "a name");
        }
    }
    for (column, value) in [("p50_ms", row.p50_ms), ("p99_ms", row.p99_ms), ("best_ms", row.best_ms)] {
        if !(value.is_finite() && value > 0.0) {
            return refuse(column, value.to_string(), "a number above 0");
        }
    }
    for (column, value) in [
        ("gflop", row.gflop),
        ("peak_gflops", row.peak_gflops),
        ("difference", row.difference),
    ] {
        if let Some(value) = value.filter(|value| !value.is_finite()) {
            return refuse(column, value.to_string(), "a number, or nothing");
        }
    }
    Ok(())
}

fn encode(path: &Path, all: &[Benchmark]) -> Result<Vec<u8>> {
    let text = |column: &'static str, get: fn(&Benchmark) -> &String| {
        Values::new(column.into(), all.iter().map(|b| get(b).as_str()).collect::<Vec<_>>())
    };
    let whole = |column: &'static str, get: fn(&Benchmark) -> u32| {
        Values::new(column.into(), all.iter().map(get).collect::<Vec<_>>())
    };
    let number = |column: &'static str, get: fn(&Benchmark) -> Option<f64>| {
        let values: Vec<Option<f64>> = all.iter().map(|b| get(b).map(four_digits)).collect();
        Values::new(column.into(), values)
    };
    let columns = vec![
        text("subject", |b| &b.subject),
        text("model", |b| &b.model),
        text("weights", |b| &b.weights),
        text("engine", |b| &b.engine),
        text("isa", |b| &b.isa),
        text("precision", |b| &b.precision),
        text("device", |b| &b.device),
        whole("threads", |b| b.threads),
        whole("batch", |b| b.batch),
        whole("rounds", |b| b.rounds),
        number("p50_ms", |b| Some(b.p50_ms)),
        number("p99_ms", |b| Some(b.p99_ms)),
        number("best_ms", |b| Some(b.best_ms)),
        number("images_per_second", |b| Some(b.images_per_second())),
        number("gflop", |b| b.gflop),
        number("peak_gflops", |b| b.peak_gflops),
        number("share_of_peak", Benchmark::share_of_peak),
        number("difference", |b| b.difference),
        text("commit", |b| &b.commit),
    ];
    let malformed = |e: PolarsError| Error::Csv {
        path: path.to_owned(),
        reason: e.to_string(),
    };
    let mut frame = DataFrame::new(all.len(), columns).map_err(malformed)?;
    let mut bytes = Vec::new();
    CsvWriter::new(&mut bytes)
        .include_header(true)
        .finish(&mut frame)
        .map_err(malformed)?;
    Ok(bytes)
}

/// The number to four significant digits: timings are not known better.
fn four_digits(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// The timings as a table, a section for each subject and model. The last column divides the median of `own` by each rival's
/// in the same circumstances: below 1, `own` is faster.
pub fn benchmark_table(rows: &[Benchmark], own: &str) -> Table {
    let mut table = Table {
        columns: vec![
            Column::name("engine"),
            Column::name("precision"),
            Column::number("threads"),
            Column::number("batch"),
            Column::number("rounds"),
            Column::number("ms per image, p50"),
            Column::number("p99"),
            Column::number("images/s"),
            Column::number("of peak"),
            Column::number("distance"),
            Column::number(format!("{own} / this")),
        ],
        lines: Vec::new(),
        notes: Vec::new(),
    };
    let mut sections: Vec<(&str, &str, &str)> = Vec::new();
    for row in rows {
        let section = (row.subject.as_str(), row.model.as_str(), row.weights.as_str());
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    for section in sections {
        let (subject, model, weights) = section;
        table
            .lines
            .push(Line::Section(format!("{subject}: {model} ({weights})")));
        let mut of_section: Vec<&Benchmark> = rows
            .iter()
            .filter(|row| (row.subject.as_str(), row.model.as_str(), row.weights.as_str()) == section)
            .collect();
        // f32 before bf16; stable, so engines stay in the order in which they ran.
        of_section.sort_by(|a, b| {
            let order = |row: &Benchmark| (row.threads, row.batch, row.precision != "f32");
            order(a).cmp(&order(b))
        });
        for row in of_section {
            let mine = rows.iter().find(|other| other.engine == own && other.is_rival(row));
            let ratio = mine.filter(|mine| mine.engine != row.engine);
            let isa = if row.isa.is_empty() {
                String::new()
            } else {
                format!(" ({})", row.isa)
            };
            table.lines.push(Line::Cells(vec![
                format!("{}{isa}", row.engine),
                row.precision.clone(),
                row.threads.to_string(),
                row.batch.to_string(),
                row.rounds.to_string(),
                digits(row.ms_per_image()),
                digits(row.p99_ms / f64::from(row.batch)),
                digits(row.images_per_second()),
                row.share_of_peak()
                    .map_or(String::new(), |share| format!("{:.0} %", 100.0 * share)),
                row.difference.map_or(String::new(), |value| format!("{value:.0e}")),
                ratio.map_or(String::new(), |mine| format!("{:.2}", mine.p50_ms / row.p50_ms)),
            ]));
        }
    }
    table
}

/// Three significant digits, without an exponent.
fn digits(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}
