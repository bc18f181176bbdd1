use std::collections::BTreeSet;

use crate::published::legend;
use crate::summary::{self, Failures, Place, RestsOn, Values};
use crate::table::{Column, Line};
use crate::{Error, Metric, PublishedColumn, Result, Row, Table};

/// A column of the rows whose values become lines or columns of a [`pivot()`] table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// [`Row::experiment`].
    Experiment,
    /// [`Row::variant`].
    Variant,
    /// [`Row::protocol`].
    Protocol,
    /// [`Row::dataset`].
    Dataset,
    /// [`Row::category`].
    Category,
    /// [`Row::backbone`].
    Backbone,
    /// [`Row::selection`].
    Selection,
    /// [`Row::device`].
    Device,
}

impl Dimension {
    /// The value of `row`.
    pub fn of(self, row: &Row) -> &str {
        match self {
            Dimension::Experiment => &row.experiment,
            Dimension::Variant => &row.variant,
            Dimension::Protocol => &row.protocol,
            Dimension::Dataset => &row.dataset,
            Dimension::Category => &row.category,
            Dimension::Backbone => &row.backbone,
            Dimension::Selection => row.selection.as_str(),
            Dimension::Device => &row.device,
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Dimension::Experiment => "experiment",
            Dimension::Variant => "variant",
            Dimension::Protocol => "protocol",
            Dimension::Dataset => "dataset",
            Dimension::Category => "category",
            Dimension::Backbone => "backbone",
            Dimension::Selection => "selection",
            Dimension::Device => "device",
        }
    }
}

/// What a [`pivot()`] table shows.
#[derive(Clone, Copy, Debug)]
pub struct Pivot<'a> {
    /// What the lines are.
    pub rows: Dimension,
    /// What the columns are.
    pub columns: Dimension,
    /// The numbers in each cell, joined by ` / `.
    pub metrics: &'a [Metric],
    /// Published numbers for a last column; their rows are looked up by the name of the line.
    pub published: Option<PublishedColumn<'a>>,
}

/// A table of means over categories, in the order in which lines and columns first occur in `rows`.
///
/// A cell is the mean over categories of their means over seeds, ± the sample standard deviation of the averages of single
/// seeds. It says on how many categories it rests where others have more.
///
/// # Errors
/// When there are no rows or metrics, or a cell would mix rows that differ in more than category and seed.
pub fn pivot(rows: &[Row], spec: &Pivot<'_>) -> Result<Table> {
    if rows.is_empty() || spec.metrics.is_empty() {
        return Err(Error::Empty {
            what: format!("{} by {}", spec.rows.heading(), spec.columns.heading()),
        });
    }
    let lines_by = in_order(rows.iter().map(|row| spec.rows.of(row)));
    let columns_by = in_order(rows.iter().map(|row| spec.columns.of(row)));
    let headings: Vec<&str> = spec.metrics.iter().map(|m| m.heading()).collect();
    let mut columns = vec![Column::name(format!(
        "{} ({})",
        spec.rows.heading(),
        headings.join(" / ")
    ))];
    columns.extend(columns_by.iter().map(|name| Column::number(*name)));
    columns.extend(
        spec.published
            .iter()
            .map(|p| Column::number(format!("{} (published)", p.column))),
    );

    let mut failures = Failures::default();
    let mut sources = BTreeSet::new();
    let mut lines = Vec::with_capacity(lines_by.len());
    for line in &lines_by {
        let mut cells = vec![(*line).to_owned()];
        for column in &columns_by {
            let in_cell = |row: &&Row| spec.rows.of(row) == *line && spec.columns.of(row) == *column;
            let expected = expected_places(rows, spec, line, column);
            let members = summary::distinct(rows.iter().filter(in_cell))?;
            let mut have = Vec::with_capacity(spec.metrics.len());
            let mut values = Vec::with_capacity(spec.metrics.len());
            for metric in spec.metrics {
                let of_metric = Values::of(&members, *metric);
                have.push(of_metric.count(&expected));
                values.push(of_metric.average(&expected).map(|s| s.text()));
            }
            let marks = failures.marks(members.values().copied());
            let rests_on = RestsOn {
                have,
                expected: expected.len(),
            };
            cells.push(summary::cell(&values, Some(&rests_on), &marks));
        }
        if let Some(p) = spec.published {
            cells.push(p.published.cell(line, p.column, spec.metrics, &mut sources));
        }
        lines.push(Line::Cells(cells));
    }
    let notes = legend(&sources).chain(failures.into_notes()).collect();
    Ok(Table { columns, lines, notes })
}

fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(*name)).collect()
}

/// The categories that a cell should have: all that occur, within its dataset or category where that is a dimension.
fn expected_places<'a>(rows: &'a [Row], spec: &Pivot<'_>, line: &str, column: &str) -> Vec<Place<'a>> {
    let fits = |dimension: Dimension, name: &str, row: &Row| match dimension {
        Dimension::Dataset | Dimension::Category => dimension.of(row) == name,
        _ => true,
    };
    let places: BTreeSet<Place<'_>> = rows
        .iter()
        .filter(|row| fits(spec.rows, line, row) && fits(spec.columns, column, row))
        .map(|row| (row.dataset.as_str(), row.category.as_str()))
        .collect();
    places.into_iter().collect()
}
