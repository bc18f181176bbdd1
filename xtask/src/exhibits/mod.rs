//! Rows to what a reader sees: tables, figures, sheets.

pub(crate) mod departures;
mod figures;
mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use simplenet_report::{Figure, Measurement, Published, Row, Selection, Table};

use crate::experiment::{Experiment, Library, Show};
use crate::folder::RunFolder;
use crate::sheets;
use crate::source;

/// All that is shown of one experiment of one run.
#[derive(Default)]
pub(crate) struct Exhibits {
    /// Captions and tables.
    pub(crate) tables: Vec<(String, Table)>,
    pub(crate) figures: Vec<Drawing>,
    pub(crate) sheets: Vec<Sheet>,
}

/// A sheet of examples. It is not committed with the rows, so it may be missing.
pub(crate) struct Sheet {
    pub(crate) caption: String,
    /// What it shows, without the configuration's hash.
    pub(crate) name: String,
    /// A PNG file in the run's folder.
    pub(crate) path: PathBuf,
    /// What it shows, whatever the seed.
    pub(crate) kind: String,
}

/// A figure and where it goes.
pub(crate) struct Drawing {
    /// Distinguishes the figures of an experiment; empty where there is one.
    pub(crate) suffix: String,
    pub(crate) figure: Figure,
}

/// Rows that belong in one table: one protocol, data set and, unless the variants differ in it, backbone.
struct Part<'a> {
    experiment: &'a Experiment,
    /// Protocol, data set and backbone for a caption.
    about: String,
    /// For the suffix of a figure; empty where there is one part.
    suffix: String,
    /// Variants by their own names.
    rows: Vec<Row>,
    measurements: Vec<Measurement>,
}

impl Part<'_> {
    /// Categories that have rows.
    fn categories(&self) -> Vec<&str> {
        distinct(self.rows.iter().map(|row| row.category.as_str()))
    }

    /// A variant, and of how many categories it has numbers where those are not all: a mean over fewer is not comparable.
    fn counted(&self, variant: &str) -> String {
        let has_numbers = |row: &&Row| row.variant == variant && row.error.is_none();
        let have = distinct(self.rows.iter().filter(has_numbers).map(|row| row.category.as_str())).len();
        match self.categories().len() {
            all if have < all => format!("{variant} ({have} of {all})"),
            _ => variant.to_string(),
        }
    }

    /// Whether the rows are of a data set that the paper has numbers of, or of a part of it.
    fn is_published(&self) -> bool {
        self.rows.iter().all(|row| {
            let family = source::family(&row.dataset);
            source::is_published(family.split(' ').next().unwrap_or_default())
        })
    }

    /// What it means that they are of a part.
    fn part_note(&self) -> Option<String> {
        let of_part: Vec<&Row> = self.rows.iter().filter(|row| source::is_part(&row.dataset)).collect();
        let categories = distinct(of_part.iter().map(|row| row.category.as_str()));
        let which = match categories.len() == self.categories().len() {
            true => String::new(),
            false => format!(" of {}", categories.join(", ")),
        };
        Some(format!(
            "`{}`: the images{which} are not all of those published, or have another size, so these are not the benchmark's numbers.",
            of_part.first()?.dataset
        ))
    }

    /// Of which categories there should be pixel metrics, and are none.
    fn without_pixels(&self) -> Option<String> {
        // Where classes are told apart there are no masks.
        let has_masks = |row: &&Row| {
            !["cifar10", "toy-one-class"]
                .iter()
                .any(|name| row.dataset.starts_with(name))
        };
        let rows = self.rows.iter().filter(has_masks);
        let lacking = rows.filter(|row| row.error.is_none() && row.pixel_auroc.is_none());
        let lacking = distinct(lacking.map(|row| row.category.as_str()));
        (!lacking.is_empty()).then(|| {
            format!(
                "Without pixel metrics, because defective test images lack masks: {}.",
                lacking.join(", ")
            )
        })
    }

    /// What a table that averages over categories shows.
    fn mean_caption(&self) -> String {
        match self.categories()[..] {
            [category] => format!("{category}, {}", self.about),
            ref several => format!("Mean of {} categories, {}", several.len(), self.about),
        }
    }
}

impl Exhibits {
    /// Makes them from rows of any number of configurations; of each cell the newest configuration is shown.
    pub(crate) fn of(
        experiment: &Experiment,
        rows: &[Row],
        measurements: &[Measurement],
        folder: &RunFolder,
        project: &Path,
    ) -> Result<Exhibits> {
        let library = Library::open(&project.join("xtask/experiments"))?;
        let published = Published::read_or_none(&project.join("docs/paper"), &experiment.id)?;
        let mut exhibits = Exhibits::default();
        for part in parts(experiment, newest(rows), measurements) {
            let context = || format!("experiment `{}`, {}", experiment.id, part.about);
            let mut tables = match &experiment.show {
                Show::Categories { methods } => tables::categories(&part, methods, &published),
                Show::Speed { .. } => tables::speed(&part, folder, &published),
                _ => tables::variants(&part, &published),
            }
            .with_context(context)?;
            if let Some((_, first)) = tables.first_mut() {
                first
                    .notes
                    .extend(departures::note(&part, folder, &library).with_context(context)?);
                // A table of speeds is at `last`.
                if !matches!(experiment.show, Show::Speed { .. }) {
                    first
                        .notes
                        .extend(departures::looks(&part, folder).with_context(context)?);
                }
                first.notes.extend(not_run(experiment, &part.rows));
                first.notes.extend(part.part_note());
                first.notes.extend(part.without_pixels());
            }
            exhibits.tables.append(&mut tables);
            let figures = match &experiment.show {
                Show::Sweep { key, label, log, mark } => figures::sweep(&part, folder, key, label, *log, mark),
                Show::Convergence => figures::convergence(&part),
                Show::Deviations => figures::deviations(&part),
                Show::Speed { .. } => figures::speed(&part, folder, &published),
                Show::Categories { .. } | Show::Variants | Show::Qualitative => Ok(Vec::new()),
            };
            exhibits.figures.extend(figures.with_context(context)?);
            let with_sheet = part
                .rows
                .iter()
                .filter(|row| row.selection == Selection::Last && row.error.is_none());
            let sheets = with_sheet.map(|row| Sheet {
                caption: format!("{}, {}, {}, seed {}", row.category, row.variant, part.about, row.seed),
                name: format!(
                    "{}-{}-{}-{}-seed{}",
                    row.category, row.variant, row.protocol, row.backbone, row.seed
                ),
                path: folder.sheets().join(format!("{}.png", sheets::stem(row))),
                kind: format!("{}, {}, {}", row.category, row.variant, part.about),
            });
            exhibits.sheets.extend(sheets);
        }
        Ok(exhibits)
    }
}

