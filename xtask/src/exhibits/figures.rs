//! Rows and measurements to figures.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use simplenet::config::FeatureScale;
use simplenet_report::figure::{
    Axis, Figure, Group, Histogram, LineChart, Mark, Point, Scatter, ScatterGroup, ScatterPoint, Series,
};
use simplenet_report::{Measurement, Metric, Published, Row, Selection, Spread, average};

use super::{Drawing, Part, distinct, tables};
use crate::experiment::number;
use crate::folder::RunFolder;

/// More lines than this are averaged over categories: colours repeat after seven.
const MOST_LINES: usize = 6;
/// Bins of a histogram.
const MOST_BINS: usize = 60;

/// Image and pixel AUROC over a number of the configuration: the mean over categories at `last` and at `best`, and every category at
/// `last` where they are few.
pub(super) fn sweep(
    part: &Part,
    folder: &RunFolder,
    key: &str,
    label: &str,
    log: bool,
    mark: &str,
) -> Result<Vec<Drawing>> {
    let mut at: BTreeMap<&str, f64> = BTreeMap::new();
    for row in &part.rows {
        if !at.contains_key(row.config_sha256.as_str()) {
            at.insert(&row.config_sha256, folder.number(&row.config_sha256, key)?);
        }
    }
    let x_of = |row: &Row| at[row.config_sha256.as_str()];
    let mut ticks: Vec<f64> = at.values().copied().collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let marked = part.rows.iter().find(|row| row.variant == mark);
    // σ in standard deviations is ours; the paper has one backbone and its own units.
    let is_relative = match marked {
        Some(row) => key == "train.noise" && folder.config(&row.config_sha256)?.scale == FeatureScale::Standardised,
        None => false,
    };
    let chosen = marked.map(|row| Mark {
        x: x_of(row),
        label: match is_relative {
            true => format!("our choice: {}", x_of(row)),
            false => format!("the paper's choice: {}", x_of(row)),
        },
    });
    let unit = if is_relative { "standard deviations" } else { "" };
    let mut drawings = Vec::new();
    for (metric, name, suffix) in [
        (Metric::ImageAuroc, "image AUROC", ""),
        (Metric::PixelAuroc, "pixel AUROC", "pixel"),
    ] {
        let line = |name: String, selection: Selection, wanted: &[&str]| {
            let of = |x: f64| {
                let rows = part.rows.iter().filter(|row| {
                    x_of(row) == x && row.selection == selection && wanted.contains(&row.category.as_str())
                });
                over_seeds(rows, metric)
            };
            let points = ticks
                .iter()
                .filter_map(|&x| of(x).map(|average| point(x, average.mean, average.deviation)));
            Series {
                name,
                points: points.collect(),
            }
        };
        let categories = distinct(part.rows.iter().map(|row| row.category.as_str()));
        // A mean over other categories at each x would show their difference.
        let mut everywhere = categories.clone();
        everywhere.retain(|category| {
            let has = |x: f64| {
                let mut rows = part
                    .rows
                    .iter()
                    .filter(|row| row.category == *category && x_of(row) == x);
                rows.any(|row| metric.of(row).is_some())
            };
            ticks.iter().all(|&x| has(x))
        });
        // Of one category the title says which.
        let of_all = match (categories.len(), everywhere.len()) {
            (1, _) => String::new(),
            (all, those) if those < all => format!("mean of {those} of {all}, "),
            _ => "mean, ".into(),
        };
        let mut series = vec![
            line(format!("{of_all}last"), Selection::Last, &everywhere),
            line(format!("{of_all}best on the test set"), Selection::Best, &everywhere),
        ];
        // More lines than a reader can tell apart would hide the mean among them; the table has every category.
        if categories.len() > 1 && categories.len() + series.len() <= MOST_LINES {
            series.extend(
                categories
                    .iter()
                    .map(|category| line(format!("{category}, last"), Selection::Last, &[category])),
            );
        }
        series.retain(|series| !series.points.is_empty());
        if series.is_empty() {
            continue;
        }
        if let [last, best, ..] = &series[..]
            && !everywhere.is_empty()
            && last.points == best.points
        {
            series.remove(1);
            series[0].name = format!("{of_all}last and best");
        }
        let x = if log {
            Axis::log(label, unit)
        } else {
            Axis::linear(label, unit).with_ticks(&ticks)
        };
        drawings.push(part.drawing(
            suffix,
            Figure::Lines(LineChart {
                title: part.title(),
                x,
                y: Axis::linear(name, "%"),
                series,
                marks: chosen.iter().cloned().collect(),
            }),
        ));
    }
    Ok(drawings)
}

/// Loss and image AUROC over epochs, a line per variant; per category where there are few.
pub(super) fn convergence(part: &Part) -> Result<Vec<Drawing>> {
    let categories = distinct(part.rows.iter().map(|row| row.category.as_str()));
    let variants = distinct(part.rows.iter().map(|row| row.variant.as_str()));
    let apart = categories.len() > 1 && categories.len() * variants.len() <= MOST_LINES;
    let mut drawings = Vec::new();
    for (quantity, label, unit, scale) in [
        ("loss", "training loss", "", 1.0),
        ("image_auroc", "image AUROC", "%", 100.0),
    ] {
        let line = |name: String, belongs: &dyn Fn(&Measurement) -> bool| {
            let mut at: BTreeMap<u64, Vec<(&str, u64, f64)>> = BTreeMap::new();
            let wanted = part
                .measurements
                .iter()
                .filter(|m| m.quantity == quantity && belongs(m));
            wanted.for_each(|m| at.entry(m.x).or_default().push((&m.category, m.seed, scale * m.value)));
            let points = at
                .into_iter()
                .filter_map(|(x, values)| Some(Point::at(x as f64, average(values)?.mean)));
            Series {
                name,
                points: points.collect(),
            }
        };
        let mut series = Vec::new();
        for variant in &variants {
            if !apart {
                series.push(line((*variant).into(), &|m| m.variant == *variant));
                continue;
            }
            for category in &categories {
                let belongs = |m: &Measurement| m.variant == *variant && m.category == *category;
                series.push(line(format!("{category}, {variant}"), &belongs));
            }
        }
        series.retain(|series| !series.points.is_empty());
        if series.is_empty() {
            continue;
        }
        drawings.push(part.drawing(
            if quantity == "loss" { "loss" } else { "auroc" },
            Figure::Lines(LineChart {
                title: part.title(),
                x: Axis::linear("epoch", ""),
                y: Axis::linear(label, unit),
                series,
                marks: Vec::new(),
            }),
        ));
    }
    Ok(drawings)
}

