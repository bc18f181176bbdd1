//! From a folder of good parts to a detector.

use std::ops::ControlFlow;
use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use simplenet_backbone::Backbone;
use simplenet_data::Source;
use simplenet_heads::{Bank, BankBuilder, Head, Scorer, Standardizer, train};

use super::calibration::Contract;
use super::card::{BackboneCard, Calibration, Card, DataCard, EpochCard, HeldOut, Hygiene, ThresholdCard, Unreadable};
use super::reference::{Expected, Reference, score_crop};
use super::roi::Roi;
use super::settings::DetectorConfig;
use super::{Detector, Parts, hygiene};
use crate::config::FeatureScale;
use crate::error::Error;
use crate::photo::Photo;
use crate::pipeline::{BankMemory, Pipeline};

/// Images that are decoded and extracted at once.
const BATCH: usize = 8;
/// Images kept in the file with their scores.
const REFERENCES: usize = 3;

/// How far training is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Reading images.
    Features {
        /// Images read.
        done: usize,
        /// All images.
        images: usize,
    },
    /// Training a head: the first ones are for held-out scores, the last one is the detector's.
    Head {
        /// From 1.
        head: usize,
        /// All heads.
        heads: usize,
        /// Epochs done.
        epoch: usize,
        /// All epochs of this head.
        epochs: usize,
    },
}

/// The training images as features.
struct Images {
    bank: Bank,
    names: Vec<String>,
    sources: Vec<Source>,
    data: DataCard,
}

impl Detector {
    /// Trains on images of good parts, calibrates the threshold on held-out ones among them, and looks for odd ones.
    ///
    /// A file that cannot be read is left out and named in the card. The result is a function of the images and the
    /// configuration alone, for any number of threads.
    ///
    /// # Errors
    /// Where fewer than 4 images can be read, the configuration contradicts itself, the backbone's weights are missing, or
    /// training diverges.
    pub fn train(
        images: &[Source],
        config: &DetectorConfig,
        mut progress: impl FnMut(Progress),
    ) -> Result<Detector, Error> {
        config.check()?;
        let backbone = load_backbone(config)?;
        let pipeline = Pipeline::new(&config.model, &backbone)?;
        let images = read(images, &pipeline, config, &mut progress)?;
        let mut config = config.clone();
        config.model.train.epochs = config.epochs(images.names.len());
        config.folds = config.folds.min(images.names.len());

        let roi = Roi::read(&config, pipeline.preprocess(), pipeline.grid(), images.data.size)?;
        let blur_sigma = config.model.evaluate.blur_sigma;
        let parts = Unscored {
            pipeline: &pipeline,
            roi: roi.as_ref(),
            blur_sigma,
        };

        let heads = config.folds + 1;
        let held_out = held_out(&images, &config, parts, &mut |head, epoch| {
            let epochs = config.model.train.epochs;
            progress(Progress::Head {
                head,
                heads,
                epoch,
                epochs,
            });
        })?;
        let standardizer = Standardizer::fit(&images.bank);
        let mut training = Vec::new();
        let head = train_head(&images.bank, &config, |epoch| {
            training.push(epoch);
            let epochs = config.model.train.epochs;
            progress(Progress::Head {
                head: heads,
                heads,
                epoch: epoch.epoch,
                epochs,
            });
        })?;
        let scorer = head.scorer_in(pipeline.precision())?;

        let contract = |scores: Vec<f32>| Contract::new(&scores, config.max_false_reject);
        let hygiene = Hygiene {
            suspects: hygiene::suspects(&held_out.images),
            duplicates: hygiene::duplicates(&images.bank, &standardizer, &images.names),
            oscillates: hygiene::oscillates(&training),
        };
        let calibration = Calibration {
            folds: config.folds,
            threshold: ThresholdCard::Contract(contract(held_out.images.iter().map(|image| image.score).collect())?),
            pixel_threshold: contract(held_out.images.iter().map(|image| image.peak).collect())?.threshold,
            typical_pixel: held_out.typical_pixel,
            min_defect_area: config.min_defect_area,
            held_out: held_out.images,
        };
        let references = references(&images, &calibration.held_out, &parts.with(&scorer))?;
        let card = Card {
            version: env!("CARGO_PKG_VERSION").into(),
            data: images.data,
            backbone: BackboneCard {
                arch: backbone.arch(),
                sha256: backbone.identity().into(),
                weights: config.weights.as_deref().map(|path| path.display().to_string()),
            },
            training,
            calibration,
            hygiene,
        };
        Ok(Detector {
            config,
            card,
            pipeline,
            head,
            scorer,
            roi,
            references,
        })
    }
}

