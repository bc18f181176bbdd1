//! From a folder of good parts to a detector.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use simplenet_backbone::Backbone;
use simplenet_data::{Rgb8, Source};
use simplenet_heads::{Bank, BankBuilder, Standardizer};

use super::absence::Absence;
use super::calibration::Contract;
use super::card::{
    BackboneCard, Calibration, Card, DataCard, EpochCard, Halved, HeldOut, Hygiene, ThresholdCard, Unreadable,
};
use super::layout::{self, Layout};
use super::reference::{Expected, Reference, score_crop};
use super::roi::Roi;
use super::settings::DetectorConfig;
use super::{Detector, Parts, Scored, auto_stop, hygiene, memory};
use crate::error::Error;
use crate::method::{Method, Model};
use crate::photo::{Photo, hex};
use crate::pipeline::{BankMemory, Pipeline};

/// Images that are decoded and extracted at once.
const BATCH: usize = 8;
/// Images kept in the file with their scores.
const REFERENCES: usize = 3;
/// Half of fewer images is too little to say anything.
const FEWEST_TO_HALVE: usize = 20;
/// Images that are also scored by models of half as many others, or a few more: parts of the set are taken whole.
const HALVED: usize = 60;
/// Runs of neighbours that a set is halved by, as it is divided for held-out scores.
const RUNS: usize = 8;

/// Held-out images that are kept with their maps, for a person to look at: at most so many, of no more than so many pixels together.
const LOOKED_AT: usize = 12;
const PIXELS_LOOKED_AT: usize = 1 << 24;

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
    /// Finding out how long to train, with a head of its own.
    Settling {
        /// Epochs done.
        epoch: usize,
        /// The most there will be.
        epochs: usize,
    },
    /// Fitting a model: the first ones are for held-out scores, the last one is the detector's.
    Head {
        /// From 1.
        head: usize,
        /// All heads.
        heads: usize,
        /// Epochs done.
        epoch: usize,
        /// All epochs of this model; 1 for a method that has none.
        epochs: usize,
    },
}

/// The training images as features.
pub(super) struct Images {
    /// One entry per square.
    bank: Bank,
    /// The patches in the region of interest, as many entries for every image, where models learn from these alone.
    inside: Option<Bank>,
    /// The first square of every image, and the number of all squares.
    starts: Vec<usize>,
    layouts: Vec<Layout>,
    /// The first image of the size that most have.
    usual: usize,
    pub(super) names: Vec<String>,
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
        let mut images = read(images, &pipeline, config, &mut progress)?;
        let roi = Roi::read(config, pipeline.preprocess(), &images.layouts[images.usual])?;
        if let Some(roi) = &roi {
            for (layout, source) in images.layouts.iter().zip(&images.sources) {
                let check = roi.check(&layout.geometry);
                check.map_err(|error| Error::Config(format!("{source}: {error}")))?;
            }
            images.learn_inside(roi, config)?;
        }
        let mut config = config.clone();
        config.model.train.epochs = config.epochs(images.learnt().images());
        config.folds = config.folds.min(images.names.len());
        let auto_stop = match config.auto_stop && config.model.method.is_simplenet() {
            true => {
                let most = config.model.train.epochs;
                Some(auto_stop::find(&images, &config, |epoch| {
                    progress(Progress::Settling { epoch, epochs: most });
                })?)
            }
            false => None,
        };
        if let Some(found) = &auto_stop {
            config.model.train.epochs = found.epochs;
        }
        let unfitted = Unfitted {
            pipeline: &pipeline,
            roi: roi.as_ref(),
            config: &config,
        };

        let heads = config.folds + 1;
        let mut progress = |head, [epoch, epochs]: [usize; 2]| {
            progress(Progress::Head {
                head,
                heads,
                epoch,
                epochs,
            });
        };
        let held_out = held_out(&images, unfitted, &mut progress)?;
        let mut training = Vec::new();
        let model = fit(images.learnt(), &config, &mut |card| {
            training.push(card);
            progress(heads, [card.epoch, config.model.train.epochs]);
        })?;
        if training.is_empty() {
            progress(heads, [1, 1]);
        }

