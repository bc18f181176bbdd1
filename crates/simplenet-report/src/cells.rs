use std::io::Cursor;
use std::path::Path;
use std::str::FromStr;

use polars::prelude::{CsvParseOptions, CsvReadOptions, PolarsError, SerReader, StringChunked};

use crate::{Error, Result};

/// The cells of a CSV file as text: only so can an error name the line, and a SHA-256 of digits stay one.
pub(crate) struct Cells<'a> {
    path: &'a Path,
    names: &'static [&'static str],
    columns: Vec<StringChunked>,
    /// Line in the file on which each row begins; quoted cells may hold line breaks.
    lines: Vec<usize>,
}

impl<'a> Cells<'a> {
    pub(crate) fn read(path: &'a Path, bytes: &[u8], names: &'static [&'static str]) -> Result<Self> {
        let malformed = |e: PolarsError| Error::Csv {
            path: path.to_owned(),
            reason: e.to_string(),
        };
        let frame = CsvReadOptions::default()
            .with_infer_schema_length(Some(0))
            .with_raise_if_empty(false)
            .with_parse_options(CsvParseOptions::default().with_missing_is_null(true))
            .into_reader_with_file_handle(Cursor::new(bytes))
            .finish()
            .map_err(malformed)?;
        let found: Vec<&str> = frame.columns().iter().map(|c| c.name().as_str()).collect();
        if found != names {
            return Err(wrong_columns(path, &found, names));
        }
        let columns = frame
            .columns()
            .iter()
            .map(|c| c.str().map(|chunked| chunked.rechunk().into_owned()))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(malformed)?;
        let mut line = 2;
        let mut lines = Vec::with_capacity(frame.height());
        for row in 0..frame.height() {
            lines.push(line);
            let breaks = |text: &str| text.matches('\n').count();
            line += 1 + columns.iter().filter_map(|c| c.get(row)).map(breaks).sum::<usize>();
        }
        Ok(Cells {
            path,
            names,
            columns,
            lines,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(crate) fn get(&self, row: usize, column: &'static str) -> Option<&str> {
        let index = self.names.iter().position(|name| *name == column)?;
        self.columns[index].get(row).filter(|text| !text.is_empty())
    }

    pub(crate) fn required(&self, row: usize, column: &'static str, expected: &'static str) -> Result<&str> {
        self.get(row, column).ok_or_else(|| self.wrong(row, column, expected))
    }

    pub(crate) fn parsed<T>(
        &self,
        row: usize,
        column: &'static str,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        parse(self.required(row, column, expected)?).ok_or_else(|| self.wrong(row, column, expected))
    }

    pub(crate) fn optional<T: FromStr + Copy>(
        &self,
        row: usize,
        column: &'static str,
        expected: &'static str,
        valid: impl Fn(T) -> bool,
    ) -> Result<Option<T>> {
        let Some(text) = self.get(row, column) else {
            return Ok(None);
        };
        let value = text.parse().ok().filter(|value| valid(*value));
        value.map(Some).ok_or_else(|| self.wrong(row, column, expected))
    }

    fn wrong(&self, row: usize, column: &'static str, expected: &'static str) -> Error {
        Error::Cell {
            path: self.path.to_owned(),
            line: self.lines[row],
            column,
            found: self
                .get(row, column)
                .map_or("nothing".to_owned(), |text| format!("`{text}`")),
            expected,
        }
    }
}

fn wrong_columns(path: &Path, found: &[&str], expected: &[&str]) -> Error {
    let missing: Vec<&str> = expected.iter().filter(|name| !found.contains(name)).copied().collect();
    let extra: Vec<&str> = found.iter().filter(|name| !expected.contains(name)).copied().collect();
    let hint = match (missing.as_slice(), extra.as_slice()) {
        ([], []) => "the order is wrong".to_owned(),
        (missing, []) => format!("missing: {}", missing.join(", ")),
        ([], extra) => format!("not known: {}", extra.join(", ")),
        (missing, extra) => format!("missing: {}; not known: {}", missing.join(", "), extra.join(", ")),
    };
    Error::Columns {
        path: path.to_owned(),
        found: found.join(","),
        expected: expected.join(","),
        hint,
    }
}
