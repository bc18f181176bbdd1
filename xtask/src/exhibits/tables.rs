//! Rows to tables.

use anyhow::Result;
use simplenet_data::toy;
use simplenet_report::{
    Align, CategoryKind, CategoryKinds, Column, Dimension, Line, Metric, Pivot, Published, PublishedColumn, Row,
    Selection, Table, pivot, table1,
};

use super::{Part, distinct, mean_and_deviation};

const AUROCS: [Metric; 2] = [Metric::ImageAuroc, Metric::PixelAuroc];
/// Column of docs/paper that has the paper's own numbers.
const OURS: &str = "SimpleNet";

type Captioned = Vec<(String, Table)>;

/// A line per category; one table per variant.
pub(super) fn categories(part: &Part, methods: &[String], published: &Published) -> Result<Captioned> {
    let has_pixels = part.rows.iter().any(|row| row.pixel_auroc.is_some());
    let mut tables = Vec::new();
    for variant in distinct(part.rows.iter().map(|row| row.variant.as_str())) {
        let rows: Vec<Row> = part.rows.iter().filter(|row| row.variant == variant).cloned().collect();
        let is_toy = rows.iter().any(|row| row.dataset.starts_with("toy"));
        // The categories of another data set are not the paper's.
        let methods: Vec<&str> = if is_toy {
            Vec::new()
        } else {
            methods.iter().map(String::as_str).collect()
        };
        let table = match (has_pixels, is_toy) {
            (true, true) => table1(&rows, &toy_kinds(), published, &methods)?,
            (true, false) => table1(&rows, &CategoryKinds::mvtec(), published, &methods)?,
            (false, _) => image_only(&rows, published, &methods)?,
        };
        tables.push((format!("{variant}, {}", part.about), table));
    }
    Ok(tables)
}

/// Image AUROC per category with the average, and what is published of the average.
fn image_only(rows: &[Row], published: &Published, methods: &[&str]) -> Result<Table> {
    let spec = |rows| Pivot {
        rows,
        columns: Dimension::Selection,
        metrics: &[Metric::ImageAuroc],
        published: None,
    };
    let mut table = pivot(rows, &spec(Dimension::Category))?;
    for line in pivot(rows, &spec(Dimension::Dataset))?.lines {
        if let Line::Cells(mut cells) = line {
            cells[0] = "average".into();
            table.lines.push(Line::Strong(cells));
        }
    }
    let known = published
        .values()
        .iter()
        .filter(|value| methods.contains(&value.column.as_str()));
    table.notes.extend(known.map(|value| {
        let source = value.source.as_str();
        format!(
            "Published {}: {} {} ({source}: {})",
            value.row, value.column, value.value, value.reference
        )
    }));
    Ok(table)
}

/// A line per variant, averaged over categories, beside the paper; then a line per category, a column per variant.
pub(super) fn variants(part: &Part, published: &Published) -> Result<Captioned> {
    let labelled = labelled(part);
    let is_toy = labelled.iter().any(|row| row.dataset.starts_with("toy"));
    let has_published = !is_toy
        && published
            .values()
            .iter()
            .any(|value| value.metric == Metric::ImageAuroc.column());
    let averages = Pivot {
        rows: Dimension::Variant,
        columns: Dimension::Selection,
        metrics: &AUROCS,
        published: has_published.then_some(PublishedColumn {
            published,
            column: OURS,
        }),
    };
    let categories = distinct(labelled.iter().map(|row| row.category.as_str())).len();
    let mut tables = vec![(
        format!("Mean of {categories} categories, {}", part.about),
        pivot(&labelled, &averages)?,
    )];
    for selection in [Selection::Last, Selection::Best] {
        let rows: Vec<Row> = labelled
            .iter()
            .filter(|row| row.selection == selection)
            .cloned()
            .collect();
        if categories < 2 || rows.is_empty() {
            continue;
        }
        let by_category = Pivot {
            rows: Dimension::Category,
            columns: Dimension::Variant,
            metrics: &AUROCS,
            published: None,
        };
        tables.push((
            format!("`{selection}` per category, {}", part.about),
            pivot(&rows, &by_category)?,
        ));
    }
    Ok(tables)
}