        // A Gaussian for every position knows what belongs there.
        let absence = match config.model.method {
            Method::Padim(_) => None,
            Method::SimpleNet | Method::PatchCore(_) => Absence::fit(&images, &config)?,
        };
        let (absence, absence_card, lacking) = match absence {
            Some(fitted) => (Some(fitted.absence), Some(fitted.card), fitted.lacking),
            None => (None, None, Vec::new()),
        };
        let contract = |scores: Vec<f32>| Contract::new(&scores, config.max_false_reject, config.confident);
        let hygiene = Hygiene {
            suspects: hygiene::suspects(&held_out.images),
            lacking,
            duplicates: hygiene::duplicates(&images, &Standardizer::fit(images.learnt())),
            oscillates: hygiene::oscillates(&training),
        };
        let calibration = Calibration {
            folds: config.folds,
            threshold: ThresholdCard::Contract(contract(held_out.images.iter().map(|image| image.score).collect())?),
            pixel_threshold: contract(held_out.images.iter().map(|image| image.peak).collect())?.threshold,
            typical_pixel: held_out.typical_pixel,
            min_defect_area: config.min_defect_area,
            halved: held_out.halved,
            absence: absence_card,
            held_out: held_out.images,
        };
        // Scored as every image will be.
        let parts = Parts {
            absence: absence.as_ref(),
            ..unfitted.with(&model)
        };
        let references = references(&images, &calibration.held_out, &parts)?;
        let card = Card {
            version: env!("CARGO_PKG_VERSION").into(),
            data: images.data,
            backbone: BackboneCard {
                arch: backbone.arch(),
                sha256: backbone.identity().into(),
                weights: config.weights.as_deref().map(|path| path.display().to_string()),
            },
            training,
            auto_stop,
            calibration,
            hygiene,
        };
        let mut detector = Detector {
            config,
            card,
            pipeline,
            model,
            roi,
            absence,
            references,
            highest_held_out: Vec::new(),
        };
        let decision = detector.decision();
        let highest = held_out.highest.into_iter().map(|(image, scored)| {
            let geometry = images.layouts[image].geometry;
            let prediction = decision.judge(scored, geometry, detector.roi.as_ref())?;
            Ok((images.sources[image].clone(), prediction))
        });
        detector.highest_held_out = highest.collect::<Result<_, Error>>()?;
        Ok(detector)
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
    let (mut names, mut read, mut layouts, mut starts) = (Vec::new(), Vec::new(), Vec::new(), vec![0]);
    let (mut name_hash, mut content_hash) = (Sha256::new(), Sha256::new());
    let (mut files_sha256, mut unreadable, mut brightest) = (Vec::new(), Vec::new(), 0);
    let mut done = 0;
    let all_names = names_of(sources);
    for (batch, batch_names) in sources.chunks(BATCH).zip(all_names.chunks(BATCH)) {
        let photos: Vec<Result<_, Error>> = batch
            .par_iter()
            .map(|source| {
                let photo = Photo::open(source)?;
                let size = [photo.pixels.width(), photo.pixels.height()];
                let layout = Layout::new(size, config, pipeline)?;
                let brightest = photo.pixels.data().iter().copied().max().unwrap_or(0);
                Ok((photo, layout, brightest))
            })
            .collect();
        let mut images = Vec::new();
        for ((source, name), photo) in batch.iter().zip(batch_names).zip(photos) {
            match photo {
                Ok((photo, layout, its_brightest)) => {
                    brightest = its_brightest.max(brightest);
                    name_hash.update(format!("{name}\n"));
                    content_hash.update(photo.sha256);
                    files_sha256.push(hex(&photo.sha256));
                    names.push(name.clone());
                    read.push(source.clone());
                    images.push((photo.pixels, layout));
                }
                // Not this image is wrong, but the configuration for all of them.
                Err(error @ Error::Config(_)) if matches!(config.model.method, Method::Padim(_)) => return Err(error),
                Err(error) => unreadable.push(Unreadable {
                    file: source.to_string(),
                    error: error.to_string(),
                }),
            }
        }
        let seen: Vec<(&Rgb8, &Layout)> = images.iter().map(|(pixels, layout)| (pixels, layout)).collect();
        layout::extract(pipeline, &seen, |rows, _, _| Ok(bank.push(rows)?))?;
        for (_, layout) in images {
            starts.push(starts.last().map_or(0, |start| start + layout.tiles()));
            layouts.push(layout);
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
    let sizes: Vec<[usize; 2]> = layouts
        .iter()
        .map(|layout| [layout.geometry.width, layout.geometry.height])
        .collect();
    let (usual, of_usual) = most_common(&sizes);
    let data = DataCard {
        images: names.len(),
        names_sha256: hex(&name_hash.finalize()),
        content_sha256: hex(&content_hash.finalize()),
        files_sha256,
        size: sizes[usual],
        other_sizes: sizes.len() - of_usual,
        brightest,
        unreadable,
    };
    Ok(Images {
        bank: bank.finish()?,
        inside: None,
        starts,
        layouts,
        usual,
        names,
        sources: read,
        data,
    })
}

/// Where the size that most images have stands first, and how many have it; of sizes that as many have, the first one.
fn most_common(sizes: &[[usize; 2]]) -> (usize, usize) {
    let mut counts: BTreeMap<[usize; 2], (usize, usize)> = BTreeMap::new();
    for (index, size) in sizes.iter().enumerate() {
        counts.entry(*size).or_insert((index, 0)).1 += 1;
    }
    let most = counts
        .into_values()
        .max_by_key(|&(first, count)| (count, Reverse(first)));
    most.unwrap_or_default()
}

/// What all models of a training share.
#[derive(Clone, Copy)]
struct Unfitted<'a> {
    pipeline: &'a Pipeline,
    roi: Option<&'a Roi>,
    config: &'a DetectorConfig,
}

impl<'a> Unfitted<'a> {
    fn with(self, model: &'a Model) -> Parts<'a> {
        let Unfitted { pipeline, roi, config } = self;
        Parts {
            pipeline,
            model,
            roi,
            absence: None,
            config,
        }
    }
}

/// What the models say that had not seen an image.
struct HeldOutScores {
    images: Vec<HeldOut>,
    typical_pixel: f32,
    halved: Option<Halved>,
    /// The images with the highest scores, the highest first.
    highest: Vec<(usize, Scored)>,
}

/// Scores every image with a model that was fitted without its part of the set. Parts are runs of neighbouring files:
/// frames of one camera in order of time resemble their neighbours, and a neighbour in the training set would make the
/// held-out score too good.
fn held_out(
    images: &Images,
    unfitted: Unfitted,
    progress: &mut impl FnMut(usize, [usize; 2]),
) -> Result<HeldOutScores, Error> {
    let count = images.names.len();
    let config = unfitted.config;
    let steps_per_epoch = |squares: usize| squares.div_ceil(config.model.train.batch_images).max(1);
    let steps = config.model.train.epochs * steps_per_epoch(images.learnt().images());
    let mut scored = Vec::with_capacity(count);
    let mut medians = Vec::with_capacity(count);
    let mut of_halves = Vec::new();
    let mut highest: Vec<(usize, Scored)> = Vec::new();
    let config_of_half = config_of_half(config, count);
    for fold in 0..config.folds {
        let part = fold * count / config.folds..(fold + 1) * count / config.folds;
        let others: Vec<usize> = (0..count).filter(|image| !part.contains(image)).collect();
        let rest = images.only(&others, config)?;
        // SimpleNet's scores grow with its steps, so all models take as many.
        let mut of_fold = config.clone();
        of_fold.model.train.epochs = steps.div_ceil(steps_per_epoch(rest.images()));
        let epochs = of_fold.model.train.epochs;
        let model = fit(&rest, &of_fold, &mut |card| progress(fold + 1, [card.epoch, epochs]))?;
        drop(rest);
        let parts = unfitted.with(&model);
        for image in part.clone() {
            let judged = images.judge(image, &parts)?;
            let is_inside = |pixel: usize| unfitted.roi.is_none_or(|roi| roi.is_inside(pixel));
            let pixels = judged.map.iter().enumerate();
            let mut map: Vec<f32> = pixels
                .filter(|(pixel, _)| is_inside(*pixel))
                .map(|(_, value)| *value)
                .collect();
            let middle = map.len() / 2;
            medians.push(*map.select_nth_unstable_by(middle, f32::total_cmp).1);
            scored.push(HeldOut {
                file: images.names[image].clone(),
                score: judged.score,
                peak: map.into_iter().fold(f32::NEG_INFINITY, f32::max),
            });
            let place = highest.partition_point(|(_, other)| other.score >= judged.score);
            highest.insert(place, (image, judged));
            let pixels = highest.iter().map(|(_, scored)| scored.map.len());
            let together = pixels.scan(0, |sum, pixels| {
                *sum += pixels;
                Some(*sum)
            });
            let fit = together.take_while(|sum| *sum <= PIXELS_LOOKED_AT).count();
            highest.truncate(fit.clamp(1, LOOKED_AT));
        }
        if let Some(config) = config_of_half.as_ref().filter(|_| of_halves.len() < HALVED) {
            let model = fit(&images.only(&half(&others), config)?, config, &mut |_| ())?;
            for image in part {
                of_halves.push(images.judge(image, &unfitted.with(&model))?.score);
            }
        }
        if !config.model.method.is_simplenet() {
            progress(fold + 1, [1, 1]);
        }
    }
    let of_all: Vec<f32> = scored[..of_halves.len()].iter().map(|image| image.score).collect();
    let typical_pixel = *medians.select_nth_unstable_by(count / 2, f32::total_cmp).1;
    Ok(HeldOutScores {
        images: scored,
        typical_pixel,
        halved: hygiene::halved(&of_all, &of_halves),
        highest,
    })
}

/// To remember as much of half the images as of all, so that they differ in what they show alone. None where halves are not tried: a
/// SimpleNet would take as long for a half as for all, and PaDiM never knows enough of its many dimensions.
fn config_of_half(config: &DetectorConfig, images: usize) -> Option<DetectorConfig> {
    let mut config = config.clone();
    let Method::PatchCore(patchcore) = &mut config.model.method else {
        return None;
    };
    patchcore.coreset.fraction = (2.0 * patchcore.coreset.fraction).min(1.0);
    (images >= FEWEST_TO_HALVE).then_some(config)
}

/// Every second run of them.
fn half(images: &[usize]) -> Vec<usize> {
    let runs = RUNS.min(images.len());
    let is_kept = |at: usize| (at * runs / images.len()).is_multiple_of(2);
    let kept = images.iter().enumerate().filter(|&(at, _)| is_kept(at));
    kept.map(|(_, &image)| image).collect()
}

impl Images {
    /// The features of an image, square by square.
    fn squares(&self, image: usize) -> impl Iterator<Item = &[f32]> + Clone {
        (self.starts[image]..self.starts[image + 1]).map(|square| self.bank.image(square))
    }