/// The backbone that a configuration names.
pub(super) fn load_backbone(config: &DetectorConfig) -> Result<Backbone, Error> {
    let features = &config.model.features;
    let last = features
        .stages
        .iter()
        .max()
        .ok_or_else(|| Error::Config("`features.stages` is empty; name at least one stage".into()))?;
    Ok(match &config.weights {
        Some(path) => Backbone::load(features.backbone, path, *last)?,
        None => Backbone::embedded(features.backbone, *last)?,
    })
}

fn read(
    sources: &[Source],
    pipeline: &Pipeline,
    config: &DetectorConfig,
    progress: &mut impl FnMut(Progress),
) -> Result<Images, Error> {
    let patches = pipeline.grid()[0] * pipeline.grid()[1];
    let memory = BankMemory::new(config.memory);
    let mut bank = BankBuilder::new(pipeline.dim(), patches, memory.budget, &memory.spill)?;
    let (mut names, mut read, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut name_hash, mut content_hash) = (Sha256::new(), Sha256::new());
    let mut unreadable = Vec::new();
    let mut done = 0;
    for batch in sources.chunks(BATCH) {
        let photos: Vec<Result<_, Error>> = batch
            .par_iter()
            .map(|source| {
                let photo = Photo::open(source)?;
                let size = [photo.pixels.width(), photo.pixels.height()];
                Ok((photo.sha256, size, pipeline.preprocess().apply(&photo.pixels)))
            })
            .collect();
        let mut inputs = Vec::new();
        for (source, photo) in batch.iter().zip(photos) {
            let name = file_name(source);
            match photo {
                Ok((sha256, size, input)) => {
                    name_hash.update(format!("{name}\n"));
                    content_hash.update(sha256);
                    names.push(name);
                    read.push(source.clone());
                    sizes.push(size);
                    inputs.extend(input);
                }
                Err(error) => unreadable.push(Unreadable {
                    file: source.to_string(),
                    error: error.to_string(),
                }),
            }
        }
        if !inputs.is_empty() {
            bank.push(&pipeline.features(&inputs)?)?;
        }
        done += batch.len();
        progress(Progress::Features {
            done,
            images: sources.len(),
        });
    }
    if names.len() < 4 {
        return Err(Error::TooFewImages {
            readable: names.len(),
            unreadable: unreadable.len(),
            first: unreadable.into_iter().next().map(|file| file.error),
        });
    }
    let data = DataCard {
        images: names.len(),
        names_sha256: hex(&name_hash.finalize()),
        content_sha256: hex(&content_hash.finalize()),
        size: sizes[0],
        other_sizes: sizes.iter().filter(|&&size| size != sizes[0]).count(),
        unreadable,
    };
    Ok(Images {
        bank: bank.finish()?,
        names,
        sources: read,
        data,
    })
}

/// What all heads of a training share.
#[derive(Clone, Copy)]
struct Unscored<'a> {
    pipeline: &'a Pipeline,
    roi: Option<&'a Roi>,
    blur_sigma: f32,
}