/// Accuracy and the time of single images, per variant.
pub(super) fn speed(part: &Part) -> Result<Captioned> {
    let mut columns = vec![Column {
        heading: "method".into(),
        align: Align::Left,
    }];
    columns.extend(
        ["I-AUROC (last)", "p50 (ms)", "p99 (ms)", "images/s", "images timed"].map(|heading| Column {
            heading: heading.into(),
            align: Align::Right,
        }),
    );
    let lines = speeds(part).into_iter().map(|speed| {
        Line::Cells(vec![
            speed.variant,
            speed.auroc.map_or("–".into(), |auroc| format!("{auroc:.1}")),
            format!("{:.1}", speed.p50),
            format!("{:.1}", speed.p99),
            format!("{:.1}", 1e3 / speed.p50),
            speed.images.to_string(),
        ])
    });
    let mut table = Table {
        columns,
        lines: lines.collect(),
        notes: Vec::new(),
    };
    table.notes.push(
        "One image at a time, from its file to its smoothed map; p50 and p99 are percentiles over all images of all categories.".into(),
    );
    let mut machines: Vec<String> = part
        .rows
        .iter()
        .map(|row| format!("{} with {} threads", row.device, row.threads))
        .collect();
    machines.dedup();
    table.notes.push(format!("Measured on {}.", machines.join(", ")));
    Ok(vec![(format!("Mean of categories, {}", part.about), table)])
}

/// What Figure 2 shows of a variant.
pub(super) struct Speed {
    pub(super) variant: String,
    /// Percent, at `last`.
    pub(super) auroc: Option<f64>,
    /// Milliseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) images: usize,
}

pub(super) fn speeds(part: &Part) -> Vec<Speed> {
    let mut speeds = Vec::new();
    for variant in distinct(part.rows.iter().map(|row| row.variant.as_str())) {
        let timed = part
            .measurements
            .iter()
            .filter(|m| m.variant == variant && m.quantity == "latency_ms");
        let mut times: Vec<f64> = timed.map(|measurement| measurement.value).collect();
        times.sort_by(f64::total_cmp);
        // The smallest time that at least so many percent do not exceed.
        let percentile = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
        if times.is_empty() {
            continue;
        }
        let of_variant = part
            .rows
            .iter()
            .filter(|row| row.variant == variant && row.selection == Selection::Last);
        let aurocs: Vec<f64> = of_variant.filter_map(|row| Metric::ImageAuroc.of(row)).collect();
        speeds.push(Speed {
            variant: variant.to_string(),
            auroc: mean_and_deviation(&aurocs).map(|(mean, _)| 100.0 * mean),
            p50: percentile(50),
            p99: percentile(99),
            images: times.len(),
        });
    }
    speeds
}

/// The rows with the names that the paper gives to its variants.
fn labelled(part: &Part) -> Vec<Row> {
    let label = |name: &str| {
        let variant = part.experiment.variants.iter().find(|variant| variant.name == name);
        variant
            .and_then(|variant| variant.published.clone())
            .unwrap_or_else(|| name.to_string())
    };
    let relabel = |row: &Row| Row {
        variant: label(&row.variant),
        ..row.clone()
    };
    part.rows.iter().map(relabel).collect()
}

fn toy_kinds() -> CategoryKinds {
    toy::CATEGORIES.iter().fold(CategoryKinds::new(), |kinds, category| {
        let kind = match category.kind {
            toy::CategoryKind::Texture => CategoryKind::Texture,
            toy::CategoryKind::Object => CategoryKind::Object,
        };
        kinds.with(category.name, kind)
    })
}