/// Standard deviation per feature dimension before and after the adaptor, one histogram per category.
pub(super) fn deviations(part: &Part) -> Result<Vec<Drawing>> {
    let mut drawings = Vec::new();
    for category in distinct(part.measurements.iter().map(|m| m.category.as_str())) {
        let group = |quantity: &str, name: &str| {
            let of = part
                .measurements
                .iter()
                .filter(|m| m.category == category && m.quantity == quantity);
            Group {
                name: name.into(),
                values: of.map(|m| m.value).collect(),
            }
        };
        let groups = vec![
            group("deviation_before", "before the adaptor"),
            group("deviation_after", "after the adaptor"),
        ];
        if groups.iter().any(|group| group.values.is_empty()) {
            continue;
        }
        drawings.push(part.drawing(
            category,
            Figure::Histogram(Histogram {
                title: part.title_of(category),
                x: Axis::linear("standard deviation of a feature dimension", ""),
                bins: bins(&groups),
                groups,
                marks: Vec::new(),
            }),
        ));
    }
    Ok(drawings)
}

/// Image AUROC over images per second, with the paper's own points.
pub(super) fn speed(part: &Part, folder: &RunFolder, published: &Published) -> Result<Vec<Drawing>> {
    let measured = tables::speeds(part, folder)?.into_iter().filter_map(|speed| {
        Some(ScatterPoint {
            label: speed.variant,
            x: 1e3 / speed.p50,
            y: speed.percent[0]?,
        })
    });
    let mut groups = vec![ScatterGroup {
        name: "measured here, batch of 1".into(),
        points: measured.collect(),
    }];
    let values = published.values();
    let of = |row: &str, column: &str, metric: &str| {
        let found = values
            .iter()
            .find(|v| v.row == row && v.column == column && v.metric == metric);
        found.map(|value| value.value)
    };
    for hardware in distinct(values.iter().map(|value| value.column.as_str())) {
        let names = distinct(
            values
                .iter()
                .filter(|value| value.column == hardware)
                .map(|value| value.row.as_str()),
        );
        let points = names.into_iter().filter_map(|name| {
            Some(ScatterPoint {
                label: name.into(),
                x: of(name, hardware, "frames_per_second")
                    .or_else(|| Some(1e3 / of(name, hardware, "ms_per_image")?))?,
                y: of(name, hardware, "image_auroc")?,
            })
        });
        let points: Vec<ScatterPoint> = points.collect();
        // Accuracies on another data set stand on no common axis.
        if !points.is_empty() && part.is_published() {
            groups.push(ScatterGroup {
                name: format!("published, {hardware}"),
                points,
            });
        }
    }
    if groups[0].points.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![part.drawing(
        "",
        Figure::Scatter(Scatter {
            title: part.title(),
            x: Axis::log("images per second", "1/s"),
            y: Axis::linear("image AUROC", "%"),
            groups,
        }),
    )])
}

/// As many that a bin would hold some six numbers if they were spread evenly.
fn bins(groups: &[Group]) -> usize {
    let fewest = groups.iter().map(|group| group.values.len()).min().unwrap_or(0);
    (fewest / 6).clamp(8, MOST_BINS)
}

impl Part<'_> {
    /// With the category where there is one.
    fn title(&self) -> String {
        match self.categories()[..] {
            [category] => self.title_of(category),
            _ => format!("{}\n{}", self.experiment.title, self.about.replace('`', "")),
        }
    }

    fn title_of(&self, category: &str) -> String {
        format!("{}\n{category}, {}", self.experiment.title, self.about.replace('`', ""))
    }

    fn drawing(&self, suffix: &str, figure: Figure) -> Drawing {
        let parts: Vec<&str> = [self.suffix.as_str(), suffix]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        Drawing {
            suffix: parts.join("-"),
            figure,
        }
    }
}

/// Percent: the average over categories and seeds, as in tables.
fn over_seeds<'a>(rows: impl Iterator<Item = &'a Row>, metric: Metric) -> Option<Spread> {
    let value = |row: &'a Row| Some((row.category.as_str(), row.seed, 100.0 * metric.of(row)?));
    average(rows.filter_map(value))
}

fn point(x: f64, y: f64, deviation: Option<f64>) -> Point {
    deviation.map_or(Point::at(x, y), |deviation| Point::with_deviation(x, y, deviation))
}

impl RunFolder {
    /// A number of the configuration that produced a row, by its path such as `train.noise`.
    fn number(&self, sha256: &str, key: &str) -> Result<f64> {
        let number = number(&self.config(sha256)?, key)?;
        number.with_context(|| format!("the configuration {sha256} has no number `{key}`"))
    }
}
