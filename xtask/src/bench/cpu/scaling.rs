//! The table of what a second thread and a larger batch bring.

use simplenet_report::{Align, Benchmark, Column, Line, Table};

use super::BATCHES;
use crate::bench::OWN;

/// A line for each backbone and precision that was timed with one thread and with more. `None` without such rows.
pub(super) fn table(rows: &[Benchmark]) -> Option<Table> {
    let own = |row: &&Benchmark| row.subject == "backbone" && row.engine == OWN;
    let most = rows
        .iter()
        .filter(own)
        .map(|row| row.threads)
        .max()
        .filter(|most| *most > 1)?;
    let [small, large] = BATCHES.map(|batch| u32::try_from(batch).unwrap_or(u32::MAX));
    let column = |heading: String, align| Column { heading, align };
    let mut columns = vec![
        column("backbone".into(), Align::Left),
        column("precision".into(), Align::Left),
    ];
    for (threads, batch) in [(1, small), (1, large), (most, small), (most, large)] {
        columns.push(column(format!("{threads} threads, batch {batch}"), Align::Right));
    }
    columns.push(column(format!("{most} threads over 1, batch {small}"), Align::Right));
    columns.push(column(format!("batch {large}"), Align::Right));
    columns.push(column(
        format!("batch {large} over {small}, {most} threads"),
        Align::Right,
    ));
    let mut lines = Vec::new();
    for row in rows
        .iter()
        .filter(own)
        .filter(|row| row.threads == 1 && row.batch == small)
    {
        let per_image = |threads, batch| {
            let same = |other: &&Benchmark| {
                other.model == row.model
                    && other.precision == row.precision
                    && other.device == row.device
                    && (other.threads, other.batch) == (threads, batch)
            };
            rows.iter().filter(own).find(same).map(Benchmark::ms_per_image)
        };
        let times =
            [(1, small), (1, large), (most, small), (most, large)].map(|(threads, batch)| per_image(threads, batch));
        let [Some(one), Some(one_large), Some(all), Some(all_large)] = times else {
            continue;
        };
        let mut cells = vec![row.model.clone(), row.precision.clone()];
        cells.extend([one, one_large, all, all_large].map(|time| format!("{time:.1}")));
        cells.push(format!("{:.2} ×", one / all));
        cells.push(format!("{:.2} ×", one_large / all_large));
        cells.push(format!("{:.2}", all_large / all));
        lines.push(Line::Cells(cells));
    }
    let notes = vec!["Milliseconds per image at the median; then how many times faster more threads are, at either batch; then the time \
                      per image in the large batch over that of one alone."
        .into()];
    (!lines.is_empty()).then_some(Table { columns, lines, notes })
}
