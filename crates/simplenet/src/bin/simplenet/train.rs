//! `simplenet train`

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use serde::Serialize;
use simplenet::{Card, Detector, DetectorConfig, Method, Model, Progress as Step, Source, TestReport, write_atomic};
use simplenet_data::{Sample, folder};

use crate::arguments::Train;
use crate::output::Output;
use crate::outputs::Outputs;
use crate::progress::Progress;
use crate::{Outcome, deeper, evaluate, inputs, inspect, options, remark, train_page};

pub(crate) fn run(arguments: Train, output: &Output) -> Result<Outcome> {
    let start = Instant::now();
    let config = config(&arguments);
    check_method(&arguments, &config.model.method)?;
    // What is wrong with it should be said now and not after the training.
    let test = arguments.test.as_ref().map(folder::labelled).transpose()?;
    let (images, skipped) = inputs::training(&arguments.good)?;
    check_out(&arguments, &images, test.as_deref().unwrap_or_default())?;
    if let Some(passed_over) = skipped.pictures("not learnt from") {
        output.say(&format!("warning: {passed_over}"));
    }
    if let Some(unused) = deeper::unused(&arguments.good, &images) {
        output.say(&unused);
    }
    let mut progress = Progress::new(output);
    let detector = Detector::train(&images, &config, |step| match step {
        Step::Features { done, images } => progress.at("features", done, images),
        Step::Settling { epoch, epochs } => progress.at("how long to train", epoch, epochs),
        Step::Head {
            head, heads, epochs: 1, ..
        } if head < heads => progress.at("parts of held-out pictures scored", head, heads - 1),
        Step::Head {
            head,
            heads,
            epoch,
            epochs,
        } if head < heads => {
            let part = format!("scoring held-out pictures, part {head} of {}", heads - 1);
            progress.at(&part, epoch, epochs);
        }
        Step::Head { epoch, epochs, .. } => progress.at("training", epoch, epochs),
    });
    progress.end();
    let square = if arguments.middle.is_some() {
        "--middle"
    } else {
        "--tile"
    };
    let detector = detector.map_err(|error| anyhow!(options::explain(&error, square)))?;
    detector.save(&arguments.out)?;
    let mut remarks = remark::lines(detector.card(), &detector.usual_geometry()?);
    if (arguments.roi.is_some() || arguments.ignore.is_some()) && detector.judged_share() == 1.0 {
        remarks.push(
            "warning: the masks leave all of the picture to be judged\n\nhint: of a mask the brightness counts, from 128 on as white, and \
             not the transparency"
                .into(),
        );
    }
    if detector.card().calibration.absence.is_none() && !matches!(detector.model(), Model::Padim(_)) {
        remarks.push("note: so many pictures are copies of each other that what is absent is not measured".into());
    }
    for line in &remarks {
        output.say(line);
    }
    if let Some(page) = &arguments.page {
        let title = format!(
            "{} as it learnt from {}",
            arguments.out.display(),
            arguments.good.display()
        );
        let html = train_page::html(&title, &inspect::summary(&detector)?, &remarks, &detector);
        write_atomic(page, html.as_bytes())?;
    }
    output.say(&format!(
        "wrote {} in {:.1} s",
        arguments.out.display(),
        start.elapsed().as_secs_f64()
    ));
    if !output.json {
        output.text(&inspect::summary(&detector)?)?;
    }
    let test = test
        .map(|test| evaluate::measure(&detector, &test, output))
        .transpose()?;
    let unreadable = test.as_ref().is_some_and(|report| !report.unreadable.is_empty());
    if output.json {
        let card = detector.card();
        output.json(&Trained { card, test })?;
    } else if let Some(report) = &test {
        output.text(&evaluate::text(report))?;
    }
    Ok(Outcome {
        errors: unreadable,
        ..Outcome::default()
    })
}

/// What `--json` prints: the card, and with `--test` what came of it, as one value.
#[derive(Serialize)]
struct Trained<'a> {
    #[serde(flatten)]
    card: &'a Card,
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<TestReport>,
}

