//! Experiment files: TOML in, checked experiments out.
//!
//! A cell's configuration is a merge of tables (protocol, backbone, variant, command line) that is parsed once, so a
//! misspelt key is an error that names the file and the variant. No number has a default in code.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use simplenet::config::Config;
use simplenet_backbone::Arch;
use simplenet_data::toy;
use toml::{Table, Value};

/// The two readings of the method in protocols.toml.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protocol {
    /// The paper's text.
    Paper,
    /// The authors' code.
    Code,
}

impl Protocol {
    pub(crate) const ALL: [Protocol; 2] = [Protocol::Paper, Protocol::Code];

    /// As it stands in files and tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Paper => "paper",
            Protocol::Code => "code",
        }
    }
}

/// One table or figure of the paper.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Experiment {
    /// File stem, the id on the command line.
    #[serde(skip)]
    pub(crate) id: String,
    /// The name a reader looks for.
    pub(crate) paper: String,
    /// One line.
    pub(crate) title: String,
    /// Why it is worth running.
    pub(crate) why: String,
    /// What it takes.
    pub(crate) cost: String,
    /// What should come out.
    pub(crate) expectation: String,
    /// Data set when it is there.
    pub(crate) dataset: Named,
    /// Backbone unless the command line or the variant says otherwise.
    pub(crate) backbone: Arch,
    /// Protocols unless the command line says otherwise.
    pub(crate) protocols: Vec<Protocol>,
    /// Seeds unless the command line says otherwise.
    pub(crate) seeds: Vec<u64>,
    /// What is shown, and so what is recorded beside the metrics.
    pub(crate) show: Show,
    /// The columns of the table.
    #[serde(rename = "variant")]
    pub(crate) variants: Vec<Variant>,
    /// What runs where the data set is missing.
    pub(crate) fallback: Fallback,
    /// What `--quick` runs.
    pub(crate) quick: Quick,
}

/// A data set by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Named {
    /// MVTec AD.
    Mvtec,
    /// CIFAR-10, one class normal and nine anomalous.
    Cifar10,
    /// The procedural set in MVTec AD's layout.
    Toy,
    /// The good pictures of the procedural set, one category normal and the others anomalous.
    ToyOneClass,
}

/// What is made of an experiment's rows.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub(crate) enum Show {
    /// A line per category as in Table 1, beside published methods, with sheets of the worst misses and best hits.
    Categories {
        /// Columns of docs/paper.
        methods: Vec<String>,
    },
    /// A line per variant, averaged over categories, beside the paper's; then a line per category.
    Variants,
    /// Metrics over a number of the configuration.
    Sweep {
        /// Path of the number, such as `train.noise`.
        key: String,
        /// Name on the axis.
        label: String,
        /// Whether the axis is logarithmic.
        log: bool,
        /// The variant that has the paper's choice.
        mark: String,
    },
    /// Loss and image AUROC over epochs.
    Convergence,
    /// Standard deviations of the feature dimensions before and after the adaptor.
    Deviations,
    /// Best, median and worst segmentations as pictures.
    Qualitative,
    /// Accuracy over the time of single images.
    Speed {
        /// Images before the clock starts.
        warmup: usize,
        /// Images that are timed, one after the other.
        images: usize,
    },
}

/// A named departure from the protocol.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Variant {
    /// As it appears in the rows.
    pub(crate) name: String,
    /// Its line in the paper, where that differs.
    #[serde(default)]
    pub(crate) published: Option<String>,
    /// A backbone of its own.
    #[serde(default)]
    pub(crate) backbone: Option<Arch>,
    /// Multiplies the σ that the backbone would have.
    #[serde(default)]
    pub(crate) noise_factor: Option<f64>,
    /// Merged over protocol and backbone.
    #[serde(default)]
    pub(crate) set: Table,
}

/// What an experiment runs on a machine without its data set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Fallback {
    /// Data set that can always be made.
    pub(crate) dataset: Named,
    /// Backbone that is always there.
    pub(crate) backbone: Arch,
    /// Merged over the variant.
    #[serde(default)]
    pub(crate) set: Table,
}

