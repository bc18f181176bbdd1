//! What a detector file says about itself.

use serde::{Deserialize, Serialize};
use simplenet_backbone::Arch;

use super::calibration::Contract;
use crate::photo::hex;

/// What a detector was made of and what came out: everything that `simplenet inspect` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Card {
    /// Version of the program that trained it.
    pub version: String,
    /// The images it was trained on.
    pub data: DataCard,
    /// The frozen network.
    pub backbone: BackboneCard,
    /// Training of the final head, one entry per epoch; empty for methods without any.
    pub training: Vec<EpochCard>,
    /// How the number of epochs was found, where it was.
    #[serde(default)]
    pub auto_stop: Option<AutoStop>,
    /// Scores of good images that the scoring head had not seen.
    pub calibration: Calibration,
    /// What is odd about the training images.
    pub hygiene: Hygiene,
}

/// The images a detector was trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DataCard {
    /// Number of images.
    pub images: usize,
    /// SHA-256 of the names as in [`HeldOut::file`], each on a line, in order.
    pub names_sha256: String,
    /// SHA-256 of the files' SHA-256, in order.
    pub content_sha256: String,
    /// SHA-256 of each file, in order; empty where an older program wrote the detector.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files_sha256: Vec<String>,
    /// Width and height that most images have, upright; of sizes that as many have, that of the first image.
    pub size: [usize; 2],
    /// Number of images of another size.
    pub other_sizes: usize,
    /// The largest value of any channel of any pixel, of 255.
    pub brightest: u8,
    /// Files that could not be read, and why.
    pub unreadable: Vec<Unreadable>,
}

impl DataCard {
    /// Whether a file of this SHA-256 was learnt from; `None` where the card does not say.
    pub fn has_learnt(&self, sha256: &[u8; 32]) -> Option<bool> {
        (!self.files_sha256.is_empty()).then(|| self.files_sha256.contains(&hex(sha256)))
    }
}

/// A file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Unreadable {
    /// The file.
    pub file: String,
    /// Why.
    pub error: String,
}

/// The frozen network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BackboneCard {
    /// Which network.
    pub arch: Arch,
    /// SHA-256 of its weights.
    pub sha256: String,
    /// The file of the weights as it was named; `None` for those in the program.
    pub weights: Option<String>,
}

/// One epoch of training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EpochCard {
    /// From 1.
    pub epoch: usize,
    /// Truncated L1 or cross entropy, the mean over the epoch.
    pub loss: f64,
    /// Mean of D over normal patches.
    pub normal: f64,
    /// Mean of D over noised patches.
    pub noised: f64,
}

/// How long training was found to be worth it, without labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AutoStop {
    /// The number of epochs that was chosen.
    pub epochs: usize,
    /// The most there could have been.
    pub most: usize,
    /// What was seen on the way.
    pub curve: Vec<Look>,
}

/// Held-out good images, and the same with noise on one patch in a hundred.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Look {
    /// From 1.
    pub epoch: usize,
    /// Mean image score of good images.
    pub good: f64,
    /// Mean image score of the same images with noise.
    pub noised: f64,
    /// The difference of the means in units of the scores' standard deviation.
    pub separation: f64,
}

/// Scores of good images that the scoring head had not seen, and the threshold that follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Calibration {
    /// Number of parts the images were divided into.
    pub folds: usize,
    /// One entry per training image, in order.
    pub held_out: Vec<HeldOut>,
    /// From which image score on a part is a defect.
    pub threshold: ThresholdCard,
    /// From which value of the anomaly map on a pixel is marked and a region may begin.
    pub pixel_threshold: f32,
    /// The median over the held-out images of their map's median: what a normal pixel looks like.
    pub typical_pixel: f32,
    /// A region with fewer source pixels is no defect.
    pub min_defect_area: u64,
    /// What good images lack of one another, for methods that do not know where the part belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absence: Option<AbsenceCard>,
    /// Whether more images would help; for PatchCore on 20 images and more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halved: Option<Halved>,
}

/// How much an image may lack of what good ones show ([`crate::Prediction::absence`]).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AbsenceCard {
    /// What counts as 1: 5 times the median of what held-out good images lack, or 1.5 times the most that any of them does, whichever is
    /// more.
    pub unit: f32,
    /// The largest of them, in this unit.
    pub highest: f32,
    /// From here on an image is a defect; `None` for never.
    pub limit: Option<f32>,
}

/// How much higher models that have seen half as many good images score those that they have not seen. Where it is little, more
/// images of the same kind change little; where it is much, more of them lower the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Halved {
    /// Images that both models have scored.
    pub images: usize,
    /// Their mean score by models of half, over that by models of all the others.
    pub mean: f32,
    /// The same of the highest tenth of the scores, which the threshold follows.
    pub highest: f32,
}

/// A good image and what a head that had not seen it says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HeldOut {
    /// Name of the file; its path below the folder that holds all images, where several files have the name.
    pub file: String,
    /// Image score.
    pub score: f32,
    /// Largest value of the anomaly map.
    pub peak: f32,
}

/// Where a threshold comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum ThresholdCard {
    /// Held-out good images and a false-reject rate.
    Contract(Contract),
    /// A person.
    Fixed {
        /// The threshold.
        threshold: f32,
    },
    /// The highest F1 on labelled images, which the threshold has therefore seen.
    FromTest {
        /// The threshold.
        threshold: f32,
        /// F1 there.
        f1: f64,
        /// Number of good images.
        good: usize,
        /// Number of defective images.
        defective: usize,
    },
}

impl ThresholdCard {
    /// The threshold.
    pub fn value(&self) -> f32 {
        match self {
            ThresholdCard::Contract(contract) => contract.threshold,
            ThresholdCard::Fixed { threshold } | ThresholdCard::FromTest { threshold, .. } => *threshold,
        }
    }
}

/// What is odd about the training images. Nothing is left out because of it: a person decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hygiene {
    /// Held-out scores beyond Tukey's far-out fence: perhaps a defect among the good images. The highest first.
    pub suspects: Vec<Suspect>,
    /// Images that lack what others show, by far: perhaps without the part. Those that lack the most first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacking: Vec<Lacking>,
    /// Pairs of files with the same content or nearly the same features.
    pub duplicates: Vec<Duplicate>,
    /// Whether the discriminator swung instead of settling.
    pub oscillates: bool,
}

/// A training image whose held-out score stands out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Suspect {
    /// Name of the file.
    pub file: String,
    /// Held-out score.
    pub score: f32,
    /// The fence that it passes: third quartile + 3 × interquartile range.
    pub fence: f32,
}

/// A training image that lacks what others show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lacking {
    /// Name of the file.
    pub file: String,
    /// How many times as much as the median of all images; from 3.3 on it is named.
    pub times_usual: f32,
}

/// Two training images that are the same, or nearly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Duplicate {
    /// One file.
    pub first: String,
    /// The other.
    pub second: String,
    /// Root mean square difference of their standardised features, in standard deviations; 0 for the same.
    pub distance: f32,
}
