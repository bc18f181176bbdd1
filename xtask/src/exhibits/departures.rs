//! In what the rows of a table are not what their protocol says.

use std::collections::BTreeMap;

use anyhow::Result;
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

/// A note on the settings that all rows have and that differ from the protocol with the experiment's variant and the
/// paper's backbone; `None` where there are none.
pub(super) fn note(part: &Part, folder: &RunFolder, library: &Library) -> Result<Option<String>> {
    // Of each the value of the rows and that of the protocol.
    let mut common: Option<BTreeMap<String, [String; 2]>> = None;
    let mut seen = Vec::new();
    let mut name = "";
    for row in &part.rows {
        if seen.contains(&&row.config_sha256) {
            continue;
        }
        seen.push(&row.config_sha256);
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
        name = protocol.name();
        let meant = settings(&library.config(&part.experiment.id, variant, protocol, PAPERS, &[])?)?;
        let mut differing = BTreeMap::new();
        for (key, value) in settings(&folder.config(&row.config_sha256)?)? {
            let meant = meant.get(&key).map_or("absent", String::as_str);
            // The caption and the rows name the backbone.
            if value != meant && key != "features.backbone" {
                differing.insert(key, [value, meant.to_string()]);
            }
        }
        match &mut common {
            None => common = Some(differing),
            Some(common) => common.retain(|key, values| differing.get(key) == Some(values)),
        }
    }
    let departures: Vec<String> = common
        .unwrap_or_default()
        .into_iter()
        .map(|(key, [value, meant])| format!("{key} = {value} (there {meant})"))
        .collect();
    Ok((!departures.is_empty()).then(|| format!("Other than in protocol `{name}`: {}.", departures.join(", "))))
}

fn settings(config: &Config) -> Result<Settings> {
    let mut settings = Settings::new();
    flatten("", &Value::try_from(config)?, &mut settings);
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