    /// From now on models learn from what lies in a region of interest: what lies outside would take places in a memory, and excuse
    /// defects that look like it. PaDiM has a Gaussian of its own for every position, so it makes no difference there.
    fn learn_inside(&mut self, roi: &Roi, config: &DetectorConfig) -> Result<(), Error> {
        if matches!(config.model.method, Method::Padim(_)) {
            return Ok(());
        }
        let (memory, dim) = (BankMemory::new(config.memory), self.bank.dim());
        let mut inside: Option<(BankBuilder, usize)> = None;
        for (image, layout) in self.layouts.iter().enumerate() {
            let squares = self.squares(image).enumerate();
            let rows: Vec<Vec<f32>> = squares
                .map(|(tile, rows)| roi.judged_rows(layout, tile, rows, dim))
                .collect();
            let rows = rows.concat();
            // As many of every image: with a region of interest all have one shape. An entry is no larger than a square, so that a
            // step of training is not either; some first patches may fill the last one.
            let count = rows.len() / dim;
            let entries = count.div_ceil(self.bank.rows_per_image());
            let (bank, each) = match &mut inside {
                Some(inside) => inside,
                None => {
                    let each = count.div_ceil(entries);
                    let bank = BankBuilder::new(dim, each, memory.budget, &memory.spill)?;
                    inside.insert((bank, each))
                }
            };
            let filled = rows.iter().chain(&rows).take(entries * *each * dim).copied();
            bank.push(&filled.collect::<Vec<f32>>())?;
        }
        self.inside = inside.map(|(bank, _)| bank.finish()).transpose()?;
        Ok(())
    }

