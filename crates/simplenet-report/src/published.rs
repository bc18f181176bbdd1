use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::cells::Cells;
use crate::{Error, Metric, Result};

/// Where a published number was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Stated in the paper.
    Paper,
    /// Follows by arithmetic from numbers that are stated.
    Derived,
    /// Somebody else's statement or measurement.
    ThirdParty,
}

impl Source {
    /// As written in the CSV file.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Paper => "paper",
            Source::Derived => "derived",
            Source::ThirdParty => "third-party",
        }
    }

    /// Printed behind a number; a number of the paper has none.
    pub fn mark(self) -> &'static str {
        match self {
            Source::Paper => "",
            Source::Derived => "*",
            Source::ThirdParty => "§",
        }
    }

    fn legend(self) -> Option<&'static str> {
        match self {
            Source::Paper => None,
            Source::Derived => Some("* derived from numbers that the paper states"),
            Source::ThirdParty => Some("§ as quoted or measured by others"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Source::Paper, Source::Derived, Source::ThirdParty]
            .into_iter()
            .find(|s| s.as_str() == text)
    }
}

/// One published number.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedValue {
    /// Line of the published table, e.g. `bottle` or `average`; in a figure, the point.
    pub row: String,
    /// Column of the published table, e.g. `SimpleNet`.
    pub column: String,
    /// What the number measures, e.g. `image_auroc`.
    pub metric: String,
    /// The number as published: percent for the metrics.
    pub value: f64,
    /// Where it was found.
    pub source: Source,
    /// The place in words.
    pub reference: String,
}

/// A column of published numbers to stand beside our own.
#[derive(Clone, Copy, Debug)]
pub struct PublishedColumn<'a> {
    /// The numbers.
    pub published: &'a Published,
    /// Which of their columns.
    pub column: &'a str,
}

/// The published numbers of one table or figure. The default has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Published {
    values: Vec<PublishedValue>,
}

const COLUMNS: [&str; 6] = ["row", "column", "metric", "value", "source", "reference"];

impl Published {
    /// Reads a CSV file with the columns row, column, metric, value, source, reference. Numbers that are not known are not
    /// in the file.
    ///
    /// # Errors
    /// When the file is missing, has other columns, a cell that does not parse, or says something twice.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
        let cells = Cells::read(path, &bytes, &COLUMNS)?;
        let text = |row, column| cells.required(row, column, "a text").map(str::to_owned);
        let finite = |s: &str| s.parse().ok().filter(|v: &f64| v.is_finite());
        let mut values = Vec::with_capacity(cells.len());
        for row in 0..cells.len() {
            values.push(PublishedValue {
                row: text(row, "row")?,
                column: text(row, "column")?,
                metric: text(row, "metric")?,
                value: cells.parsed(row, "value", "a number", finite)?,
                source: cells.parsed(row, "source", "`paper`, `derived` or `third-party`", Source::parse)?,
                reference: text(row, "reference")?,
            });
        }
        let mut seen = BTreeSet::new();
        if let Some(v) = values.iter().find(|v| !seen.insert((&v.row, &v.column, &v.metric))) {
            let key = format!("{}/{}/{}", v.row, v.column, v.metric);
            return Err(Error::Duplicate {
                path: path.to_owned(),
                key,
            });
        }
        Ok(Published { values })
    }

    /// The numbers of `<folder>/<id>.csv`; a table of which nothing is known has no file.
    ///
    /// # Errors
    /// As [`Published::read`], but for the missing file.
    pub fn read_or_none(folder: &Path, id: &str) -> Result<Self> {
        match Self::read(&folder.join(format!("{id}.csv"))) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            other => other,
        }
    }

    /// All numbers, in the order of the file.
    pub fn values(&self) -> &[PublishedValue] {
        &self.values
    }

    /// The number for a line, column and metric of the published table.
    pub fn find(&self, row: &str, column: &str, metric: Metric) -> Option<&PublishedValue> {
        self.values
            .iter()
            .find(|v| v.row == row && v.column == column && v.metric == metric.column())
    }

    /// The numbers of one line, joined and marked, e.g. `99.7§ / 98.2†`. Sources met are added to `sources`.
    pub(crate) fn cell(&self, row: &str, column: &str, metrics: &[Metric], sources: &mut BTreeSet<Source>) -> String {
        let values: Vec<Option<String>> = metrics
            .iter()
            .map(|metric| {
                let value = self.find(row, column, *metric)?;
                sources.insert(value.source);
                Some(format!("{}{}", as_printed(value.value), value.source.mark()))
            })
            .collect();
        crate::summary::cell(&values, None, &[])
    }
}

/// The legend of the marks that were used.
pub(crate) fn legend(sources: &BTreeSet<Source>) -> impl Iterator<Item = String> {
    sources.iter().filter_map(|source| source.legend()).map(str::to_owned)
}

/// One decimal as in the paper, more where more were published.
fn as_printed(value: f64) -> String {
    let all = value.to_string();
    let decimals = all.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    if decimals > 1 { all } else { format!("{value:.1}") }
}