/// What an experiment runs with `--quick`: as the fallback, but smaller.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Quick {
    /// Categories of the fallback's data set.
    pub(crate) categories: Vec<String>,
    /// Merged over the fallback's table.
    pub(crate) set: Table,
}

/// A seeded subset of a category.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Training images; all where it is not given.
    pub(crate) train: Option<usize>,
    /// Test images, the same share of every defect; all where it is not given.
    pub(crate) test: Option<usize>,
}

/// Everything under xtask/experiments, read and syntax-checked.
pub(crate) struct Library {
    folder: PathBuf,
    protocols: Table,
    backbones: Table,
}

impl Library {
    /// Reads protocols.toml and backbones.toml of `folder`.
    pub(crate) fn open(folder: &Path) -> Result<Library> {
        Ok(Library {
            folder: folder.to_path_buf(),
            protocols: read_table(&folder.join("protocols.toml"))?,
            backbones: read_table(&folder.join("backbones.toml"))?,
        })
    }

    /// Names of the experiments there are: tables, then figures, each in the order of the alphabet.
    pub(crate) fn ids(&self) -> Result<Vec<String>> {
        let entries =
            std::fs::read_dir(&self.folder).with_context(|| format!("failed to read `{}`", self.folder.display()))?;
        let mut ids = Vec::new();
        for entry in entries {
            let path = entry
                .with_context(|| format!("failed to read `{}`", self.folder.display()))?
                .path();
            let stem = path
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
                .unwrap_or_default();
            if path.extension().is_some_and(|extension| extension == "toml")
                && stem != "protocols"
                && stem != "backbones"
            {
                ids.push(stem);
            }
        }
        ids.sort_by_key(|id| (!id.starts_with("table"), id.clone()));
        Ok(ids)
    }

    /// Every experiment, in that order.
    pub(crate) fn all(&self) -> Result<Vec<Experiment>> {
        self.ids()?.iter().map(|id| self.experiment(id)).collect()
    }

    /// Reads one experiment.
    pub(crate) fn experiment(&self, id: &str) -> Result<Experiment> {
        let ids = self.ids()?;
        if !ids.iter().any(|known| known == id) {
            bail!("there is no experiment `{id}`\n\nhint: there are {}", ids.join(", "));
        }
        let path = self.folder.join(format!("{id}.toml"));
        let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
        let mut experiment: Experiment =
            toml::from_str(&text).with_context(|| format!("failed to parse `{}`", path.display()))?;
        experiment.id = id.to_string();
        self.check(&experiment)
            .with_context(|| format!("`{}`", path.display()))?;
        Ok(experiment)
    }

