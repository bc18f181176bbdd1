//! The detector file: one safetensors file, whole or refused.
//!
//! | name | type | what |
//! |---|---|---|
//! | `head.*` | F32, I64 | SimpleNet's head with its standardisation, PatchCore's memory or PaDiM's Gaussians |
//! | `reference.N` | U8 `[crop, crop, 3]` | the middle of an image as the network sees it |
//! | `roi` | U8 `[rows, columns]` | 255 where pixels of the map are judged; absent where all are |
//! | `absence.landmarks` | F32 `[landmarks, channels]` | patches that stand for what good images show; absent where nothing is missed |
//! | `absence.profiles` | F32 `[images, landmarks]` | how far they are from the nearest patch of each good image |
//! | `sha256` | U8 `[32]` | of the whole file with these 32 bytes zero |
//! | metadata `simplenet` | JSON | configuration, card, expected scores of the references |

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use simplenet_data::{MAX_PIXELS, Rgb8};
use simplenet_heads::patchcore::Landmarks;

use super::Detector;
use super::absence::Absence;
use super::card::Card;
use super::layout::Layout;
use super::reference::{Expected, Reference, tolerance};
use super::roi::Roi;
use super::settings::DetectorConfig;
use super::training::load_backbone;
use crate::atomic::write_atomic;
use crate::error::Error;
use crate::method::Model;
use crate::pipeline::Pipeline;

/// Grows with every change that an older program would misread, or whose older files would mean something else. 2: all of a
/// picture is judged, where 1 left out what was no whole patch.
const FORMAT: u32 = 2;
const METADATA: &str = "simplenet";
const HEAD: &str = "head.";
const ROI: &str = "roi";
const LANDMARKS: &str = "absence.landmarks";
const PROFILES: &str = "absence.profiles";
const CHECKSUM: &str = "sha256";
/// The largest file that is read: a head for 4096 channels has 100 MB.
pub(super) const MAX_BYTES: u64 = 1 << 30;

/// How a detector file is loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Weights of the backbone, where they are not in the program and not where the file says.
    pub weights: Option<PathBuf>,
    /// Load even if the reference images get other scores than they should.
    pub allow_drift: bool,
}

/// The file's metadata.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Metadata {
    format: u32,
    config: DetectorConfig,
    card: Card,
    references: Vec<Expected>,
}

