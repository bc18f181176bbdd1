//! `simplenet train`

use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use simplenet::detector::Geometry;
use simplenet::detector::card::ThresholdCard;
use simplenet::{Detector, DetectorConfig, Method, Progress as Step};

use crate::arguments::Train;
use crate::output::Output;
use crate::progress::Progress;
use crate::{Outcome, evaluate, inputs, inspect, options};

/// Below this share of the picture a person should know that the rest is not judged.
const SHARE_TO_MENTION: f64 = 0.9;

pub(crate) fn run(arguments: Train, output: &Output) -> Result<Outcome> {
    let start = Instant::now();
    let config = config(&arguments);
    check_method(&arguments, &config.model.method)?;
    let images = inputs::training(&arguments.good)?;
    let mut progress = Progress::new(output);
    let detector = Detector::train(&images, &config, |step| match step {
        Step::Features { done, images } => progress.at("features", done, images),
        Step::Settling { epoch, epochs } => progress.at("how long to train", epoch, epochs),
        Step::Head {
            head,
            heads,
            epoch,
            epochs,
        } if head < heads => progress.at(&format!("held-out scores {head}/{}", heads - 1), epoch, epochs),
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
    remark(&detector, &detector.usual_geometry()?, output);
    output.say(&format!(
        "wrote {} in {:.1} s",
        arguments.out.display(),
        start.elapsed().as_secs_f64()
    ));
    let summary = inspect::summary(&detector)?;
    output.either(detector.card(), || summary)?;
    if let Some(test) = &arguments.test {
        let report = evaluate::measure(&detector, &evaluate::labelled(test)?, output)?;
        output.either(&report, || report.to_text())?;
    }
    Ok(Outcome::default())
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
    config.weights.clone_from(&arguments.weights);
    config
}

/// What a person should look at before trusting the detector.
fn remark(detector: &Detector, geometry: &Geometry, output: &Output) {
    let card = detector.card();
    for file in &card.data.unreadable {
        output.say(&format!("warning: left out {}: {}", file.file, first_line(&file.error)));
    }
    if card.data.other_sizes > 0 {
        let [width, height] = card.data.size;
        output.say(&format!(
            "warning: {} images are not {width} x {height} like the first one",
            card.data.other_sizes
        ));
    }
    if let Some(found) = &card.auto_stop {
        let rest = match found.epochs < found.most {
            true => "",
            false => " and had not settled; more --epochs may help",
        };
        output.say(&format!(
            "note: trained {} of {} epochs{rest}; `inspect --json` has the curve",
            found.epochs, found.most
        ));
    }
    for suspect in &card.hygiene.suspects {
        output.say(&format!(
            "warning: {} looks unlike the other good parts (held-out score {:.3}, usual up to {:.3}); is it one?",
            suspect.file, suspect.score, suspect.fence
        ));
    }
    for pair in &card.hygiene.duplicates {
        output.say(&format!(
            "warning: {} and {} are {}",
            pair.first,
            pair.second,
            if pair.distance == 0.0 {
                "the same"
            } else {
                "nearly the same"
            }
        ));
    }
    if card.hygiene.oscillates {
        output.say("warning: training did not settle; try another --seed, or more --epochs");
    }
    let [width, height] = card.data.size;
    let inspected = geometry.inspected();
    let share = (inspected.width * inspected.height) as f64 / (width * height) as f64;
    if share < SHARE_TO_MENTION {
        output.say(&format!(
            "note: of the {width} x {height} picture the middle {} x {} are judged ({:.0} %)",
            inspected.width,
            inspected.height,
            share * 100.0
        ));
    }
    if let ThresholdCard::Contract(contract) = &card.calibration.threshold
        && !contract.is_promised()
    {
        let remedy = match contract.more_images_needed() {
            0 => "--confident promises the target".to_string(),
            more => format!("{more} more images are needed to promise the target"),
        };
        output.say(&format!(
            "note: with {} held-out images the false-reject rate is at most {:.2} % with 95 % confidence; {remedy}",
            contract.held_out,
            contract.bound * 100.0
        ));
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
