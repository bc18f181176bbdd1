//! Means over seeds and categories.

use std::collections::BTreeMap;

use crate::{Error, Metric, Result, Row};

/// A category of a dataset: two datasets may use the same name.
pub(crate) type Place<'a> = (&'a str, &'a str);

/// One number per category and seed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values<'a>(BTreeMap<Place<'a>, BTreeMap<u64, f64>>);

/// Mean, with the sample standard deviation (n - 1) where there are several seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The deviation; `None` of one value, or where categories have other seeds than one another.
    pub deviation: Option<f64>,
}

/// The average of a table, of values by category and seed: the mean over categories of their means over seeds, so that a
/// category counts once whatever its number of seeds; several values of one seed are averaged first. `None` of nothing.
pub fn average<'a>(values: impl IntoIterator<Item = (&'a str, u64, f64)>) -> Option<Spread> {
    let mut of_seeds: BTreeMap<(&str, u64), Vec<f64>> = BTreeMap::new();
    for (category, seed, value) in values {
        of_seeds.entry((category, seed)).or_default().push(value);
    }
    let mut by_place = Values::default();
    for ((category, seed), values) in of_seeds {
        by_place
            .0
            .entry(("", category))
            .or_default()
            .insert(seed, mean(&values)?);
    }
    let places: Vec<Place<'a>> = by_place.0.keys().copied().collect();
    by_place.average(&places)
}