/// Refuses a detector file that cannot be written, or would replace what it is made of.
fn check_out(arguments: &Train, images: &[Source], test: &[Sample]) -> Result<()> {
    let mut outputs = Outputs::default();
    for image in images.iter().chain(test.iter().map(|sample| &sample.source)) {
        outputs.keep(image.path(), "the image");
    }
    let others = [&arguments.roi, &arguments.ignore, &arguments.weights];
    let masks = test.iter().filter_map(|sample| sample.mask.as_deref());
    for path in others.into_iter().flatten().map(PathBuf::as_path).chain(masks) {
        outputs.keep(path, "the file");
    }
    outputs.file("--out", &arguments.out)?;
    match &arguments.page {
        Some(page) => outputs.file("--page", page),
        None => Ok(()),
    }
}

/// Refuses options that the method would ignore.
fn check_method(arguments: &Train, method: &Method) -> Result<()> {
    let of_simplenet = [
        ("--auto-stop", arguments.auto_stop),
        ("--epochs", arguments.epochs.is_some()),
        ("--hidden", arguments.hidden.is_some()),
        ("--noise", arguments.noise.is_some()),
    ];
    let of_patchcore = [("--vectors", arguments.vectors.is_some())];
    let (simplenet, patchcore) = (Method::SimpleNet.name(), Method::patchcore().name());
    let named = of_simplenet.map(|(option, given)| (option, given, simplenet));
    let others = of_patchcore.map(|(option, given)| (option, given, patchcore));
    for (option, given, owner) in named.into_iter().chain(others) {
        if given && method.name() != owner {
            bail!(
                "`{option}` is for `--method {owner}`, and the method is {}\n\nhint: add `--method {owner}`, or leave `{option}` out",
                method.name()
            );
        }
    }
    Ok(())
}

fn config(arguments: &Train) -> DetectorConfig {
    let mut config = DetectorConfig::for_backbone(arguments.backbone);
    if let Some(method) = arguments.method {
        config = config.with_method(method.into());
    }
    if let Some(epochs) = arguments.epochs {
        config.steps = None;
        config.model.train.epochs = epochs;
    }
    if let Some(hidden) = arguments.hidden {
        config.model.head.hidden = hidden;
    }
    if let Some(noise) = arguments.noise {
        config.model.train.noise = noise;
    }
    config.model.features.precision = arguments.precision.into();
    config.model.train.precision = arguments.precision.into();
    if let Some(vectors) = arguments.vectors {
        config.max_vectors = vectors;
    }
    if !arguments.layers.is_empty() {
        let mut stages = arguments.layers.clone();
        stages.sort();
        stages.dedup();
        config.model.features.stages = stages;
    }
    let sizes = &mut config.model.preprocess;
    if let Some(resize) = arguments.resize {
        // Small pictures are one square of whole patches, large ones several of the usual size.
        let patch = config.model.features.stages.first().map_or(1, |stage| stage.stride());
        sizes.crop = sizes.crop.min((resize / patch * patch).max(patch));
        sizes.resize = resize;
    }
    if let Some(tile) = arguments.tile {
        sizes.crop = tile;
    }
    if let Some(overlap) = arguments.overlap {
        config.overlap = Some(overlap);
    } else {
        config.overlap = config.overlap.map(|overlap| overlap.min(sizes.crop / 4));
    }
    if let Some(middle) = arguments.middle {
        sizes.crop = middle;
        config.overlap = None;
    }
    config.auto_stop = arguments.auto_stop;
    config.seed = arguments.seed;
    config.folds = arguments.folds;
    config.confident = arguments.confident;
    config.max_false_reject = arguments.max_false_reject;
    config.min_defect_area = arguments.min_defect_area;
    config.roi.clone_from(&arguments.roi);
    config.ignore.clone_from(&arguments.ignore);
    // The detector may be opened from another folder.
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    config.weights = arguments.weights.as_ref().map(absolute);
    config
}