    /// Refuses what would be wrong, or wrongly shown, only after hours.
    fn check(&self, experiment: &Experiment) -> Result<()> {
        let Experiment {
            variants,
            seeds,
            fallback,
            quick,
            ..
        } = experiment;
        if experiment.id == "all" {
            bail!("`all` is every experiment, and no name for one");
        }
        if variants.is_empty() || experiment.protocols.is_empty() || seeds.is_empty() {
            bail!("it needs at least one variant, one protocol and one seed");
        }
        if let Some(at) = (1..seeds.len()).find(|&at| seeds[..at].contains(&seeds[at])) {
            bail!("seed {} is there twice", seeds[at]);
        }
        let names: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).collect();
        if names.contains(&"") {
            bail!("a variant has no name");
        }
        if let Some(name) = names.iter().find(|name| name.contains(['/', '\\'])) {
            bail!("a variant is called `{name}`, and files are named after it: no slashes");
        }
        if let Some(at) = (1..names.len()).find(|&at| names[..at].contains(&names[at])) {
            bail!(
                "two variants are called `{}`, and rows tell them apart by their names",
                names[at]
            );
        }
        if !matches!(fallback.dataset, Named::Toy | Named::ToyOneClass) {
            bail!("`fallback.dataset` is for where no data set is: `toy` or `toy-one-class`");
        }
        let known = toy::CATEGORIES.map(|category| category.name);
        if quick.categories.is_empty() || quick.categories.iter().any(|name| !known.contains(&name.as_str())) {
            bail!("`quick.categories` is a list of {}", known.join(", "));
        }
        let sets = variants.iter().map(|variant| &variant.set);
        for set in sets.chain([&fallback.set, &quick.set]) {
            if names_backbone(set) {
                bail!(
                    "`features.backbone` is in a `set`\n\nhint: `backbone` of the file, of a variant or of `[fallback]` chooses one"
                );
            }
        }
        if let Show::Sweep { key, mark, .. } = &experiment.show {
            if !names.contains(&mark.as_str()) {
                bail!(
                    "`show.sweep.mark` is `{mark}`, and the variants are {}",
                    names.join(", ")
                );
            }
            for variant in variants {
                let config = self.config(
                    &experiment.id,
                    variant,
                    experiment.protocols[0],
                    experiment.backbone,
                    &[],
                )?;
                if number(&config, key)?.is_none() {
                    bail!("`show.sweep.key` is `{key}`, which is no number of the configuration");
                }
            }
        }
        Ok(())
    }

    /// The configuration of one variant: protocol, then backbone, then the variant, then the given tables, each over the one
    /// before.
    pub(crate) fn config(
        &self,
        experiment: &str,
        variant: &Variant,
        protocol: Protocol,
        backbone: Arch,
        over: &[&Table],
    ) -> Result<Config> {
        let table = |tables: &Table, file: &str, name: &str| match tables.get(name) {
            Some(Value::Table(table)) => Ok(table.clone()),
            _ => bail!("`{}` has no table `[{name}]`", self.folder.join(file).display()),
        };
        let mut merged = table(&self.protocols, "protocols.toml", protocol.name())?;
        let of_backbone = table(&self.backbones, "backbones.toml", backbone.name())?;
        for part in ["both", protocol.name()] {
            if let Some(Value::Table(part)) = of_backbone.get(part) {
                merge(&mut merged, part);
            }
        }
        merge(&mut merged, &variant.set);
        for table in over {
            merge(&mut merged, table);
        }
        let features = merged.entry("features").or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(features) = features {
            features.insert("backbone".into(), Value::String(backbone.name().into()));
        }
        let mut config = Config::deserialize(Value::Table(merged)).with_context(|| {
            format!(
                "experiment `{experiment}`, variant `{}`, protocol `{}`, backbone `{backbone}`",
                variant.name,
                protocol.name()
            )
        })?;
        config.train.noise *= variant.noise_factor.unwrap_or(1.0);
        config
            .check()
            .with_context(|| format!("experiment `{experiment}`, variant `{}`", variant.name))?;
        Ok(config)
    }
}

/// Puts every key of `over` into `base`; tables are merged, everything else is replaced. An enum written as a table with
/// one key (`loss = { truncated-l1 = … }`) is replaced as a whole: two keys would be two variants.
pub(crate) fn merge(base: &mut Table, over: &Table) {
    const ENUMS: [&str; 4] = ["loss", "adaptor", "embedding", "method"];
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) if !ENUMS.contains(&key.as_str()) => merge(below, above),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// `train.noise=0.1` as a table: `{ train = { noise = 0.1 } }`.
pub(crate) fn parse_set(assignment: &str) -> Result<Table> {
    let (key, value) = assignment
        .split_once('=')
        .with_context(|| format!("`{assignment}` is not KEY=VALUE\n\nhint: for example --set train.noise=0.1"))?;
    // A bare word is a string, so that `--set scale=absolute` needs no quotes within quotes.
    let parsed = toml::from_str::<Table>(&format!("{key} = {value}"));
    if parsed.is_err() && value.trim_start().starts_with(['[', '{']) {
        bail!(
            "`{assignment}`: {value} is no value of TOML\n\nhint: words in it have quotes, and the shell wants others around them: \
             --set 'features.stages=[\"layer2\", \"layer3\"]'"
        );
    }
    let table = parsed
        .or_else(|_| toml::from_str(&format!("{key} = {value:?}")))
        .with_context(|| format!("`{assignment}` is not KEY=VALUE"))?;
    // Its weights are looked for first, and the protocol has settings for each.
    if names_backbone(&table) {
        bail!("`--set {assignment}` does not choose a backbone\n\nhint: `--backbone NAME` does");
    }
    Ok(table)
}