/// Rows of which no two may tell of the same category and seed.
pub(crate) fn distinct<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Result<BTreeMap<(Place<'a>, u64), &'a Row>> {
    let mut cells = BTreeMap::new();
    for row in rows {
        let place = (row.dataset.as_str(), row.category.as_str());
        if let Some(other) = cells.insert((place, row.seed), row) {
            return Err(mixed(other, row));
        }
    }
    Ok(cells)
}

impl<'a> Values<'a> {
    pub(crate) fn of(cells: &BTreeMap<(Place<'a>, u64), &'a Row>, metric: Metric) -> Self {
        let mut values = Values::default();
        for ((place, seed), row) in cells {
            if let Some(value) = metric.of(row) {
                values
                    .0
                    .entry(*place)
                    .or_default()
                    .insert(*seed, value * metric.scale());
            }
        }
        values
    }

    /// `self - other` for the categories and seeds that both have.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        let mut difference = Values::default();
        for (place, seeds) in &self.0 {
            for (seed, value) in seeds {
                if let Some(subtrahend) = other.0.get(place).and_then(|s| s.get(seed)) {
                    difference
                        .0
                        .entry(*place)
                        .or_default()
                        .insert(*seed, value - subtrahend);
                }
            }
        }
        difference
    }

    /// Over the seeds of one category.
    pub(crate) fn spread(&self, place: Place<'a>) -> Option<Spread> {
        let values: Vec<f64> = self.0.get(&place)?.values().copied().collect();
        Spread::of(&values)
    }

    /// How many of `places` have a value.
    pub(crate) fn count(&self, places: &[Place<'a>]) -> usize {
        places.iter().filter(|place| self.0.contains_key(*place)).count()
    }

    /// Mean over categories of their mean over seeds. The deviation is that of the averages of single seeds, and given
    /// only where every category has the same seeds: otherwise it would mix seeds with categories.
    pub(crate) fn average(&self, places: &[Place<'a>]) -> Option<Spread> {
        let present: Vec<&BTreeMap<u64, f64>> = places.iter().filter_map(|place| self.0.get(place)).collect();
        let means: Vec<f64> = present
            .iter()
            .filter_map(|s| mean(&s.values().copied().collect::<Vec<_>>()))
            .collect();
        let mean_over_categories = mean(&means)?;
        let seeds: Vec<u64> = present.first()?.keys().copied().collect();
        let comparable = present.iter().all(|s| s.keys().eq(seeds.iter()));
        let per_seed: Vec<f64> = seeds
            .iter()
            .filter_map(|seed| mean(&present.iter().filter_map(|s| s.get(seed).copied()).collect::<Vec<_>>()))
            .collect();
        let deviation = Spread::of(&per_seed).filter(|_| comparable).and_then(|s| s.deviation);
        Some(Spread {
            mean: mean_over_categories,
            deviation,
        })
    }
}

impl Spread {
    fn of(values: &[f64]) -> Option<Spread> {
        let mean = mean(values)?;
        let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt());
        Some(Spread { mean, deviation })
    }

    /// With one decimal, e.g. `99.6` or `99.6 ± 0.1`.
    pub(crate) fn text(&self) -> String {
        match self.deviation {
            Some(deviation) => format!("{:.1} ± {deviation:.1}", self.mean),
            None => format!("{:.1}", self.mean),
        }
    }

    /// The mean with its sign, e.g. `+0.4`.
    pub(crate) fn signed(&self) -> String {
        // A tiny negative difference would print as -0.0.
        let rounded = (self.mean * 10.0).round() / 10.0 + 0.0;
        if rounded == 0.0 {
            "0.0".to_owned()
        } else {
            format!("{rounded:+.1}")
        }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Names the first column in which two rows for the same category and seed differ.
pub(crate) fn mixed(left: &Row, right: &Row) -> Error {
    let columns: [(&'static str, &str, &str); 6] = [
        ("experiment", &left.experiment, &right.experiment),
        ("variant", &left.variant, &right.variant),
        ("protocol", &left.protocol, &right.protocol),
        ("backbone", &left.backbone, &right.backbone),
        ("selection", left.selection.as_str(), right.selection.as_str()),
        ("config_sha256", &left.config_sha256, &right.config_sha256),
    ];
    let differing = columns.into_iter().find(|(_, left, right)| left != right);
    let (column, left, right) = differing.unwrap_or(("seed", "the same", "the same"));
    Error::Mixed {
        column,
        left: left.to_owned(),
        right: right.to_owned(),
    }
}

/// On how many of the expected categories each value of a cell rests.
pub(crate) struct RestsOn {
    pub(crate) have: Vec<usize>,
    pub(crate) expected: usize,
}

impl RestsOn {
    /// `(13 of 15)`, or `(15, 14 of 15)` where the values differ in it; nothing where all are there, or none.
    fn text(&self) -> Option<String> {
        let RestsOn { have, expected } = self;
        let most = have.iter().max().copied().unwrap_or(0);
        // A value that no category has is a dash.
        let mut counts: Vec<usize> = have.iter().copied().filter(|count| *count > 0).collect();
        if most == 0 || counts.iter().all(|count| count == expected) {
            return None;
        }
        counts.dedup();
        let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
        Some(format!("({} of {expected})", counts.join(", ")))
    }
}

/// What a cell says: the values joined, how many of the expected categories they rest on, and its footnotes.
pub(crate) fn cell(values: &[Option<String>], rests_on: Option<&RestsOn>, marks: &[String]) -> String {
    let mut text = if values.iter().any(Option::is_some) {
        let values: Vec<&str> = values.iter().map(|v| v.as_deref().unwrap_or("–")).collect();
        values.join(" / ")
    } else if marks.is_empty() {
        return "–".to_owned();
    } else {
        "✗".to_owned()
    };
    if let Some(rests_on) = rests_on.and_then(RestsOn::text) {
        text.push_str(&format!(" {rests_on}"));
    }
    for mark in marks {
        text.push_str(&format!(" {mark}"));
    }
    text
}

/// Footnotes about failed cells, numbered in the order in which they are met.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    notes: Vec<String>,
}

impl Failures {
    /// The marks of the failed rows among `rows`.
    pub(crate) fn marks<'a>(&mut self, rows: impl IntoIterator<Item = &'a Row>) -> Vec<String> {
        let mut marks = Vec::new();
        for row in rows {
            let Some(reason) = &row.error else { continue };
            let note = format!("{}, seed {}: {}", row.category, row.seed, first_line(reason));
            let index = self.notes.iter().position(|n| *n == note).unwrap_or_else(|| {
                self.notes.push(note);
                self.notes.len() - 1
            });
            let mark = format!("[{}]", index + 1);
            if !marks.contains(&mark) {
                marks.push(mark);
            }
        }
        marks
    }

    pub(crate) fn into_notes(self) -> impl Iterator<Item = String> {
        self.notes
            .into_iter()
            .enumerate()
            .map(|(index, note)| format!("[{}] failed: {note}", index + 1))
    }
}

fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or_default()
}
