//! `simplenet inspect`

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;
use simplenet::detector::calibration::Method;
use simplenet::detector::card::{AbsenceCard, Calibration, Card, ThresholdCard};
use simplenet::{Detector, DetectorConfig, Error, Model};
use simplenet_backbone::Stage;

use crate::Outcome;
use crate::arguments::Inspect;
use crate::output::Output;
use crate::remark;

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
    let summary = summary(&detector)?;
    if let Some(text) = remark::few(&detector.card().calibration) {
        output.say(&text);
    }
    output.either(&inspection, || {
        let mut text = summary;
        for reference in &inspection.references {
            let ReferenceScore { file, expected, found } = reference;
            let moved = match (found - expected).abs() {
                0.0 => "as written".to_string(),
                distance => format!("{distance:.1e} from what was written"),
            };
            let _ = write!(text, "\nreference     {file}: {found:.6}, {moved}");
        }
        text
    })?;
    Ok(Outcome::default())
}

/// A detector in a few lines.
pub(crate) fn summary(detector: &Detector) -> Result<String, Error> {
    let (card, config) = (detector.card(), detector.config());
    let data = &card.data;
    let model = &config.model;
    let weights = card.backbone.weights.as_deref().unwrap_or("in the program");
    let geometry = detector.usual_geometry()?;
    let inspected = geometry.inspected();
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
                short(&data.content_sha256)
            ),
        ),
        (
            "judged",
            format!(
                "{} x {} pixels at ({}, {}), seen as {} x {}{}{}",
                inspected.width,
                inspected.height,
                inspected.x,
                inspected.y,
                geometry.columns,
                geometry.rows,
                squares(config, geometry.columns.min(geometry.rows)),
                match detector.judged_share() {
                    1.0 => String::new(),
                    share => format!("; {:.0} % of it, as masks say", share * 100.0),
                }
            ),
        ),
        (
            "backbone",
            format!(
                "{} {}, {}weights {weights}",
                card.backbone.arch,
                short(&card.backbone.sha256),
                layers(config)
            ),
        ),
        (
            "method",
            match detector.model() {
                Model::SimpleNet(_) => format!(
                    "simplenet: {} hidden, noise {}, {} epochs, seed {}",
                    model.head.hidden, model.train.noise, model.train.epochs, config.seed
                ),
                Model::PatchCore(patchcore) => format!(
                    "patchcore: {} patches remembered, seed {}",
                    patchcore.vectors(),
                    config.seed
                ),
                Model::Padim(padim) => format!(
                    "padim: {} of {} channels, seed {}",
                    padim.channels().len(),
                    padim.dim(),
                    config.seed
                ),
            },
        ),
        ("threshold", threshold_text(calibration)),
        (
            "pixels",
            format!("marked from {:.4} on (--pixel-value)", calibration.pixel_threshold),
        ),
        (
            "held out",
            format!(
                "{} scores in {} parts, highest {highest:.4}; {}, {} of duplicates",
                calibration.held_out.len(),
                calibration.folds,
                counted(card.hygiene.suspects.len(), "suspect"),
                counted(remark::groups(&card.hygiene.duplicates).len(), "group")
            ),
        ),
        ("absence", absence_text(calibration)),
        (
            "more pictures",
            match &calibration.halved {
                Some(halved) => format!("learnt from half as many, good parts score {}", remark::higher(halved)),
                None => "not tried".into(),
            },
        ),
    ];
    let lines = lines.map(|(name, value)| format!("{name:<14}{value}"));
    Ok(lines.join("\n"))
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// The squares that cover a picture whose shorter side is seen as `side`, where they are not the usual ones.
fn squares(config: &DetectorConfig, side: usize) -> String {
    let usual = DetectorConfig::for_backbone(config.model.features.backbone);
    let (tile, usual_tile) = (config.model.preprocess.crop, usual.model.preprocess.crop);
    let usual_overlap = usual.overlap.map(|overlap| overlap.min(tile / 4));
    match config.overlap {
        Some(overlap) if tile != usual_tile.min(side) || config.overlap != usual_overlap => {
            format!(" in squares of {tile} that share {overlap} (--tile, --overlap)")
        }
        _ => String::new(),
    }
}

/// The layers whose features are joined, where they are not the usual ones.
fn layers(config: &DetectorConfig) -> String {
    let features = &config.model.features;
    if features.stages == DetectorConfig::for_backbone(features.backbone).model.features.stages {
        return String::new();
    }
    let numbers = features.stages.iter().filter_map(|stage| {
        let index = Stage::ALL.iter().position(|known| known == stage)?;
        Some((index + 1).to_string())
    });
    format!("layers {} (--layers), ", numbers.collect::<Vec<_>>().join(","))
}

/// What good parts lack of one another, and how much is too much.
fn absence_text(calibration: &Calibration) -> String {
    match calibration.absence {
        Some(AbsenceCard {
            highest,
            limit: Some(limit),
            ..
        }) => format!("{highest:.2} at most in held-out pictures; a defect from {limit} on (--max-absence)"),
        Some(AbsenceCard { highest, .. }) => {
            format!("{highest:.2} at most in held-out pictures; never a defect (--max-absence)")
        }
        None => "not measured".into(),
    }
}

/// The threshold, and what else decides.
pub(crate) fn threshold_text(calibration: &Calibration) -> String {
    let mut threshold = source_text(&calibration.threshold);
    match calibration.absence.map(|card| card.limit) {
        None | Some(Some(1.0)) => {}
        Some(Some(limit)) => {
            threshold += &format!("; from an absence of {limit} on a picture is a defect too (--max-absence)")
        }
        Some(None) => threshold += "; what is absent is no defect (--max-absence)",
    }
    match calibration.min_defect_area {
        0 => threshold,
        pixels => format!(
            "{threshold}; a picture above it is good if it has no region of at least {pixels} pixels (--min-defect-area)"
        ),
    }
}

/// Where a threshold comes from.
fn source_text(threshold: &ThresholdCard) -> String {
    match threshold {
        ThresholdCard::Contract(contract) => format!(
            "{:.4} for {:.2} % false rejects{}; at most {:.2} % with 95 % confidence{}",
            contract.threshold,
            contract.max_false_reject * 100.0,
            match contract.method {
                Method::OrderStatistic => "",
                Method::TailExtrapolation => ", extrapolated",
            },
            contract.bound * 100.0,
            match contract.more_images_needed() {
                0 => String::new(),
                more => format!(" ({more} more images are needed to promise the target)"),
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

/// Enough of a hash to tell two apart.
fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}
