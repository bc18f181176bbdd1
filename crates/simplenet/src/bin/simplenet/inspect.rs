//! `simplenet inspect`

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;
use simplenet::detector::calibration::Method;
use simplenet::detector::card::{Card, ThresholdCard};
use simplenet::detector::{Geometry, PixelBox};
use simplenet::{Detector, DetectorConfig};

use crate::Outcome;
use crate::arguments::Inspect;
use crate::output::Output;

/// Everything in a detector file except its tensors.
#[derive(Serialize)]
struct Inspection<'a> {
    config: &'a DetectorConfig,
    card: &'a Card,
    references: Vec<ReferenceScore>,
}

#[derive(Serialize)]
struct ReferenceScore {
    file: String,
    expected: f32,
    found: f32,
}

pub(crate) fn run(arguments: &Inspect, output: &Output) -> Result<Outcome> {
    let detector = arguments.model.load()?;
    let references: Vec<ReferenceScore> = detector
        .reference_scores()?
        .into_iter()
        .map(|(file, expected, found)| ReferenceScore { file, expected, found })
        .collect();
    let inspection = Inspection {
        config: detector.config(),
        card: detector.card(),
        references,
    };
    output.either(&inspection, || {
        let mut text = summary(&detector);
        for reference in &inspection.references {
            let ReferenceScore { file, expected, found } = reference;
            let _ = write!(
                text,
                "\nreference     {file}: {found:.6}, {:.1e} from what was written",
                (found - expected).abs()
            );
        }
        text
    })?;
    Ok(Outcome::default())
}

/// The part of a picture like the first training image that is judged.
pub(crate) fn inspected(detector: &Detector) -> PixelBox {
    let [width, height] = detector.card().data.size;
    let sizes = detector.config().model.preprocess;
    Geometry::new(width, height, sizes.resize, sizes.crop).inspected()
}

/// A detector in a few lines.
pub(crate) fn summary(detector: &Detector) -> String {
    let (card, config) = (detector.card(), detector.config());
    let data = &card.data;
    let model = &config.model;
    let weights = card.backbone.weights.as_deref().unwrap_or("in the program");
    let inspected = inspected(detector);
    let calibration = &card.calibration;
    let highest = calibration
        .held_out
        .iter()
        .map(|image| image.score)
        .fold(f32::MIN, f32::max);
    let lines = [
        (
            "images",
            format!(
                "{} of {} x {}, content {}",
                data.images,
                data.size[0],
                data.size[1],
                &data.content_sha256[..16]
            ),
        ),
        (
            "judged",
            format!(
                "{} x {} pixels at ({}, {}), seen as {} x {}",
                inspected.width,
                inspected.height,
                inspected.x,
                inspected.y,
                model.preprocess.crop,
                model.preprocess.crop
            ),
        ),
        (
            "backbone",
            format!(
                "{} {}, weights {weights}",
                card.backbone.arch,
                &card.backbone.sha256[..16]
            ),
        ),
        (
            "head",
            format!(
                "{} hidden, noise {}, {} epochs, seed {}",
                model.head.hidden, model.train.noise, model.train.epochs, config.seed
            ),
        ),
        ("threshold", threshold_text(&calibration.threshold)),
        (
            "held out",
            format!(
                "{} scores in {} parts, highest {highest:.4}; {} suspects, {} pairs of duplicates",
                calibration.held_out.len(),
                calibration.folds,
                card.hygiene.suspects.len(),
                card.hygiene.duplicates.len()
            ),
        ),
    ];
    let lines = lines.map(|(name, value)| format!("{name:<14}{value}"));
    lines.join("\n")
}

pub(crate) fn threshold_text(threshold: &ThresholdCard) -> String {
    match threshold {
        ThresholdCard::Contract(contract) => format!(
            "{:.4} for {:.2} % false rejects; at most {:.2} % with 95 % confidence{}",
            contract.threshold,
            contract.max_false_reject * 100.0,
            contract.bound * 100.0,
            match contract.method {
                Method::OrderStatistic => String::new(),
                Method::TailExtrapolation => format!(
                    " ({} more images are needed to promise the target)",
                    contract.more_images_needed()
                ),
            }
        ),
        ThresholdCard::Fixed { threshold } => format!("{threshold:.4}, set by hand"),
        ThresholdCard::FromTest {
            threshold,
            f1,
            good,
            defective,
        } => {
            format!("{threshold:.4}, the highest F1 ({f1:.4}) on {good} good and {defective} defective images")
        }
    }
}
