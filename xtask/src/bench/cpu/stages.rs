//! The table of where a detector's time goes.

use simplenet_report::{Align, Benchmark, Column, Line, Table};

/// How subjects of stages begin.
const PREFIX: &str = "stage: ";

/// What detectors do, in order, and the whole of it.
const STAGES: [&str; 6] = ["decode", "resize", "backbone", "patches", "head", "map"];
const WHOLE: &str = "whole";

/// Rows that are not of stages.
pub(super) fn others(rows: &[Benchmark]) -> Vec<Benchmark> {
    rows.iter()
        .filter(|row| !row.subject.starts_with(PREFIX))
        .cloned()
        .collect()
}

/// A line for each detector, a column for each stage: milliseconds at the median. `None` without rows of stages.
pub(super) fn table(rows: &[Benchmark]) -> Option<Table> {
    let name = |heading: &str, align| Column {
        heading: heading.into(),
        align,
    };
    let mut columns = vec![name("detector", Align::Left), name("precision", Align::Left)];
    columns.extend(STAGES.map(|stage| name(stage, Align::Right)));
    columns.extend(["rest", WHOLE, "whole / backbone"].map(|heading| name(heading, Align::Right)));
    let stage = |of: &Benchmark, stage: &str| {
        let subject = format!("{PREFIX}{stage}");
        let same = |row: &&Benchmark| {
            row.subject == subject && row.model == of.model && row.precision == of.precision && row.device == of.device
        };
        rows.iter().find(same).map(|row| row.p50_ms)
    };
    let whole = format!("{PREFIX}{WHOLE}");
    let mut lines = Vec::new();
    for row in rows.iter().filter(|row| row.subject == whole) {
        let times: Option<Vec<f64>> = STAGES.iter().map(|name| stage(row, name)).collect();
        let (Some(times), Some(backbone)) = (times, stage(row, "backbone")) else {
            continue;
        };
        let mut cells = vec![row.model.clone(), row.precision.clone()];
        cells.extend(times.iter().map(|time| format!("{time:.2}")));
        cells.push(format!("{:.2}", row.p50_ms - times.iter().sum::<f64>()));
        cells.push(format!("{:.2}", row.p50_ms));
        cells.push(format!("{:.2}", row.p50_ms / backbone));
        lines.push(Line::Cells(cells));
    }
    let first = rows.iter().find(|row| row.subject == whole)?;
    let notes = vec![format!(
        "Milliseconds at the median, one image, {} threads, {} ({}). Each stage is timed for itself; `whole` is one call from \
         file to verdict, and `rest` its median less theirs: regions, what is absent where that is measured, memory that the \
         stages have warm, and the noise of the \
         larger times.",
        first.threads, first.device, first.isa
    )];
    Some(Table { columns, lines, notes })
}
