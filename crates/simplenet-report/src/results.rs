//! Rows in a CSV file that several processes may append to at once.
//!
//! A file is only ever replaced as a whole, under a lock on `FILE.lock` beside it, so a process that dies leaves the old
//! file (and perhaps a stray temporary one, which nobody reads).

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use polars::prelude::{Column, CsvWriter, DataFrame, PolarsError, SerWriter};

use crate::cells::Cells;
use crate::file::{Lock, write_atomic};
use crate::{COLUMNS, Error, Key, Result, Row, Selection};

/// Reads the rows of a CSV file, in order.
///
/// # Errors
/// When the file is missing, has other columns than [`COLUMNS`], a cell that does not parse (with its line and column), a
/// metric outside 0 to 1, or two rows with the same [`Key`].
pub fn read(path: &Path) -> Result<Vec<Row>> {
    let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
    parse(path, &bytes)
}

/// Like [`read`]; a file that is not there holds no rows.
///
/// # Errors
/// As [`read`], but for the missing file.
pub fn read_or_empty(path: &Path) -> Result<Vec<Row>> {
    match read(path) {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

/// Adds rows at the end of a CSV file, and makes the file when it is not there. All of them land, or none.
///
/// # Errors
/// As [`read`] for what is in the file; when a row does not satisfy its columns; when a key is already there; when the
/// folder cannot be written. The file is then unchanged.
pub fn append(path: &Path, rows: &[Row]) -> Result<()> {
    change(path, rows, |_| true)
}

/// Like [`append`], but a row takes the place of one with the same key whose cell had failed.
///
/// # Errors
/// As [`append`]; a key whose cell had not failed is still refused.
pub fn replace_failed(path: &Path, rows: &[Row]) -> Result<()> {
    let new: BTreeSet<Key<'_>> = rows.iter().map(Row::key).collect();
    change(path, rows, |old| old.error.is_none() || !new.contains(&old.key()))
}

/// Moves rows to the end of a CSV file, as if they had been appended last, in their order.
///
/// # Errors
/// As [`read`], and when the folder cannot be written. The file is then unchanged.
pub fn move_to_end(path: &Path, is_moved: impl Fn(&Row) -> bool) -> Result<()> {
    let _lock = Lock::exclusive(path)?;
    let (moved, mut all): (Vec<Row>, Vec<Row>) = read(path)?.into_iter().partition(is_moved);
    all.extend(moved);
    write_atomic(path, &encode(path, &all)?)
}

fn change(path: &Path, rows: &[Row], keep: impl Fn(&Row) -> bool) -> Result<()> {
    rows.iter().try_for_each(check_row)?;
    let _lock = Lock::exclusive(path)?;
    let mut all = read_or_empty(path)?;
    all.retain(keep);
    all.extend_from_slice(rows);
    check_unique(path, &all)?;
    write_atomic(path, &encode(path, &all)?)
}

fn check_unique(path: &Path, rows: &[Row]) -> Result<()> {
    let mut seen = BTreeSet::new();
    match rows.iter().map(Row::key).find(|key| !seen.insert(*key)) {
        Some(key) => Err(Error::Duplicate {
            path: path.to_owned(),
            key: key.to_string(),
        }),
        None => Ok(()),
    }
}

const NAME: &str = "a name";
const FRACTION: &str = "a number from 0 to 1, or nothing";
const DURATION: &str = "a number that is not negative, or nothing";

fn is_fraction(value: f64) -> bool {
    (0.0..=1.0).contains(&value)
}

fn is_duration(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

/// What [`read`] would refuse must not be written.
fn check_row(row: &Row) -> Result<()> {
    let refuse = |column, found: String, expected| {
        Err(Error::Value {
            key: row.key().to_string(),
            column,
            found,
            expected,
        })
    };
    let names = [
        &row.experiment,
        &row.variant,
        &row.protocol,
        &row.dataset,
        &row.category,
        &row.backbone,
    ];
    let trailing = [
        ("device", &row.device),
        ("commit", &row.commit),
        ("config_sha256", &row.config_sha256),
    ];
    for (column, text) in COLUMNS.into_iter().zip(names).chain(trailing) {
        if text.is_empty() {
            return refuse(column, "nothing".to_owned(), NAME);
        }
    }
    let fractions = [
        row.image_auroc,
        row.pixel_auroc,
        row.aupro,
        row.image_f1_max,
        row.pixel_ap,
    ];
    for (column, value) in COLUMNS[9..14].iter().zip(fractions) {
        if let Some(value) = value.filter(|v| !is_fraction(*v)) {
            return refuse(column, value.to_string(), FRACTION);
        }
    }
    let durations = [row.extract_seconds, row.train_seconds, row.ms_per_image];
    for (column, value) in COLUMNS[14..17].iter().zip(durations) {
        if let Some(value) = value.filter(|v| !is_duration(*v)) {
            return refuse(column, value.to_string(), DURATION);
        }
    }
    if row.error.as_deref() == Some("") {
        return refuse("error", "an empty text".to_owned(), "a reason, or nothing");
    }
    Ok(())
}

/// Three decimals: a millisecond of the seconds, a microsecond of the milliseconds.
fn rounded(value: Option<f64>) -> Option<f64> {
    value.map(|v| (v * 1000.0).round() / 1000.0)
}

/// Metrics are written as the shortest decimal that reads back as the same number.
fn encode(path: &Path, rows: &[Row]) -> Result<Vec<u8>> {
    let text = |column: &'static str, get: fn(&Row) -> &String| {
        Column::new(
            column.into(),
            rows.iter().map(|row| get(row).as_str()).collect::<Vec<_>>(),
        )
    };
    let number = |column: &'static str, get: fn(&Row) -> Option<f64>| {
        Column::new(column.into(), rows.iter().map(get).collect::<Vec<_>>())
    };
    let columns = vec![
        text("experiment", |r| &r.experiment),
        text("variant", |r| &r.variant),
        text("protocol", |r| &r.protocol),
        text("dataset", |r| &r.dataset),
        text("category", |r| &r.category),
        text("backbone", |r| &r.backbone),
        Column::new("seed".into(), rows.iter().map(|r| r.seed).collect::<Vec<_>>()),
        Column::new(
            "selection".into(),
            rows.iter().map(|r| r.selection.as_str()).collect::<Vec<_>>(),
        ),
        Column::new("epoch".into(), rows.iter().map(|r| r.epoch).collect::<Vec<_>>()),
        number("image_auroc", |r| r.image_auroc),
        number("pixel_auroc", |r| r.pixel_auroc),
        number("aupro", |r| r.aupro),
        number("image_f1_max", |r| r.image_f1_max),
        number("pixel_ap", |r| r.pixel_ap),
        number("extract_seconds", |r| rounded(r.extract_seconds)),
        number("train_seconds", |r| rounded(r.train_seconds)),
        number("ms_per_image", |r| rounded(r.ms_per_image)),
        text("device", |r| &r.device),
        Column::new("threads".into(), rows.iter().map(|r| r.threads).collect::<Vec<_>>()),
        text("commit", |r| &r.commit),
        text("config_sha256", |r| &r.config_sha256),
        Column::new(
            "error".into(),
            rows.iter().map(|r| r.error.as_deref()).collect::<Vec<_>>(),
        ),
    ];
    let malformed = |e: PolarsError| Error::Csv {
        path: path.to_owned(),
        reason: e.to_string(),
    };
    let mut frame = DataFrame::new(rows.len(), columns).map_err(malformed)?;
    let mut bytes = Vec::new();
    CsvWriter::new(&mut bytes)
        .include_header(true)
        .finish(&mut frame)
        .map_err(malformed)?;
    Ok(bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Row>> {
    let cells = Cells::read(path, bytes, &COLUMNS)?;
    let rows = (0..cells.len())
        .map(|row| parse_row(&cells, row))
        .collect::<Result<Vec<_>>>()?;
    check_unique(path, &rows)?;
    Ok(rows)
}

fn parse_row(cells: &Cells<'_>, row: usize) -> Result<Row> {
    let text = |column| cells.required(row, column, NAME).map(str::to_owned);
    let fraction = |column| cells.optional(row, column, FRACTION, is_fraction);
    let duration = |column| cells.optional(row, column, DURATION, is_duration);
    Ok(Row {
        experiment: text("experiment")?,
        variant: text("variant")?,
        protocol: text("protocol")?,
        dataset: text("dataset")?,
        category: text("category")?,
        backbone: text("backbone")?,
        seed: cells.parsed(row, "seed", "a whole number", |s| s.parse().ok())?,
        selection: cells.parsed(row, "selection", "`last` or `best`", Selection::parse)?,
        epoch: cells.optional(row, "epoch", "a whole number, or nothing", |_: u32| true)?,
        image_auroc: fraction("image_auroc")?,
        pixel_auroc: fraction("pixel_auroc")?,
        aupro: fraction("aupro")?,
        image_f1_max: fraction("image_f1_max")?,
        pixel_ap: fraction("pixel_ap")?,
        extract_seconds: duration("extract_seconds")?,
        train_seconds: duration("train_seconds")?,
        ms_per_image: duration("ms_per_image")?,
        device: text("device")?,
        threads: cells.parsed(row, "threads", "a whole number", |s| s.parse().ok())?,
        commit: text("commit")?,
        config_sha256: text("config_sha256")?,
        error: cells.get(row, "error").map(str::to_owned),
    })
}