    /// What models learn from: one entry per square, or as many per image with a region of interest.
    pub(super) fn learnt(&self) -> &Bank {
        self.inside.as_ref().unwrap_or(&self.bank)
    }

    /// The entries of an image in [`Images::learnt`].
    pub(super) fn entries(&self, image: usize) -> Range<usize> {
        match self.inside {
            Some(ref inside) => {
                let each = inside.images() / self.names.len();
                image * each..(image + 1) * each
            }
            None => self.starts[image]..self.starts[image + 1],
        }
    }

    /// What models learn from an image.
    pub(super) fn learnt_rows(&self, image: usize) -> impl Iterator<Item = &[f32]> + Clone {
        self.entries(image).map(|entry| self.learnt().image(entry))
    }

    /// What a model says of an image.
    fn judge(&self, image: usize, parts: &Parts) -> Result<Scored, Error> {
        let tiles = self.squares(image).map(|rows| parts.model.score(rows));
        parts.finish(&self.layouts[image], tiles.collect::<Result<_, Error>>()?)
    }

    /// What models learn from these images.
    pub(super) fn only(&self, images: &[usize], config: &DetectorConfig) -> Result<Bank, Error> {
        let bank = self.learnt();
        let memory = BankMemory::new(config.memory);
        let mut chosen = BankBuilder::new(bank.dim(), bank.rows_per_image(), memory.budget, &memory.spill)?;
        for rows in images.iter().flat_map(|&image| self.learnt_rows(image)) {
            chosen.push(rows)?;
        }
        Ok(chosen.finish()?)
    }
}

/// Fits the configuration's method. `after` hears of every epoch.
fn fit(bank: &Bank, config: &DetectorConfig, after: &mut impl FnMut(EpochCard)) -> Result<Model, Error> {
    if let Method::PatchCore(patchcore) = &config.model.method {
        return memory::fit(bank, patchcore, config);
    }
    Model::fit(bank, &config.model, config.seed, |report, _| {
        after(EpochCard {
            epoch: report.epoch,
            loss: report.loss,
            normal: report.mean_normal,
            noised: report.mean_noised,
        });
        Ok(ControlFlow::Continue(()))
    })
}

/// The images with the lowest, the middle and the highest held-out score, but for those whose files can no longer be
/// read, which is no reason to lose a training.
fn references(images: &Images, held_out: &[HeldOut], parts: &Parts) -> Result<Vec<Reference>, Error> {
    let mut order: Vec<usize> = (0..held_out.len()).collect();
    order.sort_by(|&a, &b| held_out[a].score.total_cmp(&held_out[b].score).then(a.cmp(&b)));
    let (mut references, mut gone) = (Vec::new(), None);
    for index in (0..REFERENCES).map(|index| order[index * (order.len() - 1) / (REFERENCES - 1)]) {
        let photo = match Photo::open(&images.sources[index]) {
            Ok(photo) => photo,
            Err(error) => {
                gone = Some(error);
                continue;
            }
        };
        let pixels = parts.pipeline.preprocess().crop_image(&photo.pixels);
        let score = score_crop(&pixels, parts)?;
        let file = images.names[index].clone();
        let expected = Expected { file, score };
        references.push(Reference { expected, pixels });
    }
    match gone {
        Some(error) if references.is_empty() => Err(error),
        _ => Ok(references),
    }
}

/// Names that tell images apart: those of their files, and where several files have one name, their paths below the folder
/// that holds all images.
fn names_of(sources: &[Source]) -> Vec<String> {
    let mut files: BTreeMap<String, usize> = BTreeMap::new();
    for source in sources {
        *files.entry(file_name(source)).or_default() += 1;
    }
    let mut folders = sources.iter().filter_map(|source| source.path().parent());
    let first = folders.next().unwrap_or(Path::new("")).to_path_buf();
    let common: PathBuf = folders.fold(first, |common, folder| {
        let shared = common.components().zip(folder.components());
        shared.take_while(|(a, b)| a == b).map(|(part, _)| part).collect()
    });
    let name = |source: &Source| match file_name(source) {
        name if files[&name] == 1 => name,
        name => match source.path().strip_prefix(&common) {
            Ok(below) => below.display().to_string(),
            Err(_) => name,
        },
    };
    sources.iter().map(name).collect()
}

fn file_name(source: &Source) -> String {
    let Source::File(path) = source else {
        return source.to_string();
    };
    let name = path.file_name().map(Path::new).unwrap_or(path);
    name.display().to_string()
}