/// Of every cell the rows of one configuration: the one that was finished last, or that failed last where none was.
pub(crate) fn newest(rows: &[Row]) -> Vec<Row> {
    let cell = |row: &Row| {
        let names = [&row.variant, &row.protocol, &row.category, &row.backbone].map(String::clone);
        (names, source::family(&row.dataset), row.seed)
    };
    let mut configs = BTreeMap::new();
    for (place, row) in rows.iter().enumerate() {
        let rank = (row.error.is_none(), place);
        let entry = configs.entry(cell(row)).or_insert((rank, &row.config_sha256));
        if rank > entry.0 {
            *entry = (rank, &row.config_sha256);
        }
    }
    let is_newest = |row: &&Row| {
        configs
            .get(&cell(row))
            .is_some_and(|(_, config)| **config == row.config_sha256)
    };
    rows.iter().filter(is_newest).cloned().collect()
}

/// The order of the experiment file for variants, of the alphabet for the rest: it must not depend on who finished first.
fn parts<'a>(experiment: &'a Experiment, mut rows: Vec<Row>, measurements: &[Measurement]) -> Vec<Part<'a>> {
    let place = |name: &str| experiment.variants.iter().position(|variant| variant.name == name);
    rows.retain(|row| place(&row.variant).is_some());
    rows.sort_by_cached_key(|row| {
        let names = [&row.protocol, &row.dataset, &row.category].map(String::clone);
        (place(&row.variant), names, row.seed, row.selection)
    });
    let by_backbone = experiment.variants.iter().all(|variant| variant.backbone.is_none());
    let mut grouped: BTreeMap<[String; 3], Vec<Row>> = BTreeMap::new();
    for row in rows {
        let backbone = if by_backbone {
            row.backbone.clone()
        } else {
            String::new()
        };
        let key = [row.protocol.clone(), source::family(&row.dataset), backbone];
        grouped.entry(key).or_default().push(row);
    }
    let several = grouped.len() > 1;
    let part = |([protocol, family, backbone], rows): ([String; 3], Vec<Row>)| {
        let of_part = rows.iter().find(|row| source::is_part(&row.dataset));
        let dataset = of_part.map_or(family, |row| row.dataset.clone());
        let mut about = format!("{dataset}, protocol `{protocol}`");
        if !backbone.is_empty() {
            about.push_str(&format!(", {backbone}"));
        }
        let name = format!("{protocol}-{dataset}-{backbone}");
        let letters = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        let name: String = name.chars().map(letters).collect();
        let owned = |measurement: &&Measurement| {
            rows.iter().any(|row| {
                (&row.variant, &row.category, &row.config_sha256, row.seed)
                    == (
                        &measurement.variant,
                        &measurement.category,
                        &measurement.config_sha256,
                        measurement.seed,
                    )
            })
        };
        Part {
            experiment,
            about,
            suffix: if several {
                name.trim_matches('-').to_string()
            } else {
                String::new()
            },
            measurements: measurements.iter().filter(owned).cloned().collect(),
            rows,
        }
    };
    grouped.into_iter().map(part).collect()
}

/// A note on the variants that have no rows.
fn not_run(experiment: &Experiment, rows: &[Row]) -> Option<String> {
    let missing = experiment
        .variants
        .iter()
        .filter(|variant| !rows.iter().any(|row| row.variant == variant.name));
    let names: Vec<&str> = missing.map(|variant| variant.name.as_str()).collect();
    (!names.is_empty()).then(|| format!("Not run here: {}.", names.join(", ")))
}

/// Distinct values in the order in which they first occur.
fn distinct<'a>(values: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut all = Vec::new();
    for value in values {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use simplenet_report::{Row, Selection};

    use super::newest;

    fn row(config: &str, selection: Selection, failed: bool) -> Row {
        Row {
            category: "ring".into(),
            config_sha256: config.into(),
            selection,
            error: failed.then(|| "no".to_string()),
            ..Row::default()
        }
    }

    #[test]
    fn of_two_configurations_of_a_cell_the_newer_is_shown_and_a_failure_only_alone() {
        let old = [row("a", Selection::Last, false), row("a", Selection::Best, false)];
        let new = [row("b", Selection::Last, false), row("b", Selection::Best, false)];
        let failed = [row("c", Selection::Last, true)];
        assert_eq!(newest(&[&old[..], &new, &failed].concat()), new);
        assert_eq!(newest(&failed), failed);
    }
}