fn names_backbone(set: &Table) -> bool {
    let features = set.get("features").and_then(Value::as_table);
    features.is_some_and(|features| features.contains_key("backbone"))
}

/// A number of a configuration by its path such as `train.noise`.
pub(crate) fn number(config: &Config, key: &str) -> Result<Option<f64>> {
    let config = Value::try_from(config)?;
    let value = key.split('.').try_fold(&config, |value, part| value.get(part));
    Ok(value.and_then(|value| value.as_float().or(value.as_integer().map(|integer| integer as f64))))
}

/// Hex sha256 of the configuration as TOML together with what else decides a number: the weights and the data.
pub(crate) fn config_sha256(config_toml: &str, weights: &str, data: &str) -> String {
    let mut hasher = Sha256::new();
    for part in [config_toml, weights, data] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hex(&hasher.finalize())
}

/// The configuration of a row as a file: TOML, and before it what else its hash covers.
pub(crate) fn config_file(config_toml: &str, weights: &str, data: &str) -> String {
    format!(
        "# backbone's weights: sha256 {weights}\n# list of image files and their sizes: sha256 {}\n{config_toml}",
        sha256(data.as_bytes())
    )
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_table(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    toml::from_str(&text).with_context(|| format!("failed to parse `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library() -> Library {
        Library::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments")).unwrap()
    }

    #[test]
    fn every_experiment_parses_under_every_protocol_and_backbone() {
        let library = library();
        for id in library.ids().unwrap() {
            let experiment = library.experiment(&id).unwrap();
            for variant in &experiment.variants {
                for protocol in [Protocol::Paper, Protocol::Code] {
                    for backbone in Arch::ALL {
                        let small = [&experiment.fallback.set, &experiment.quick.set];
                        library.config(&id, variant, protocol, backbone, &[]).unwrap();
                        library.config(&id, variant, protocol, backbone, &small).unwrap();
                    }
                }
            }
        }
    }

    /// The file that docs/experiments.md shows.
    #[test]
    fn the_example_of_the_documents_is_an_experiment() {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let page = std::fs::read_to_string(project.join("docs/experiments.md")).unwrap();
        let (_, example) = page.split_once("```toml\n").unwrap();
        let (example, _) = example.split_once("```").unwrap();
        let folder = tempfile::tempdir().unwrap();
        for name in ["protocols.toml", "backbones.toml"] {
            std::fs::copy(project.join("xtask/experiments").join(name), folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("mine.toml"), example).unwrap();
        let library = Library::open(folder.path()).unwrap();
        let experiment = library.experiment("mine").unwrap();
        assert!(experiment.variants.len() > 1);
        for variant in &experiment.variants {
            for protocol in Protocol::ALL {
                let over = [&experiment.fallback.set, &experiment.quick.set];
                library
                    .config("mine", variant, protocol, experiment.backbone, &over)
                    .unwrap();
            }
        }
    }

    #[test]
    fn what_would_be_wrong_after_hours_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let experiments = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
        for name in ["protocols.toml", "backbones.toml"] {
            std::fs::copy(experiments.join(name), folder.path().join(name)).unwrap();
        }
        let fig5 = std::fs::read_to_string(experiments.join("fig5.toml")).unwrap();
        let library = Library::open(folder.path()).unwrap();
        let refused = |from: &str, to: &str| {
            let changed = fig5.replace(from, to);
            assert_ne!(changed, fig5, "{from}");
            std::fs::write(folder.path().join("mine.toml"), changed).unwrap();
            let error = library.experiment("mine").map(|_| ()).unwrap_err();
            format!("{error:#}")
        };
        std::fs::write(folder.path().join("mine.toml"), &fig5).unwrap();
        library.experiment("mine").unwrap();
        for (from, to, expected) in [
            ("seeds = [0]", "seeds = [0, 0]", "seed 0 is there twice"),
            (
                "name = \"x0.125\"",
                "name = \"x0.25\"",
                "two variants are called `x0.25`",
            ),
            ("name = \"x0.125\"", "name = \"\"", "a variant has no name"),
            ("name = \"x0.125\"", "name = \"1/8\"", "no slashes"),
            (
                "seeds = [0]",
                "seeds = []",
                "at least one variant, one protocol and one seed",
            ),
            ("\"train.noise\"", "\"train.nois\"", "`show.sweep.key` is `train.nois`"),
            ("mark = \"", "mark = \"no-", "`show.sweep.mark` is `no-"),
            ("dataset = \"toy\"", "dataset = \"mvtec\"", "`toy` or `toy-one-class`"),
            (
                "categories = [",
                "categories = [\"bottle\", ",
                "is a list of weave, grain",
            ),
            (
                "[quick]",
                "[quick]\nset.features.backbone = \"resnet18\"",
                "`features.backbone` is in a `set`",
            ),
        ] {
            let text = refused(from, to);
            assert!(text.contains(expected) && text.contains("mine.toml"), "{to}: {text}");
        }
    }

    #[test]
    fn a_misspelt_key_names_experiment_and_variant() {
        let wrong = parse_set("train.sgima=0.1").unwrap();
        let odd = Variant {
            name: "odd".into(),
            ..Variant::default()
        };
        let error = library()
            .config("table1", &odd, Protocol::Paper, Arch::ResNet18, &[&wrong])
            .unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("table1") && text.contains("odd") && text.contains("sgima"),
            "{text}"
        );
    }

    #[test]
    fn a_sweep_multiplies_the_backbones_own_noise() {
        let library = library();
        let fourfold = Variant {
            noise_factor: Some(4.0),
            ..Variant::default()
        };
        let noise = |backbone| {
            let config = library.config("fig5", &fourfold, Protocol::Paper, backbone, &[]);
            config.unwrap().train.noise
        };
        assert_eq!(noise(Arch::WideResNet50_2), 0.06);
        assert_eq!(noise(Arch::ResNet18), 1.2);
    }

    #[test]
    fn a_variant_replaces_an_enum_and_merges_a_table() {
        let mut base: Table =
            toml::from_str("[train]\nsigma = 1.0\nloss = { truncated-l1 = { positive = 0.5 } }").unwrap();
        merge(&mut base, &toml::from_str("[train]\nloss = \"cross-entropy\"").unwrap());
        assert_eq!(
            base,
            toml::from_str("[train]\nsigma = 1.0\nloss = \"cross-entropy\"").unwrap()
        );
        merge(
            &mut base,
            &toml::from_str("train.loss = { truncated-l1 = { positive = 0.1 } }").unwrap(),
        );
        assert_eq!(base["train"]["loss"]["truncated-l1"]["positive"].as_float(), Some(0.1));
    }

    #[test]
    fn set_takes_bare_words_and_numbers() {
        assert_eq!(parse_set("scale=absolute").unwrap()["scale"].as_str(), Some("absolute"));
        assert_eq!(
            parse_set("train.epochs=3").unwrap()["train"]["epochs"].as_integer(),
            Some(3)
        );
        assert!(parse_set("train.epochs").is_err());
        let error = parse_set("features.stages=[layer2]").unwrap_err().to_string();
        assert!(error.contains("hint: words in it have quotes"), "{error}");
    }

    #[test]
    fn the_hash_changes_with_each_part() {
        let hashes = [
            config_sha256("a", "b", "c"),
            config_sha256("ab", "", "c"),
            config_sha256("a", "b", "d"),
        ];
        assert_ne!(hashes[0], hashes[1]);
        assert_ne!(hashes[0], hashes[2]);
        assert_eq!(hashes[0].len(), 64);
    }
}
