//! Whole detectors, from the file to the map, and the stages of that way.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rayon::prelude::*;
use simplenet::config::Sizes;
use simplenet::{Detector, DetectorConfig, Method, Model, Source, open_upright};
use simplenet_backbone::{Arch, Precision, Stage};
use simplenet_data::toy::{CATEGORIES, Shot, render};
use simplenet_kernels::engine::{Engine, EngineConfig};
use simplenet_kernels::{maps, patch};
use simplenet_report::Benchmark;

use super::{BATCHES, Bench, Network, PRECISIONS, pool};
use crate::bench::measure::{Contestant, alternate, contestant, measure};
use crate::bench::random::enlarged;

/// Sides of the photographs, in pixels: the procedural set's, and a camera's.
const SIDES: [u32; 2] = [256, 1024];

/// Photographs that the detectors are trained on: enough to calibrate, and the times do not depend on how well.
const TRAINING: usize = 8;

/// PNG files of a machined ring, good and defective, of some side.
pub(super) struct Photographs {
    _folder: tempfile::TempDir,
    good: Vec<PathBuf>,
    /// One of each of [`SIDES`], with a defect.
    defective: Vec<PathBuf>,
}

impl Photographs {
    pub(super) fn draw() -> Result<Photographs> {
        let folder = tempfile::tempdir()?;
        let category = CATEGORIES
            .iter()
            .find(|category| category.name == "ring")
            .unwrap_or(&CATEGORIES[0]);
        let mut good = Vec::new();
        for index in 0..TRAINING {
            let path = folder.path().join(format!("good-{index}.png"));
            render(0, category, Shot::Train { index }).image.save(&path)?;
            good.push(path);
        }
        let defective = render(0, category, Shot::Defective { defect: 0, index: 0 }).image;
        let mut paths = Vec::new();
        for side in SIDES {
            let path = folder.path().join(format!("defective-{side}.png"));
            enlarged(&defective, side).save(&path)?;
            paths.push(path);
        }
        Ok(Photographs {
            _folder: folder,
            good,
            defective: paths,
        })
    }
}

fn train(network: &Network, precision: Precision, photographs: &Photographs) -> Result<Detector> {
    // SimpleNet on the middle square, whatever the detector's defaults are: rows of different commits speak of one thing.
    let mut config = DetectorConfig::for_backbone(network.arch).with_method(Method::SimpleNet);
    config.model.preprocess = Sizes { resize: 256, crop: 224 };
    config.overlap = None;
    config.model.features.precision = precision;
    config.model.train.precision = precision;
    config.weights.clone_from(&network.file);
    config.steps = Some(2);
    config.folds = 2;
    let images: Vec<Source> = photographs.good.iter().cloned().map(Source::File).collect();
    Ok(Detector::train(&images, &config, |_| {})?)
}

pub(super) fn run(bench: &mut Bench, network: &Network, photographs: &Photographs) -> Result<()> {
    for precision in PRECISIONS {
        let detector = train(network, precision, photographs)?;
        for (side, path) in SIDES.into_iter().zip(&photographs.defective) {
            for threads in bench.threads.clone() {
                let pool = pool(threads)?;
                for batch in BATCHES {
                    let timing = pool.install(|| measure(bench.budget, || judge(&detector, path, batch)))?;
                    let row = Benchmark {
                        model: model(network.arch, side),
                        weights: network.weights.clone(),
                        ..bench.row("detector", precision, threads, batch)
                    };
                    bench.push(vec![timing.fill(row)])?;
                }
            }
        }
        stages(bench, network, &detector, photographs)?;
    }
    Ok(())
}

fn model(arch: Arch, side: u32) -> String {
    format!("{arch}, PNG of {side} × {side}")
}

/// Decodes and judges a file `batch` times at once.
fn judge(detector: &Detector, path: &Path, batch: usize) -> Result<()> {
    if batch == 1 {
        detector.predict_file(path)?;
        return Ok(());
    }
    let images = (0..batch).into_par_iter().map(|_| open_upright(path));
    let images: Vec<_> = images.collect::<Result<_, _>>()?;
    detector.predict_batch(&images)?;
    Ok(())
}

/// The stages of one image's way, each for itself, on all threads.
fn stages(bench: &mut Bench, backbone: &Network, detector: &Detector, photographs: &Photographs) -> Result<()> {
    let threads = bench.threads.iter().copied().max().unwrap_or(1);
    let model_config = &detector.config().model;
    let precision = model_config.features.precision;
    let pipeline = detector.pipeline();
    let outputs = [
        backbone.backbone.tap(Stage::Layer2)?,
        backbone.backbone.tap(Stage::Layer3)?,
    ];
    let isa = bench.isa;
    let engine = Engine::compile(backbone.backbone.graph(), &outputs, EngineConfig { precision, isa })?;
    let Model::SimpleNet(network) = detector.model() else {
        bail!("the stages are those of SimpleNet, but the detector is another method's");
    };
    let side = pipeline.preprocess().crop();
    let pool = pool(threads)?;
    for (photograph, path) in SIDES.into_iter().zip(&photographs.defective) {
        let image = open_upright(path)?;
        let input = pipeline.preprocess().apply(&image);
        let shape = [1, 3, side, side];
        let features = engine.run(&input, shape)?;
        let features: Vec<_> = features.iter().collect();
        let layers = patch::mean_layers(&features, model_config.features.patch)?;
        let patches = network.score_layers(&layers)?;
        let grid = [1, layers[0].share.h, layers[0].share.w];
        let blur = model_config.evaluate.blur_sigma;
        let patch_size = model_config.features.patch;
        let budget = bench.budget;
        let timings = pool.install(|| -> Result<_> {
            // In turns: what is left of the whole when the stages are taken away is a small difference of large times.
            let (names, mut contestants): (Vec<&str>, Vec<Contestant<'_>>) = [
                ("decode", contestant(|| Ok(open_upright(path)?))),
                ("resize", contestant(|| Ok(pipeline.preprocess().apply(&image)))),
                ("backbone", contestant(|| Ok(engine.run(&input, shape)?))),
                ("patches", contestant(|| Ok(patch::mean_layers(&features, patch_size)?))),
                ("head", contestant(|| Ok(network.score_layers(&layers)?))),
                (
                    "map",
                    contestant(|| Ok(maps::anomaly_maps(&patches, grid, [side, side], blur)?)),
                ),
                ("whole", contestant(|| Ok(detector.predict_file(path)?))),
            ]
            .into_iter()
            .unzip();
            Ok(names
                .into_iter()
                .zip(alternate(budget, &mut contestants)?)
                .collect::<Vec<_>>())
        })?;
        let mut new = Vec::new();
        for (stage, timing) in timings {
            let row = Benchmark {
                model: model(backbone.arch, photograph),
                weights: backbone.weights.clone(),
                ..bench.row(&format!("stage: {stage}"), precision, threads, 1)
            };
            new.push(timing.fill(row));
        }
        bench.push(new)?;
    }
    Ok(())
}
