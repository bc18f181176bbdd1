//! What an experiment runs, in which order, and what is there already.

use std::path::Path;

use anyhow::Result;
use simplenet::config::Config;
use simplenet_backbone::Arch;
use simplenet_report::{Row, Selection};
use toml::Table;

use crate::experiment::{self, Experiment, Library, Protocol, Variant};

/// One training: a row or two in the results.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) experiment: String,
    pub(crate) variant: String,
    pub(crate) protocol: Protocol,
    pub(crate) dataset: String,
    pub(crate) category: String,
    pub(crate) seed: u64,
    pub(crate) config: Config,
    /// What stands in the run's folder under `config_sha256`.
    pub(crate) config_file: String,
    pub(crate) config_sha256: String,
}

/// What the command line chose.
pub(crate) struct Choice<'a> {
    pub(crate) categories: &'a [Images],
    pub(crate) protocols: &'a [Protocol],
    /// The variants that can run here.
    pub(crate) variants: &'a [Runnable<'a>],
    pub(crate) seeds: &'a [u64],
    /// Merged over every variant, in this order.
    pub(crate) set: &'a [&'a Table],
    pub(crate) only: &'a [Only],
}

/// The images of a category.
pub(crate) struct Images {
    pub(crate) category: String,
    /// What rows call them.
    pub(crate) dataset: String,
    /// Of the files.
    pub(crate) fingerprint: String,
}

/// A variant with the backbone that it runs on.
pub(crate) struct Runnable<'a> {
    pub(crate) variant: &'a Variant,
    pub(crate) backbone: Arch,
    /// Identity of the backbone's weights.
    pub(crate) weights: String,
}

/// `--only key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Only {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl Only {
    const KEYS: [&'static str; 4] = ["category", "variant", "protocol", "seed"];

    /// Parses `key=value`.
    pub(crate) fn parse(text: &str) -> Result<Only, String> {
        let known = Only::KEYS.join(", ");
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| format!("expected KEY=VALUE; keys are {known}"))?;
        if !Only::KEYS.contains(&key) {
            return Err(format!("unknown key `{key}`; keys are {known}"));
        }
        Ok(Only {
            key: key.into(),
            value: value.into(),
        })
    }
}

/// The cells in the order they run: all that share a feature bank stand together.
pub(crate) fn cells(library: &Library, experiment: &Experiment, choice: &Choice) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for images in choice.categories {
        let Images {
            category,
            dataset,
            fingerprint,
        } = images;
        for &protocol in choice.protocols {
            for runnable in choice.variants {
                let Runnable {
                    variant,
                    backbone,
                    weights,
                } = runnable;
                let config = library.config(&experiment.id, variant, protocol, *backbone, choice.set)?;
                let config_toml = toml::to_string(&config)?;
                let config_sha256 = experiment::config_sha256(&config_toml, weights, fingerprint);
                let config_file = experiment::config_file(&config_toml, weights, fingerprint);
                for &seed in choice.seeds {
                    cells.push(Cell {
                        experiment: experiment.id.clone(),
                        variant: variant.name.clone(),
                        protocol,
                        dataset: dataset.clone(),
                        category: category.clone(),
                        seed,
                        config: config.clone(),
                        config_file: config_file.clone(),
                        config_sha256: config_sha256.clone(),
                    });
                }
            }
        }
    }
    filter(cells, choice.only).map(order)
}

impl Cell {
    /// Whether both cells train on the same feature bank.
    pub(crate) fn shares_bank(&self, other: &Cell) -> bool {
        self.category == other.category
            && self.config.preprocess == other.config.preprocess
            && self.config.features == other.config.features
    }

    /// Whether a row is this cell's. Which images it is of is in the hash, whatever they were called.
    pub(crate) fn owns(&self, row: &Row) -> bool {
        row.experiment == self.experiment
            && row.variant == self.variant
            && row.protocol == self.protocol.name()
            && row.category == self.category
            && row.backbone == self.config.features.backbone.name()
            && row.seed == self.seed
            && row.config_sha256 == self.config_sha256
    }

    /// Whether both selections of this cell are among the rows. A failed cell is not done: it is tried again.
    pub(crate) fn is_done(&self, rows: &[Row]) -> bool {
        let has = |selection: Selection| {
            rows.iter()
                .any(|row| row.selection == selection && row.error.is_none() && self.owns(row))
        };
        has(Selection::Last) && has(Selection::Best)
    }

