//! Numbers that are not one per row: curves over epochs, values per dimension, times per image.
//!
//! A [`Measurement`] belongs to the cell that a [`Row`](crate::Row) tells of and is kept in a file of its own, with the same
//! guarantees as [`results`](crate::results).

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use polars::prelude::{Column, CsvWriter, DataFrame, PolarsError, SerWriter};

use crate::cells::Cells;
use crate::file::{Lock, write_atomic};
use crate::{Error, Result};

/// One number of a cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measurement {
    /// Name of the experiment, e.g. `fig7`.
    pub experiment: String,
    /// Variant within the experiment.
    pub variant: String,
    /// Protocol, e.g. `paper`.
    pub protocol: String,
    /// Dataset, e.g. `mvtec`.
    pub dataset: String,
    /// Category of the dataset.
    pub category: String,
    /// Backbone.
    pub backbone: String,
    /// Seed of the run.
    pub seed: u64,
    /// SHA-256 of the configuration that produced the number.
    pub config_sha256: String,
    /// What was measured, e.g. `loss`.
    pub quantity: String,
    /// Where: an epoch, a dimension, the number of an image.
    pub x: u64,
    /// The number, in the unit that the quantity implies.
    pub value: f64,
}

/// Columns of the CSV file, in order.
const COLUMNS: [&str; 11] = [
    "experiment",
    "variant",
    "protocol",
    "dataset",
    "category",
    "backbone",
    "seed",
    "config_sha256",
    "quantity",
    "x",
    "value",
];

/// The cell that a measurement belongs to.
type Owner<'a> = ([&'a str; 7], u64);

impl Measurement {
    fn owner(&self) -> Owner<'_> {
        let names = [
            &self.experiment,
            &self.variant,
            &self.protocol,
            &self.dataset,
            &self.category,
            &self.backbone,
            &self.config_sha256,
        ];
        (names.map(String::as_str), self.seed)
    }
}

/// Reads the measurements of a file, in order; a file that is not there holds none.
///
/// # Errors
/// When the file has other columns, or a cell that does not parse, with its line and column.
pub fn read_or_empty(path: &Path) -> Result<Vec<Measurement>> {
    let bytes = match fs::read(path) {
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| Error::io("read", path, e))?,
    };
    let cells = Cells::read(path, &bytes, &COLUMNS)?;
    let number = |row, column| cells.parsed(row, column, "a whole number", |text| text.parse().ok());
    (0..cells.len())
        .map(|row| {
            let text = |column| cells.required(row, column, "a name").map(str::to_owned);
            let finite = |text: &str| text.parse().ok().filter(|value: &f64| value.is_finite());
            Ok(Measurement {
                experiment: text("experiment")?,
                variant: text("variant")?,
                protocol: text("protocol")?,
                dataset: text("dataset")?,
                category: text("category")?,
                backbone: text("backbone")?,
                seed: number(row, "seed")?,
                config_sha256: text("config_sha256")?,
                quantity: text("quantity")?,
                x: number(row, "x")?,
                value: cells.parsed(row, "value", "a number", finite)?,
            })
        })
        .collect()
}

/// Adds measurements at the end of a file in place of those that the same cells had.
///
/// # Errors
/// As [`read_or_empty`]; when a value is not finite or a name is empty; when the folder cannot be written. The file is
/// then unchanged.
pub fn replace(path: &Path, new: &[Measurement]) -> Result<()> {
    new.iter().try_for_each(check)?;
    let _lock = Lock::exclusive(path)?;
    let owners: BTreeSet<Owner<'_>> = new.iter().map(Measurement::owner).collect();
    let mut all = read_or_empty(path)?;
    all.retain(|old| !owners.contains(&old.owner()));
    all.extend_from_slice(new);
    write_atomic(path, &encode(path, &all)?)
}

/// What [`read_or_empty`] would refuse must not be written.
fn check(measurement: &Measurement) -> Result<()> {
    let (names, seed) = measurement.owner();
    let refuse = |column, found: String, expected| {
        Err(Error::Value {
            key: format!("{} seed {seed} {}", names.join("/"), measurement.quantity),
            column,
            found,
            expected,
        })
    };
    if !measurement.value.is_finite() {
        return refuse("value", measurement.value.to_string(), "a finite number");
    }
    if names.iter().any(|name| name.is_empty()) || measurement.quantity.is_empty() {
        return refuse("quantity", "an empty name".to_owned(), "a name in every column");
    }
    Ok(())
}

fn encode(path: &Path, all: &[Measurement]) -> Result<Vec<u8>> {
    let text = |column: &'static str, get: fn(&Measurement) -> &String| {
        let values: Vec<&str> = all.iter().map(|m| get(m).as_str()).collect();
        Column::new(column.into(), values)
    };
    let columns = vec![
        text("experiment", |m| &m.experiment),
        text("variant", |m| &m.variant),
        text("protocol", |m| &m.protocol),
        text("dataset", |m| &m.dataset),
        text("category", |m| &m.category),
        text("backbone", |m| &m.backbone),
        Column::new("seed".into(), all.iter().map(|m| m.seed).collect::<Vec<_>>()),
        text("config_sha256", |m| &m.config_sha256),
        text("quantity", |m| &m.quantity),
        Column::new("x".into(), all.iter().map(|m| m.x).collect::<Vec<_>>()),
        Column::new("value".into(), all.iter().map(|m| m.value).collect::<Vec<_>>()),
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