impl<'a> Unscored<'a> {
    fn with(self, scorer: &'a Scorer) -> Parts<'a> {
        let Unscored {
            pipeline,
            roi,
            blur_sigma,
        } = self;
        Parts {
            pipeline,
            scorer,
            roi,
            blur_sigma,
        }
    }
}

/// What the heads say that had not seen an image.
struct HeldOutScores {
    images: Vec<HeldOut>,
    typical_pixel: f32,
}

/// Scores every image with a head that was trained without its part of the set. Parts are runs of neighbouring files:
/// frames of one camera in order of time resemble their neighbours, and a neighbour in the training set would make the
/// held-out score too good.
fn held_out(
    images: &Images,
    config: &DetectorConfig,
    parts: Unscored,
    progress: &mut impl FnMut(usize, usize),
) -> Result<HeldOutScores, Error> {
    let count = images.names.len();
    let mut scored = Vec::with_capacity(count);
    let mut medians = Vec::with_capacity(count);
    for fold in 0..config.folds {
        let part = fold * count / config.folds..(fold + 1) * count / config.folds;
        let rest = without(&images.bank, part.clone(), config)?;
        let head = train_head(&rest, config, |epoch| progress(fold + 1, epoch.epoch))?;
        drop(rest);
        let scorer = head.scorer_in(parts.pipeline.precision())?;
        for image in part {
            let judged = parts.with(&scorer).score_rows(images.bank.image(image))?;
            let mut map = judged.map;
            let middle = map.len() / 2;
            medians.push(*map.select_nth_unstable_by(middle, f32::total_cmp).1);
            scored.push(HeldOut {
                file: images.names[image].clone(),
                score: judged.score,
                peak: map.into_iter().fold(f32::NEG_INFINITY, f32::max),
            });
        }
    }
    let typical_pixel = *medians.select_nth_unstable_by(count / 2, f32::total_cmp).1;
    Ok(HeldOutScores {
        images: scored,
        typical_pixel,
    })
}

/// A bank without the images in `part`.
fn without(bank: &Bank, part: std::ops::Range<usize>, config: &DetectorConfig) -> Result<Bank, Error> {
    let memory = BankMemory::new(config.memory);
    let mut rest = BankBuilder::new(bank.dim(), bank.rows_per_image(), memory.budget, &memory.spill)?;
    for image in (0..bank.images()).filter(|image| !part.contains(image)) {
        rest.push(bank.image(image))?;
    }
    Ok(rest.finish()?)
}

fn train_head(bank: &Bank, config: &DetectorConfig, mut after: impl FnMut(EpochCard)) -> Result<Head, Error> {
    let mut head = Head::new(config.model.head_config(bank.dim()), config.seed)?;
    if config.model.scale == FeatureScale::Standardised {
        head.set_standardizer(Standardizer::fit(bank))?;
    }
    train(
        &mut head,
        bank,
        &config.model.train,
        config.seed,
        |report, _| -> Result<_, Error> {
            after(EpochCard {
                epoch: report.epoch,
                loss: report.loss,
                normal: report.mean_normal,
                noised: report.mean_noised,
            });
            Ok(ControlFlow::Continue(()))
        },
    )?;
    Ok(head)
}

/// The images with the lowest, the middle and the highest held-out score.
fn references(images: &Images, held_out: &[HeldOut], parts: &Parts) -> Result<Vec<Reference>, Error> {
    let mut order: Vec<usize> = (0..held_out.len()).collect();
    order.sort_by(|&a, &b| held_out[a].score.total_cmp(&held_out[b].score).then(a.cmp(&b)));
    let chosen = (0..REFERENCES).map(|index| order[index * (order.len() - 1) / (REFERENCES - 1)]);
    chosen
        .map(|index| {
            let photo = Photo::open(&images.sources[index])?;
            let pixels = parts.pipeline.preprocess().crop_image(&photo.pixels);
            let score = score_crop(&pixels, parts)?;
            let file = images.names[index].clone();
            let expected = Expected { file, score };
            Ok(Reference { expected, pixels })
        })
        .collect()
}

fn file_name(source: &Source) -> String {
    let Source::File(path) = source else {
        return source.to_string();
    };
    let name = path.file_name().map(Path::new).unwrap_or(path);
    name.display().to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