    /// For a person: what it is.
    pub(crate) fn label(&self) -> String {
        format!(
            "{} {} {} {} seed {}",
            self.experiment,
            self.variant,
            self.protocol.name(),
            self.category,
            self.seed
        )
    }

    fn value(&self, key: &str) -> String {
        match key {
            "category" => self.category.clone(),
            "variant" => self.variant.clone(),
            "protocol" => self.protocol.name().into(),
            _ => self.seed.to_string(),
        }
    }
}

/// An experiment has no cell that `--only` asks for.
#[derive(Debug, thiserror::Error)]
#[error("`--only {only}` matches nothing\n\nhint: `{key}` is one of {known}")]
pub(crate) struct NothingMatches {
    only: String,
    key: String,
    known: String,
}

/// Keeps the cells that fulfil, for every key named, one of its values.
fn filter(cells: Vec<Cell>, only: &[Only]) -> Result<Vec<Cell>> {
    for Only { key, value } in only {
        if !cells.iter().any(|cell| cell.value(key) == *value) {
            let mut known: Vec<String> = cells.iter().map(|cell| cell.value(key)).collect();
            known.sort();
            known.dedup();
            return Err(NothingMatches {
                only: format!("{key}={value}"),
                key: key.to_string(),
                known: known.join(", "),
            }
            .into());
        }
    }
    let keeps = |cell: &Cell| {
        Only::KEYS.iter().all(|key| {
            let mut values = only.iter().filter(|only| only.key == *key).peekable();
            values.peek().is_none() || values.any(|only| only.value == cell.value(key))
        })
    };
    Ok(cells.into_iter().filter(keeps).collect())
}

/// Moves cells that share a bank next to the first of them; otherwise the order stays.
fn order(cells: Vec<Cell>) -> Vec<Cell> {
    let mut ordered: Vec<Cell> = Vec::with_capacity(cells.len());
    for cell in cells {
        let after = ordered.iter().rposition(|earlier| earlier.shares_bank(&cell));
        ordered.insert(after.map_or(ordered.len(), |index| index + 1), cell);
    }
    ordered
}

/// What `--list` prints.
pub(crate) fn describe(cells: &[Cell], rows: &[Row], results: &Path) -> String {
    let mut text = String::new();
    let mut banks = 0;
    let mut previous: Option<&Cell> = None;
    let mut missing = 0;
    for cell in cells {
        banks += usize::from(!previous.is_some_and(|previous| previous.shares_bank(cell)));
        previous = Some(cell);
        let state = if cell.is_done(rows) { "done" } else { "to do" };
        missing += usize::from(state == "to do");
        text.push_str(&format!("{state:<6} {}\n", cell.label()));
    }
    text.push_str(&format!(
        "{} cells on {banks} feature banks, {missing} to do; rows in {}\n",
        cells.len(),
        results.display()
    ));
    if let Some(seconds) = estimate(cells, rows).filter(|_| missing > 0) {
        text.push_str(&format!(
            "about {:.0} minutes, from the finished cells\n",
            (seconds / 60.0).ceil()
        ));
    }
    text
}

/// Seconds that the missing cells will take: each what the finished ones of its variant took to train, or all finished
/// ones where its variant has none, and each missing bank what the finished ones took to extract.
fn estimate(cells: &[Cell], rows: &[Row]) -> Option<f64> {
    let finished: Vec<&Row> = rows
        .iter()
        .filter(|row| row.selection == Selection::Last && row.error.is_none())
        .collect();
    let mean = |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    let train = |variant: Option<&str>| {
        let of = finished
            .iter()
            .filter(|row| variant.is_none_or(|variant| row.variant == variant));
        mean(of.filter_map(|row| row.train_seconds).collect())
    };
    let extract = mean(finished.iter().filter_map(|row| row.extract_seconds).collect())?;
    let missing: Vec<&Cell> = cells.iter().filter(|cell| !cell.is_done(rows)).collect();
    let banks = missing.chunk_by(|left, right| left.shares_bank(right)).count() as f64;
    let training = missing
        .iter()
        .map(|cell| train(Some(&cell.variant)).or_else(|| train(None)));
    Some(banks * extract + training.sum::<Option<f64>>()?)
}