impl Detector {
    /// Writes the detector file: the old one or the new one is there at any time, never half of it.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        write_atomic(path.as_ref(), &self.to_bytes()?)
    }

    /// The bytes of the detector file; the same ones for the same detector.
    ///
    /// # Errors
    /// [`Error::Internal`] where it cannot be serialised.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let metadata = Metadata {
            format: FORMAT,
            config: self.config.clone(),
            card: self.card.clone(),
            references: self
                .references
                .iter()
                .map(|reference| reference.expected.clone())
                .collect(),
        };
        let metadata =
            serde_json::to_string(&metadata).map_err(|_| Error::Internal("the card cannot be written as JSON"))?;
        let side = self.pipeline.preprocess().crop();
        let refused = |_| Error::Internal("the detector's tensors are not safetensors");
        let view = |dtype, shape, bytes| TensorView::new(dtype, shape, bytes).map_err(refused);
        let model = self.model.stored_tensors(HEAD);
        let mut tensors = Vec::new();
        for tensor in &model {
            tensors.push((
                tensor.name.clone(),
                view(tensor.dtype, tensor.shape.clone(), &tensor.bytes)?,
            ));
        }
        for (index, reference) in self.references.iter().enumerate() {
            tensors.push((
                reference_name(index),
                view(Dtype::U8, vec![side, side, 3], reference.pixels.data())?,
            ));
        }
        if let Some(roi) = &self.roi {
            tensors.push((ROI.into(), view(Dtype::U8, roi.size.to_vec(), &roi.pixels)?));
        }
        let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let absence = self.absence.as_ref();
        let bytes = absence.map(|absence| [floats(absence.landmarks.vectors()), floats(&absence.profiles)]);
        if let (Some(absence), Some([landmarks, profiles])) = (absence, &bytes) {
            let (count, dim) = (absence.landmarks.count(), absence.landmarks.dim());
            let images = absence.profiles.len() / count;
            tensors.push((LANDMARKS.into(), view(Dtype::F32, vec![count, dim], landmarks)?));
            tensors.push((PROFILES.into(), view(Dtype::F32, vec![images, count], profiles)?));
        }
        tensors.push((CHECKSUM.into(), view(Dtype::U8, vec![32], &[0; 32])?));
        // One entry only: the order of several would change from run to run.
        let metadata = HashMap::from([(METADATA.to_string(), metadata)]);
        let mut bytes = safetensors::serialize(tensors, Some(metadata)).map_err(refused)?;
        let (place, digest) = checksum(&bytes).ok_or(Error::Internal("the checksum has no place"))?;
        bytes[place].copy_from_slice(&digest);
        Ok(bytes)
    }

    /// Reads a detector file with the backbone that it names, and checks the scores of the reference images.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::NotADetector`] where the file is cut short, changed or of another kind,
    /// [`Error::OtherBackbone`] and [`Error::Drift`] where its scores would not be those it was calibrated with.
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Detector, Error> {
        let path = path.as_ref();
        let failed = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        Detector::from_bytes(&bytes, path, options)
    }

    /// As [`Detector::load`] from bytes; `name` stands in errors.
    ///
    /// # Errors
    /// As [`Detector::load`].
    pub fn from_bytes(bytes: &[u8], name: &Path, options: &LoadOptions) -> Result<Detector, Error> {
        let wrong = |reason: String| Error::NotADetector {
            path: name.to_owned(),
            reason,
        };
        if bytes.len() as u64 > MAX_BYTES {
            return Err(wrong(format!("it has more than {MAX_BYTES} bytes")));
        }
        // A detector may begin as some picture does: with the length of its header.
        let file = SafeTensors::deserialize(bytes).map_err(|error| {
            wrong(match image::guess_format(bytes) {
                Ok(_) => "it is a picture".into(),
                Err(_) => error.to_string(),
            })
        })?;
        let (place, digest) = checksum(bytes).ok_or_else(|| wrong(format!("it has no `{CHECKSUM}`")))?;
        if bytes[place] != digest {
            return Err(wrong("its checksum does not fit its content".into()));
        }
        let metadata = metadata(bytes).ok_or_else(|| wrong(format!("it has no `{METADATA}` metadata")))?;
        // Before the rest, so that a newer file is named as such.
        let format = serde_json::from_str::<serde_json::Value>(&metadata)
            .ok()
            .and_then(|value| value["format"].as_u64())
            .ok_or_else(|| wrong("its metadata does not name a format".into()))?;
        if format != u64::from(FORMAT) {
            return Err(wrong(format!(
                "it is of format {format}, this program reads format {FORMAT}"
            )));
        }
        // The checksum fits, so nothing is damaged.
        let mut metadata: Metadata = serde_json::from_str(&metadata)
            .map_err(|error| wrong(format!("another version of the program may have written it ({error})")))?;
        metadata.config.check()?;
        let side = metadata.config.model.preprocess.crop;
        let references = (metadata.references.into_iter().enumerate())
            .map(|(index, expected)| {
                let name = reference_name(index);
                let tensor = file.tensor(&name).map_err(|_| wrong(format!("`{name}` is missing")))?;
                let pixels = Rgb8::new(side, side, tensor.data().to_vec())?;
                Ok(Reference { expected, pixels })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        if references.is_empty() {
            return Err(wrong("it has no reference images".into()));
        }
        if let Some(weights) = weights(options, &metadata.config, name) {
            metadata.card.backbone.weights = Some(weights.display().to_string());
            metadata.config.weights = Some(weights);
        }
        let backbone = load_backbone(&metadata.config)?;
        if backbone.identity() != metadata.card.backbone.sha256 && !options.allow_drift {
            return Err(Error::OtherBackbone {
                path: name.to_owned(),
                expected: metadata.card.backbone.sha256,
                found: backbone.identity().into(),
            });
        }
        let pipeline = Pipeline::new(&metadata.config.model, &backbone)?;
        let patches = pipeline.grid()[0] * pipeline.grid()[1];
        let model = Model::from_tensors(&file, HEAD, &metadata.config.model, [pipeline.dim(), patches])?;
        let size = metadata.card.data.size;
        let pixels = (size[0] as u64).saturating_mul(size[1] as u64);
        if !(1..=MAX_PIXELS).contains(&pixels) {
            return Err(wrong(format!("it is for images of {} x {}", size[0], size[1])));
        }
        let layout = Layout::new(size, &metadata.config, &pipeline)?;
        let roi = match file.tensor(ROI) {
            Ok(tensor) => {
                let roi = Roi::new(tensor.data().to_vec(), &layout.geometry, layout.patches);
                Some(roi.ok_or_else(|| wrong(format!("its `{ROI}` leaves nothing to judge")))?)
            }
            Err(_) => None,
        };
        let absence = match metadata.card.calibration.absence {
            Some(card) if card.limit.is_some_and(|limit| limit.is_nan() || limit <= 0.0) => {
                return Err(wrong("its limit for what is absent is not positive".into()));
            }
            Some(card) => {
                let absence = absence(&file, pipeline.dim(), card.unit);
                Some(absence.ok_or_else(|| wrong("what good images show is missing or damaged".into()))?)
            }
            None => None,
        };
        let detector = Detector {
            absence,
            roi,
            config: metadata.config,
            card: metadata.card,
            pipeline,
            model,
            references,
            highest_held_out: Vec::new(),
        };
        if !options.allow_drift {
            detector.check_drift(name)?;
        }
        Ok(detector)
    }

    /// File, expected and present score of each reference image.
    ///
    /// # Errors
    /// Where one cannot be scored.
    pub fn reference_scores(&self) -> Result<Vec<(String, f32, f32)>, Error> {
        let references = self.references.iter();
        references
            .map(|reference| {
                let Expected { file, score } = &reference.expected;
                let now = reference.score(&self.parts())?;
                Ok((file.clone(), *score, now))
            })
            .collect()
    }

    fn check_drift(&self, path: &Path) -> Result<(), Error> {
        for (file, expected, found) in self.reference_scores()? {
            let allowed = tolerance(self.pipeline.precision()) * expected.abs().max(1.0);
            let tolerated = (found - expected).abs() <= allowed;
            if !tolerated {
                return Err(Error::Drift {
                    path: path.to_owned(),
                    file,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }
}

/// The checkpoint of a backbone that is not in this program: what was asked for, what the configuration names, or, where that
/// has moved together with the detector, the file of its name beside it.
fn weights(options: &LoadOptions, config: &DetectorConfig, detector: &Path) -> Option<PathBuf> {
    let found = match &options.weights {
        Some(asked) => asked.clone(),
        None => {
            let named = config.weights.as_ref()?;
            let beside = detector.with_file_name(named.file_name()?);
            // A name without a folder says nothing of where it lies.
            let is_there = named.is_absolute() && named.exists();
            match !is_there && beside.exists() {
                true => beside,
                false => named.clone(),
            }
        }
    };
    // It is written into the file that is saved next, which may be opened from anywhere.
    Some(std::path::absolute(&found).unwrap_or(found))
}

/// What good images show; `None` where the file has no such tensors, or unusable ones.
fn absence(file: &SafeTensors<'_>, dim: usize, unit: f32) -> Option<Absence> {
    // The values of a matrix with so many columns.
    let matrix = |name, columns: usize| {
        let tensor = file.tensor(name).ok().filter(|tensor| tensor.dtype() == Dtype::F32)?;
        let values = tensor.data().as_chunks().0.iter().copied().map(f32::from_le_bytes);
        matches!(tensor.shape(), &[_, width] if width == columns).then(|| values.collect::<Vec<f32>>())
    };
    let landmarks = Landmarks::new(matrix(LANDMARKS, dim)?, dim).ok()?;
    let profiles = matrix(PROFILES, landmarks.count())?;
    Absence::from_parts(landmarks, profiles, unit)
}

fn reference_name(index: usize) -> String {
    format!("reference.{index}")
}

fn metadata(bytes: &[u8]) -> Option<String> {
    let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
    header.metadata().as_ref()?.get(METADATA).cloned()
}

/// Where the checksum of a file lies, and what it should be.
fn checksum(bytes: &[u8]) -> Option<(std::ops::Range<usize>, [u8; 32])> {
    let (header_bytes, header) = SafeTensors::read_metadata(bytes).ok()?;
    let (start, end) = header.info(CHECKSUM)?.data_offsets;
    let data = header_bytes.checked_add(8)?;
    let place = data.checked_add(start)?..data.checked_add(end)?;
    if place.len() != 32 {
        return None;
    }
    let mut hash = Sha256::new();
    hash.update(bytes.get(..place.start)?);
    hash.update([0; 32]);
    hash.update(bytes.get(place.end..)?);
    Some((place, hash.finalize().into()))
}
