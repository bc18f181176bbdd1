//! Finished rows to CSV files, tables, figures and picture sheets.
//!
//! A [`Row`] is one finished cell of an experiment: what was run, its numbers, and where and how fast. [`results`] keeps
//! rows in a CSV file that several processes may append to, and [`measurements`] the curves and lists beside them;
//! [`benchmarks`] keeps timings. A
//! [`Table`] is made from rows ([`table1`] in the shape of Table 1 of Liu et al. 2023, [`pivot()`] for the ablations), beside
//! [`Published`] numbers, and prints as Markdown or as plain text. [`splice()`] puts such text between two markers of a document. A [`Figure`] is drawn as SVG or PNG; a
//! [`sheet()`] shows images with their anomaly maps, and a [`page`] all of that in one file for a browser.
//!
//! The crate does not know how a row was made: no tensors, no datasets, no metrics. Metrics are fractions between 0 and 1
//! in a row and percent in a table.
//!
//! ```
//! use simplenet_report::{Dimension, Metric, Pivot, Row, Selection, pivot};
//!
//! let row = Row {
//!     experiment: "noise".into(),
//!     variant: "sigma-0.015".into(),
//!     protocol: "paper".into(),
//!     dataset: "mvtec".into(),
//!     category: "bottle".into(),
//!     image_auroc: Some(0.998),
//!     selection: Selection::Last,
//!     ..Row::default()
//! };
//! let spec = Pivot {
//!     rows: Dimension::Variant,
//!     columns: Dimension::Protocol,
//!     metrics: &[Metric::ImageAuroc],
//!     published: None,
//! };
//! let table = pivot(&[row], &spec)?;
//! assert!(table.to_text().contains("sigma-0.015         99.8"));
//! # Ok::<(), simplenet_report::Error>(())
//! ```

pub mod benchmarks;
mod cells;
mod error;
pub mod figure;
pub mod file;
mod font;
pub mod gallery;
pub mod measurements;
pub mod page;
mod pivot;
mod published;
mod raster;
pub mod results;
mod row;
mod sheet;
mod splice;
mod summary;
mod table;
mod table1;

pub use benchmarks::{Benchmark, benchmark_table};
pub use error::{Error, Result};
pub use figure::Figure;
pub use gallery::{Gallery, GalleryImage};
pub use measurements::Measurement;
pub use pivot::{Dimension, Pivot, pivot};
pub use published::{Published, PublishedColumn, PublishedValue, Source};
pub use row::{COLUMNS, Key, Metric, Row, Selection};
pub use sheet::{Rgb8, SheetRow, SheetSection, sheet};
pub use splice::{Freshness, check, check_file, splice, splice_file};
pub use summary::{Spread, average};
pub use table::{Align, Column, Line, Table};
pub use table1::{CategoryKind, CategoryKinds, table1};
