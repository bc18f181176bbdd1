//! Rows to tables.

use anyhow::Result;
use simplenet_data::{cifar10, toy};
use simplenet_report::{
    Align, CategoryKind, CategoryKinds, Column, Dimension, Line, Metric, Pivot, Published, PublishedColumn, Row,
    Selection, Table, average, pivot, table1,
};

use super::{Part, distinct};
use crate::folder::RunFolder;

const AUROCS: [Metric; 2] = [Metric::ImageAuroc, Metric::PixelAuroc];
const OTHERS: [Metric; 2] = [Metric::Aupro, Metric::PixelAp];
/// Column of docs/paper that has the paper's own numbers.
const OURS: &str = "SimpleNet";

type Captioned = Vec<(String, Table)>;

/// Of several methods, or of those that select no epoch, what each costs and their line per category; then, of every one that
/// selects one, a line per category as in Table 1; at last the metrics that the paper does not have.
pub(super) fn categories(part: &Part, methods: &[String], published: &Published) -> Result<Captioned> {
    let has_pixels = part.rows.iter().any(|row| row.pixel_auroc.is_some());
    let variants = distinct(part.rows.iter().map(|row| row.variant.as_str()));
    let mut tables = Vec::new();
    // Without epochs nothing is selected: a table of `last` and `best` would show every number twice.
    let selects_none = |row: &Row| row.epoch.is_none() && row.error.is_none();
    let last: Vec<Row> = part
        .rows
        .iter()
        .filter(|row| row.selection == Selection::Last)
        .cloned()
        .collect();
    let by_category = |metrics| Pivot {
        rows: Dimension::Category,
        columns: Dimension::Variant,
        metrics,
        published: None,
    };
    if variants.len() > 1 || part.rows.iter().all(selects_none) {
        tables.push(costs(part, &variants));
        let metrics = if has_pixels { &AUROCS } else { &AUROCS[..1] };
        tables.push((
            format!("`last` per category, {}", part.about),
            pivot(&last, &by_category(metrics))?,
        ));
    }
    for variant in variants {
        let rows: Vec<Row> = part.rows.iter().filter(|row| row.variant == variant).cloned().collect();
        if rows.iter().all(selects_none) {
            continue;
        }
        let is_toy = rows.iter().any(|row| row.dataset.starts_with("toy"));
        // The categories of another data set are not the paper's.
        let methods: Vec<&str> = if !part.is_published() {
            Vec::new()
        } else {
            methods.iter().map(String::as_str).collect()
        };
        let table = match (has_pixels, is_toy) {
            (true, true) => table1(&rows, &toy_kinds(), published, &methods)?,
            (true, false) if part.is_published() => table1(&rows, &CategoryKinds::mvtec(), published, &methods)?,
            (true, false) => table1(&rows, &CategoryKinds::new(), published, &methods)?,
            (false, _) => image_only(&rows, published, &methods)?,
        };
        tables.push((format!("{variant}, {}", part.about), table));
    }
    if has_pixels {
        let caption = format!("AUPRO and pixel AP at `last` per category, {}", part.about);
        tables.push((caption, pivot(&last, &by_category(&OTHERS))?));
    }
    Ok(tables)
}

/// A line per variant, averaged over categories and seeds: how good, how fast, how large.
fn costs(part: &Part, variants: &[&str]) -> (String, Table) {
    let headings = [
        "I-AUROC",
        "P-AUROC",
        "AUPRO",
        "images/s",
        "fitting (s)",
        "model (MB)",
        "peak memory (MB)",
    ];
    let line = |variant: &&str| {
        let rows: Vec<&Row> = part
            .rows
            .iter()
            .filter(|row| row.variant == *variant && row.selection == Selection::Last)
            .collect();
        let mean = |of: &dyn Fn(&Row) -> Option<f64>, decimals: usize| number(mean_of(&rows, of), decimals);
        let percent = |metric: Metric| mean(&|row| metric.of(row).map(|value| 100.0 * value), 1);
        Line::Cells(vec![
            part.counted(variant),
            percent(Metric::ImageAuroc),
            percent(Metric::PixelAuroc),
            percent(Metric::Aupro),
            number(images_per_second(&rows), 1),
            mean(&|row| row.train_seconds, 1),
            number(measured(part, variant, "model_bytes").map(|bytes| bytes / 1e6), 1),
            number(measured(part, variant, "peak_bytes").map(|bytes| bytes / 1e6), 0),
        ])
    };
    let table = Table {
        columns: columns("method", &headings),
        lines: variants.iter().map(line).collect(),
        notes: vec![
            "At `last`. Images per second: the test set at once, from its files to its smoothed maps. Fitting: without the \
             extraction of features. Model: what a detector file holds beside the backbone. Peak memory: of the whole process \
             while it fits and evaluates, with the features of all training and test images."
                .into(),
        ],
    };
    (part.mean_caption(), table)
}

