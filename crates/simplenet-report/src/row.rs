use std::fmt;

/// Which state of a head a row describes.
///
/// The published numbers of SimpleNet are `Best`: the best of 40 evaluations on the test set. `Last` looks at the test set
/// once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selection {
    /// After the last epoch.
    #[default]
    Last,
    /// The epoch that was best on the test set.
    Best,
}

impl Selection {
    /// As written in the CSV file.
    pub fn as_str(self) -> &'static str {
        match self {
            Selection::Last => "last",
            Selection::Best => "best",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Selection::Last, Selection::Best]
            .into_iter()
            .find(|s| s.as_str() == text)
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One finished cell of an experiment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Name of the experiment, e.g. `table1`.
    pub experiment: String,
    /// Variant within the experiment.
    pub variant: String,
    /// Protocol, e.g. `paper` or `code`.
    pub protocol: String,
    /// Dataset, e.g. `mvtec`.
    pub dataset: String,
    /// Category of the dataset, e.g. `bottle`.
    pub category: String,
    /// Backbone, e.g. `wide_resnet50_2`.
    pub backbone: String,
    /// Seed of the run.
    pub seed: u64,
    /// Which state of the head was evaluated.
    pub selection: Selection,
    /// Epoch of that state, from 1; `None` where nothing is trained.
    pub epoch: Option<u32>,
    /// Image AUROC, 0 to 1.
    pub image_auroc: Option<f64>,
    /// Pixel AUROC, 0 to 1.
    pub pixel_auroc: Option<f64>,
    /// Area under the per-region overlap curve up to a false positive rate of 0.3, 0 to 1.
    pub aupro: Option<f64>,
    /// Largest F1 score over all thresholds on the image score, 0 to 1.
    pub image_f1_max: Option<f64>,
    /// Average precision over all pixels, 0 to 1.
    pub pixel_ap: Option<f64>,
    /// Time to extract the features, in seconds; kept to the millisecond.
    pub extract_seconds: Option<f64>,
    /// Time to train the head, in seconds; kept to the millisecond.
    pub train_seconds: Option<f64>,
    /// Time to score one image, in milliseconds; kept to the microsecond.
    pub ms_per_image: Option<f64>,
    /// Device that computed the row, e.g. `cpu`.
    pub device: String,
    /// Number of CPU threads used; 0 when unknown.
    pub threads: u32,
    /// Commit of the code.
    pub commit: String,
    /// SHA-256 of the configuration that produced the row.
    pub config_sha256: String,
    /// Why the cell failed; its metrics are then not used.
    pub error: Option<String>,
}

/// Columns of the CSV file, in order.
pub const COLUMNS: [&str; 22] = [
    "experiment",
    "variant",
    "protocol",
    "dataset",
    "category",
    "backbone",
    "seed",
    "selection",
    "epoch",
    "image_auroc",
    "pixel_auroc",
    "aupro",
    "image_f1_max",
    "pixel_ap",
    "extract_seconds",
    "train_seconds",
    "ms_per_image",
    "device",
    "threads",
    "commit",
    "config_sha256",
    "error",
];

impl Row {
    /// What makes the row unique in its file.
    pub fn key(&self) -> Key<'_> {
        Key {
            experiment: &self.experiment,
            variant: &self.variant,
            protocol: &self.protocol,
            dataset: &self.dataset,
            category: &self.category,
            backbone: &self.backbone,
            seed: self.seed,
            selection: self.selection,
            config_sha256: &self.config_sha256,
        }
    }
}

/// What makes a row unique: what was run, not what came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key<'a> {
    /// [`Row::experiment`].
    pub experiment: &'a str,
    /// [`Row::variant`].
    pub variant: &'a str,
    /// [`Row::protocol`].
    pub protocol: &'a str,
    /// [`Row::dataset`].
    pub dataset: &'a str,
    /// [`Row::category`].
    pub category: &'a str,
    /// [`Row::backbone`].
    pub backbone: &'a str,
    /// [`Row::seed`].
    pub seed: u64,
    /// [`Row::selection`].
    pub selection: Selection,
    /// [`Row::config_sha256`].
    pub config_sha256: &'a str,
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Key {
            experiment,
            variant,
            protocol,
            dataset,
            category,
            backbone,
            seed,
            selection,
            config_sha256,
        } = self;
        write!(
            f,
            "{experiment}/{variant}/{protocol}/{dataset}/{category}/{backbone}/seed {seed}/{selection}/config {config_sha256}"
        )
    }
}

/// A number of a row that tables can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// [`Row::image_auroc`].
    ImageAuroc,
    /// [`Row::pixel_auroc`].
    PixelAuroc,
    /// [`Row::aupro`].
    Aupro,
    /// [`Row::image_f1_max`].
    ImageF1Max,
    /// [`Row::pixel_ap`].
    PixelAp,
    /// [`Row::extract_seconds`].
    ExtractSeconds,
    /// [`Row::train_seconds`].
    TrainSeconds,
    /// [`Row::ms_per_image`].
    MsPerImage,
}

impl Metric {
    /// The number of `row`; `None` when it was not measured or the cell failed.
    pub fn of(self, row: &Row) -> Option<f64> {
        if row.error.is_some() {
            return None;
        }
        match self {
            Metric::ImageAuroc => row.image_auroc,
            Metric::PixelAuroc => row.pixel_auroc,
            Metric::Aupro => row.aupro,
            Metric::ImageF1Max => row.image_f1_max,
            Metric::PixelAp => row.pixel_ap,
            Metric::ExtractSeconds => row.extract_seconds,
            Metric::TrainSeconds => row.train_seconds,
            Metric::MsPerImage => row.ms_per_image,
        }
    }

    /// Name of the column in the CSV file.
    pub fn column(self) -> &'static str {
        match self {
            Metric::ImageAuroc => "image_auroc",
            Metric::PixelAuroc => "pixel_auroc",
            Metric::Aupro => "aupro",
            Metric::ImageF1Max => "image_f1_max",
            Metric::PixelAp => "pixel_ap",
            Metric::ExtractSeconds => "extract_seconds",
            Metric::TrainSeconds => "train_seconds",
            Metric::MsPerImage => "ms_per_image",
        }
    }

    /// Name in a heading, with its unit where it is no percentage.
    pub fn heading(self) -> &'static str {
        match self {
            Metric::ImageAuroc => "I-AUROC",
            Metric::PixelAuroc => "P-AUROC",
            Metric::Aupro => "AUPRO",
            Metric::ImageF1Max => "I-F1-max",
            Metric::PixelAp => "P-AP",
            Metric::ExtractSeconds => "extract (s)",
            Metric::TrainSeconds => "train (s)",
            Metric::MsPerImage => "ms/image",
        }
    }

    /// Factor from the row to the table: fractions are shown in percent.
    pub(crate) fn scale(self) -> f64 {
        match self {
            Metric::ExtractSeconds | Metric::TrainSeconds | Metric::MsPerImage => 1.0,
            _ => 100.0,
        }
    }
}
