use std::io;
use std::path::{Path, PathBuf};

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong between finished rows and a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system said no.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried, e.g. `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is no well-formed CSV, e.g. a line has too many cells.
    #[error("{path} is not a well-formed CSV file: {reason}")]
    Csv {
        /// The file.
        path: PathBuf,
        /// What polars said.
        reason: String,
    },
    /// The header differs from the expected one.
    #[error("{path}, line 1: the columns are\n  {found}\nbut should be\n  {expected}\n\nhint: {hint}")]
    Columns {
        /// The file.
        path: PathBuf,
        /// The header of the file.
        found: String,
        /// The header it should have.
        expected: String,
        /// The difference in words.
        hint: String,
    },
    /// A cell does not hold what its column asks for.
    #[error("{path}, line {line}, column `{column}`: found {found}, expected {expected}")]
    Cell {
        /// The file.
        path: PathBuf,
        /// Line in the file, from 1.
        line: usize,
        /// Name of the column.
        column: &'static str,
        /// The text of the cell.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A row that was to be written does not hold what its column asks for.
    #[error("row {key}, column `{column}`: got {found}, expected {expected}")]
    Value {
        /// The row, by its key.
        key: String,
        /// Name of the column.
        column: &'static str,
        /// The value.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Two rows have the same key.
    #[error(
        "{path}: two rows have the key {key}\n\nhint: remove one of them; a cell that was run again needs another seed or config"
    )]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The key of both.
        key: String,
    },
    /// Rows that do not belong together were to be averaged.
    #[error(
        "a cell of the table would mix rows with {column} `{left}` and `{right}`\n\nhint: filter the rows by {column} first, or make it a dimension of the table"
    )]
    Mixed {
        /// The column in which the rows differ.
        column: &'static str,
        /// One of its values.
        left: String,
        /// Another one.
        right: String,
    },
    /// There was nothing to make a table, figure or sheet from.
    #[error("{what}: there is nothing to show")]
    Empty {
        /// The table, figure or sheet.
        what: String,
    },
    /// A document lacks a marker, or has one twice.
    #[error(
        "{problem}\n\nhint: a generated block stands between `<!-- BEGIN: {marker} -->` and `<!-- END: {marker} -->`"
    )]
    Marker {
        /// Name of the block.
        marker: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The same, for a file.
    #[error("{path}: generated block")]
    Document {
        /// The document.
        path: PathBuf,
        /// The cause.
        source: Box<Error>,
    },
    /// A figure or sheet was described wrongly: NaN, a log axis with 0, a map of the wrong size.
    #[error("{what}: {problem}")]
    Figure {
        /// Title of the figure, or the row of the sheet.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Drawing itself failed.
    #[error("cannot draw {what}: {reason}")]
    Drawing {
        /// What was drawn.
        what: String,
        /// What plotters said.
        reason: String,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Error::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn figure(what: &str, problem: impl Into<String>) -> Self {
        Error::Figure {
            what: what.to_owned(),
            problem: problem.into(),
        }
    }

    pub(crate) fn drawing(what: &str, reason: impl std::fmt::Display) -> Self {
        Error::Drawing {
            what: what.to_owned(),
            reason: reason.to_string(),
        }
    }
}