/// Over categories of the means over seeds.
fn mean_of(rows: &[&Row], of: impl Fn(&Row) -> Option<f64>) -> Option<f64> {
    let values = rows
        .iter()
        .filter_map(|row| Some((row.category.as_str(), row.seed, of(row)?)));
    average(values).map(|average| average.mean)
}

/// Of as many images of each category: the inverse of the mean time, not the mean of inverses.
fn images_per_second(rows: &[&Row]) -> Option<f64> {
    mean_of(rows, |row| row.ms_per_image).map(|mean| 1e3 / mean)
}

fn columns(first: &str, numbers: &[&str]) -> Vec<Column> {
    let column = |heading: &str, align| Column {
        heading: heading.into(),
        align,
    };
    let numbers = numbers.iter().map(|heading| column(heading, Align::Right));
    std::iter::once(column(first, Align::Left)).chain(numbers).collect()
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or("–".into(), |value| format!("{value:.decimals$}"))
}

/// Mean over the categories of a variant of what is measured once for each training.
fn measured(part: &Part, variant: &str, quantity: &str) -> Option<f64> {
    let of = part
        .measurements
        .iter()
        .filter(|measurement| measurement.variant == variant && measurement.quantity == quantity);
    average(of.map(|measurement| (measurement.category.as_str(), measurement.seed, measurement.value)))
        .map(|average| average.mean)
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
    let have = distinct(
        rows.iter()
            .filter(|row| row.error.is_none())
            .map(|row| row.category.as_str()),
    )
    .len();
    let all = match rows[0].dataset.starts_with("cifar10") {
        true => cifar10::CLASSES.len(),
        false => distinct(rows.iter().map(|row| row.category.as_str())).len(),
    };
    for line in pivot(rows, &spec(Dimension::Dataset))?.lines {
        if let Line::Cells(mut cells) = line {
            cells[0] = match have == all {
                true => "average".into(),
                false => format!("average ({have} of {all})"),
            };
            table.lines.push(Line::Strong(cells));
        }
    }
    let (average, metric) = ("average", Metric::ImageAuroc);
    let known = published.values().iter().filter(|value| {
        value.row == average && value.metric == metric.column() && methods.contains(&value.column.as_str())
    });
    table.notes.extend(known.map(|value| {
        let source = value.source.as_str();
        format!(
            "Published {} in the {average} of all: {} {} ({source}: {})",
            metric.heading(),
            value.column,
            value.value,
            value.reference
        )
    }));
    Ok(table)
}

