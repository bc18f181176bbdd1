//! What the configurations of a table's rows say about it: where they are not their protocol's, and what `best` was chosen from.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use simplenet::Method;
use simplenet::config::Config;
use simplenet_backbone::Arch;
use toml::Value;

use super::Part;
use crate::experiment::{Library, Protocol};
use crate::folder::RunFolder;

/// The backbone for which the protocols are written down; others change the scale of the noise and the authors' widths.
const PAPERS: Arch = Arch::WideResNet50_2;

/// Settings by their path, such as `train.epochs`, as TOML.
type Settings = BTreeMap<String, String>;

/// A note on the settings in which rows differ from the protocol with the experiment's variant and the paper's backbone;
/// `None` where none does.
pub(super) fn note(part: &Part, folder: &RunFolder, library: &Library) -> Result<Option<String>> {
    let mut seen = BTreeSet::new();
    // Whether rows are of a training, and how they differ.
    let mut differing: Vec<(bool, Departures)> = Vec::new();
    let mut name = "";
    for row in &part.rows {
        let variant = part
            .experiment
            .variants
            .iter()
            .find(|variant| variant.name == row.variant);
        let protocol = Protocol::ALL
            .into_iter()
            .find(|protocol| protocol.name() == row.protocol);
        let (Some(variant), Some(protocol)) = (variant, protocol) else {
            continue;
        };
        if seen.insert((&row.config_sha256, &row.variant)) {
            name = protocol.name();
            let meant = library.config(&part.experiment.id, variant, protocol, PAPERS, &[])?;
            let config = folder.config(&row.config_sha256)?;
            let departures = departures(&settings(&config)?, &settings(&meant)?);
            differing.push((matches!(config.method, Method::SimpleNet), departures));
        }
    }
    let (mut parts, mut of_some) = (Vec::new(), Vec::new());
    // Of rows that no training made nobody wants to know how one would have been.
    for (is_training, departures) in &mut differing {
        departures.retain(|key, _| *is_training || !is_of_training(key));
    }
    let keys: BTreeSet<&String> = differing.iter().flat_map(|(_, departures)| departures.keys()).collect();
    for key in keys {
        let mut concerned = differing
            .iter()
            .filter(|(is_training, _)| *is_training || !is_of_training(key))
            .map(|(_, departures)| departures.get(key));
        match concerned.next() {
            Some(Some(first)) if concerned.all(|other| other == Some(first)) => {
                let [value, meant] = first;
                parts.push(format!("{key} = {value} (there {meant})"));
            }
            _ => of_some.push(key.as_str()),
        }
    }
    if !of_some.is_empty() {
        parts.push(format!("in some rows {}", of_some.join(", ")));
    }
    Ok((!parts.is_empty()).then(|| {
        format!(
            "Other than in protocol `{name}` for the paper's backbone: {}.",
            parts.join(", ")
        )
    }))
}

/// From how many evaluations on the test set `best` was chosen, without which it is no number to compare; `None` where no row
/// is of a training.
pub(super) fn looks(part: &Part, folder: &RunFolder) -> Result<Option<String>> {
    let mut looks = BTreeSet::new();
    let configs: BTreeSet<&str> = part.rows.iter().map(|row| row.config_sha256.as_str()).collect();
    for sha256 in configs {
        let config = folder.config(sha256)?;
        if matches!(config.method, Method::SimpleNet) {
            // Every so many epochs, and after the last.
            looks.insert(config.train.epochs.div_ceil(config.evaluate.every));
        }
    }
    let (Some(fewest), Some(most)) = (looks.first(), looks.last()) else {
        return Ok(None);
    };
    let range = if fewest == most {
        most.to_string()
    } else {
        format!("{fewest} to {most}")
    };
    Ok(Some(format!(
        "`best`: of the evaluations of a training on the test set, {range} here, the one with the highest image AUROC."
    )))
}

/// Whether a setting is one of SimpleNet alone.
fn is_of_training(key: &str) -> bool {
    key.starts_with("train.") || key.starts_with("head.") || ["scale", "evaluate.every"].contains(&key)
}

/// The settings that two configurations do not have in common: `train.epochs = 40 and 160`.
pub(crate) fn between(one: &Config, other: &Config) -> Result<Vec<String>> {
    let differing = departures(&settings(one)?, &settings(other)?);
    let text = |(key, [one, other]): (String, [String; 2])| format!("{key} = {one} and {other}");
    Ok(differing.into_iter().map(text).collect())
}

/// Of each setting that differs the row's value and the one that is meant.
type Departures = BTreeMap<String, [String; 2]>;

fn departures(found: &Settings, meant: &Settings) -> Departures {
    let value = |settings: &Settings, key: &str| settings.get(key).cloned().unwrap_or_else(|| "absent".into());
    let keys = found.keys().chain(meant.keys());
    keys
        // The caption and the rows name the backbone.
        .filter(|key| *key != "features.backbone" && found.get(*key) != meant.get(*key))
        .map(|key| (key.clone(), [value(found, key), value(meant, key)]))
        .collect()
}

fn settings(config: &Config) -> Result<Settings> {
    let mut settings = Settings::new();
    flatten("", &Value::try_from(config)?, &mut settings);
    // Where it is not written it is the usual one.
    let precision = settings.entry("train.precision".into());
    precision.or_insert_with(|| Value::from("f32").to_string());
    Ok(settings)
}

fn flatten(path: &str, value: &Value, settings: &mut Settings) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                flatten(&path, value, settings);
            }
        }
        other => {
            settings.insert(path.into(), other.to_string());
        }
    }
}
