//! The layers of docs/architecture.md, asserted from `cargo metadata`. The table here is the one that counts; that of the document
//! is kept beside it by hand.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand};

/// What a crate may depend on outside its own tests, to run and to be built. Everything not listed is forbidden.
struct Layer {
    name: &'static str,
    local: &'static [&'static str],
    external: &'static [&'static str],
}

const LAYERS: &[Layer] = &[
    Layer {
        name: "simplenet-files",
        local: &[],
        external: &["tempfile"],
    },
    Layer {
        name: "simplenet-data",
        local: &["simplenet-files"],
        external: &[
            "flate2",
            "hf-hub",
            "image",
            "md-5",
            "pulp",
            "rayon",
            "serde",
            "sha2",
            "tar",
            "tempfile",
            "thiserror",
            "toml",
            "ureq",
            "xz2",
        ],
    },
    Layer {
        name: "simplenet-kernels",
        local: &[],
        external: &["candle-core", "cc", "half", "libc", "rayon", "rustix", "thiserror"],
    },
    Layer {
        name: "simplenet-metrics",
        local: &[],
        external: &["rayon", "thiserror"],
    },
    Layer {
        name: "simplenet-backbone",
        local: &["simplenet-kernels"],
        external: &[
            "candle-core",
            "half",
            "safetensors",
            "serde",
            "sha2",
            "thiserror",
            "zip",
        ],
    },
    Layer {
        name: "simplenet-heads",
        local: &["simplenet-kernels"],
        external: &["memmap2", "rayon", "safetensors", "serde", "tempfile", "thiserror"],
    },
    Layer {
        name: "simplenet-report",
        local: &["simplenet-files"],
        external: &["base64", "image", "plotters", "polars", "serde_json", "thiserror"],
    },
    Layer {
        name: "simplenet",
        local: &[
            "simplenet-files",
            "simplenet-data",
            "simplenet-kernels",
            "simplenet-metrics",
            "simplenet-backbone",
            "simplenet-heads",
        ],
        external: &[
            "anyhow",
            "base64",
            "clap",
            "clap_complete",
            "clap_mangen",
            "glob",
            "image",
            "indicatif",
            "rayon",
            "safetensors",
            "serde",
            "serde_json",
            "sha2",
            "tempfile",
            "thiserror",
        ],
    },
];

/// Fails with every forbidden edge.
pub(crate) fn check() -> Result<()> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .context("failed to run `cargo metadata`")?;
    let names: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        if name == "xtask" {
            continue; // composes everything
        }
        let Some(layer) = LAYERS.iter().find(|layer| layer.name == name) else {
            faults.push(format!("`{name}` has no line in the layer table"));
            continue;
        };
        let needs: BTreeSet<&str> = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind != DependencyKind::Development)
            .map(|dependency| dependency.name.as_str())
            .collect();
        for unused in layer
            .local
            .iter()
            .chain(layer.external)
            .filter(|name| !needs.contains(*name))
        {
            faults.push(format!(
                "`{name}` does not depend on `{unused}`, which its layer allows"
            ));
        }
        for needed in needs {
            let allowed = if names.contains(needed) {
                layer.local
            } else {
                layer.external
            };
            if !allowed.contains(&needed) {
                faults.push(format!(
                    "`{name}` depends on `{needed}`, which its layer does not allow"
                ));
            }
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    faults.sort();
    bail!(
        "the layers are broken:\n  {}\n\nhint: the table is in docs/architecture.md and xtask/src/layers.rs; change the code or, with a reason, both",
        faults.join("\n  ")
    )
}