/// A line per variant, averaged over categories, beside the paper; then a line per category, a column per variant.
pub(super) fn variants(part: &Part, published: &Published) -> Result<Captioned> {
    let labelled = labelled(part);
    let has_published = part.is_published() && has_accuracy(published);
    let averages = Pivot {
        rows: Dimension::Variant,
        columns: Dimension::Selection,
        metrics: &AUROCS,
        published: has_published.then_some(PublishedColumn {
            published,
            column: OURS,
        }),
    };
    let categories = part.categories().len();
    let mut table = pivot(&labelled, &averages)?;
    if has_published {
        table
            .notes
            .push("Published numbers are means over all categories, with the paper's backbone.".into());
    }
    let mut tables = vec![(part.mean_caption(), table)];
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

/// Accuracy, the time of single images and what else a method costs, per variant; and what the paper claims of the times.
pub(super) fn speed(part: &Part, folder: &RunFolder, published: &Published) -> Result<Captioned> {
    let headings = [
        "backbone",
        "I-AUROC",
        "P-AUROC",
        "AUPRO",
        "p50 (ms)",
        "p99 (ms)",
        "images/s",
        "head p50 (ms)",
        "fitting (s)",
        "model (MB)",
        "peak memory (MB)",
    ];
    let speeds = speeds(part, folder)?;
    let lines = speeds.iter().map(|speed| {
        Line::Cells(vec![
            part.counted(&speed.variant),
            speed.backbone.clone(),
            number(speed.percent[0], 1),
            number(speed.percent[1], 1),
            number(speed.percent[2], 1),
            number(Some(speed.p50), 1),
            number(Some(speed.p99), 1),
            number(Some(1e3 / speed.p50), 1),
            number(speed.head, 2),
            number(speed.fitting, 1),
            number(
                measured(part, &speed.variant, "model_bytes").map(|bytes| bytes / 1e6),
                1,
            ),
            number(measured(part, &speed.variant, "peak_bytes").map(|bytes| bytes / 1e6), 0),
        ])
    });
    let mut table = Table {
        columns: columns("method", &headings),
        lines: lines.collect(),
        notes: Vec::new(),
    };
    table.columns[1].align = Align::Left;
    table.notes.push(
        "At `last`. One image at a time, from its file to its smoothed map; head: of that, from the patch features to the \
         scores. p50 and p99 are percentiles over the timed images of all categories."
            .into(),
    );
    table.notes.extend(ratios(&speeds, published));
    if part.is_published() && has_accuracy(published) {
        table.notes.push(
            "Published points of the figure are means over all 15 categories, with their authors' backbones.".into(),
        );
    }
    let mut machines: Vec<String> = part
        .rows
        .iter()
        .map(|row| format!("{} with {} threads", row.device, row.threads))
        .collect();
    machines.dedup();
    table.notes.push(format!("Measured on {}.", machines.join(", ")));
    Ok(vec![(part.mean_caption(), table)])
}

fn has_accuracy(published: &Published) -> bool {
    let metric = Metric::ImageAuroc.column();
    published.values().iter().any(|value| value.metric == metric)
}

/// How many times as fast SimpleNet is as each PatchCore on the same backbone, beside the paper's claim.
fn ratios(speeds: &[Speed], published: &Published) -> Option<String> {
    let mut ratios = Vec::new();
    for patchcore in speeds.iter().filter(|speed| speed.method == "patchcore") {
        let simplenet = speeds
            .iter()
            .find(|speed| speed.method == "simplenet" && speed.backbone == patchcore.backbone);
        if let Some(simplenet) = simplenet {
            let head = patchcore.head.zip(simplenet.head).map(|(theirs, ours)| theirs / ours);
            ratios.push(format!(
                "{:.1} times as fast as {} (head {})",
                patchcore.p50 / simplenet.p50,
                patchcore.variant,
                number(head, 1)
            ));
        }
    }
    let fps = |row: &str| {
        let mut values = published.values().iter();
        values
            .find(|value| value.row == row && value.metric == "frames_per_second")
            .map(|value| (value.value, value.column.clone()))
    };
    let claim = fps("SimpleNet")
        .zip(fps("PatchCore"))
        .map(|((ours, hardware), (theirs, _))| {
            format!(
                "; the paper says nearly {:.0} times, {ours} images/s, on {hardware} with its backbone",
                ours / theirs
            )
        });
    (!ratios.is_empty()).then(|| {
        format!(
            "From file to map SimpleNet is {}{}.",
            ratios.join(", "),
            claim.unwrap_or_default()
        )
    })
}

/// What Figure 2 shows of a variant.
pub(super) struct Speed {
    pub(super) variant: String,
    /// `simplenet`, `patchcore` or `padim`.
    pub(super) method: &'static str,
    pub(super) backbone: String,
    /// Image AUROC, pixel AUROC and AUPRO in percent, at `last`.
    pub(super) percent: [Option<f64>; 3],
    /// Milliseconds from file to map.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// Milliseconds from features to scores, p50.
    pub(super) head: Option<f64>,
    /// Seconds.
    pub(super) fitting: Option<f64>,
}

pub(super) fn speeds(part: &Part, folder: &RunFolder) -> Result<Vec<Speed>> {
    let mut speeds = Vec::new();
    for variant in distinct(part.rows.iter().map(|row| row.variant.as_str())) {
        let times = |quantity: &str| {
            let timed = part
                .measurements
                .iter()
                .filter(|m| m.variant == variant && m.quantity == quantity);
            let mut times: Vec<f64> = timed.map(|measurement| measurement.value).collect();
            times.sort_by(f64::total_cmp);
            times
        };
        let of_variant: Vec<&Row> = part
            .rows
            .iter()
            .filter(|row| row.variant == variant && row.selection == Selection::Last)
            .collect();
        let (whole, head) = (times("latency_ms"), times("head_ms"));
        let Some(first) = of_variant.first().filter(|_| !whole.is_empty()) else {
            continue;
        };
        let percent = |metric: Metric| mean_of(&of_variant, |row| metric.of(row).map(|value| 100.0 * value));
        speeds.push(Speed {
            variant: variant.to_string(),
            method: folder.config(&first.config_sha256)?.method.name(),
            backbone: first.backbone.clone(),
            percent: [Metric::ImageAuroc, Metric::PixelAuroc, Metric::Aupro].map(percent),
            p50: percentile(&whole, 50),
            p99: percentile(&whole, 99),
            head: (!head.is_empty()).then(|| percentile(&head, 50)),
            fitting: mean_of(&of_variant, |row| row.train_seconds),
        });
    }
    Ok(speeds)
}

/// The smallest of rising values that at least so many percent of them do not exceed.
fn percentile(rising: &[f64], percent: usize) -> f64 {
    rising[(rising.len() * percent).div_ceil(100).max(1) - 1]
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
