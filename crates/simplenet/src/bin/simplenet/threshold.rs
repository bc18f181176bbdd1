//! `simplenet threshold`

use std::path::Path;

use anyhow::{Result, bail};
use simplenet::detector::card::ThresholdCard;
use simplenet::{Detector, Photo, Verdict};
use simplenet_data::{Sample, folder};
use simplenet_metrics::Confusion;

use crate::Outcome;
use crate::arguments::{MaxAbsence, Threshold};
use crate::output::Output;
use crate::outputs::Outputs;
use crate::predict::{BATCH, judge};
use crate::{inspect, remark};

pub(crate) fn run(arguments: &Threshold, output: &Output) -> Result<Outcome> {
    let mut detector = arguments.model.load()?;
    let test = arguments.from_test.as_ref().map(folder::labelled).transpose()?;
    let rate = match (arguments.max_false_reject, arguments.confident) {
        (None, true) => Some(match &detector.card().calibration.threshold {
            ThresholdCard::Contract(contract) => contract.max_false_reject,
            ThresholdCard::Fixed { .. } | ThresholdCard::FromTest { .. } => detector.config().max_false_reject,
        }),
        (rate, _) => rate,
    };
    let values = [arguments.value, arguments.pixel_value];
    let rate_or_value = rate.is_some() || values.iter().any(Option::is_some);
    let limits = arguments.min_defect_area.is_some() || arguments.max_absence.is_some();
    let changes = rate_or_value || test.is_some() || limits;
    let target = arguments.out.as_ref().unwrap_or(&arguments.model.path);
    if changes {
        check_target(arguments, &detector, target, test.as_deref().unwrap_or_default())?;
    }
    // A rate sets the threshold of pixels too, and that and the area have a part in what the best threshold finds.
    if let Some(rate) = rate {
        detector.set_max_false_reject(rate, arguments.confident)?;
    }
    if let Some(pixels) = arguments.min_defect_area {
        detector.set_min_defect_area(pixels);
    }
    if let Some(MaxAbsence(limit)) = arguments.max_absence {
        detector.set_max_absence(limit)?;
    }
    if let Some(threshold) = arguments.pixel_value {
        detector.set_pixel_threshold(threshold)?;
    }
    let mut outcome = Outcome::default();
    if let Some(threshold) = arguments.value {
        detector.set_threshold(ThresholdCard::Fixed { threshold })?;
    } else if let Some(test) = &test {
        let best = best(&mut detector, test, output, &mut outcome)?;
        detector.set_threshold(best)?;
    }
    let of_pixels = arguments.pixel_value.and_then(|_| remark::pixels(&detector));
    let of_absence = arguments.max_absence.and_then(|_| remark::little_absent(&detector));
    let remarks = [
        remark::rejected(&detector),
        remark::far_above(&detector),
        of_pixels,
        of_absence,
    ];
    for text in remarks.into_iter().flatten() {
        output.say(&text);
    }
    if changes {
        detector.save(target)?;
    }
    let calibration = &detector.card().calibration;
    output.either(&calibration.threshold, || inspect::threshold_text(calibration))?;
    Ok(outcome)
}

/// Refuses a file that cannot be written, or would replace what the threshold is chosen on.
fn check_target(arguments: &Threshold, detector: &Detector, target: &Path, test: &[Sample]) -> Result<()> {
    let mut outputs = Outputs::default();
    for weights in [&arguments.model.weights, &detector.config().weights]
        .into_iter()
        .flatten()
    {
        outputs.keep(weights, "the checkpoint");
    }
    for sample in test {
        outputs.keep(sample.source.path(), "the image");
        if let Some(mask) = &sample.mask {
            outputs.keep(mask, "the mask");
        }
    }
    let option = if arguments.out.is_some() { "--out" } else { "DETECTOR" };
    outputs.file(option, target)
}

/// The threshold with the best F1 on labelled images. Those without a region as large as a defect must be are good at any
/// threshold; those that cannot be judged are named and left out.
fn best(detector: &mut Detector, test: &[Sample], output: &Output, outcome: &mut Outcome) -> Result<ThresholdCard> {
    let present = detector.threshold();
    // Below every score, so that the regions of all are known.
    detector.set_threshold(ThresholdCard::Fixed { threshold: f32::MIN })?;
    let (mut scores, mut anomalous, mut learnt_from) = (Vec::new(), Vec::new(), Vec::new());
    for samples in test.chunks(BATCH) {
        let paths: Vec<_> = samples.iter().map(|sample| sample.source.path()).collect();
        for (sample, judged) in samples.iter().zip(judge(detector, &paths)) {
            let prediction = match judged.prediction {
                Ok(prediction) => prediction,
                Err(error) => {
                    output.say(&remark::left_out(&sample.source.to_string(), &error.to_string()));
                    outcome.errors = true;
                    continue;
                }
            };
            let has_learnt = |photo: &Photo| detector.card().data.has_learnt(&photo.sha256) == Some(true);
            if judged.photo.as_ref().is_some_and(has_learnt) {
                learnt_from.push(sample.source.to_string());
            }
            scores.push(match prediction.verdict {
                Verdict::Defect => score_or_absent(prediction.score, prediction.is_absent),
                Verdict::Good => f32::NEG_INFINITY,
            });
            anomalous.push(sample.anomalous);
        }
    }
    let learnt_from: Vec<&str> = learnt_from.iter().map(String::as_str).collect();
    if let Some(text) = remark::learnt_from(&learnt_from, anomalous.len()) {
        output.say(&format!("warning: {text}"));
    }
    if !anomalous.contains(&true) || !anomalous.contains(&false) {
        bail!(
            "of {} labelled images {} could be judged, and not both good and defective ones\n\nhint: a threshold lies between the two",
            test.len(),
            anomalous.len()
        );
    }
    let mut best = best_f1(&scores, &anomalous, |_| true)?;
    let now = Confusion::at(&scores, &anomalous, present)?;
    if let Some(f1) = now.f1().filter(|_| now.true_positives > 0)
        && best.is_none_or(|(best, _)| best <= f1)
    {
        output.say("no other threshold has a higher F1 on these images");
        best = Some((f1, present));
    }
    let Some((f1, threshold)) = best else {
        bail!(
            "no defective image has a region of at least {} pixels, so none is found at any threshold\n\nhint: choose a smaller --min-defect-area",
            detector.card().calibration.min_defect_area
        );
    };
    let defective = anomalous.iter().filter(|&&anomalous| anomalous).count();
    let at = Confusion::at(&scores, &anomalous, threshold)?;
    output.say(&format!(
        "of these it finds {} of {defective} defective images and rejects {} of {} good ones",
        at.true_positives,
        at.false_positives,
        anomalous.len() - defective
    ));
    Ok(ThresholdCard::FromTest {
        threshold,
        f1,
        good: anomalous.len() - defective,
        defective,
    })
}

/// The score of an image; above every threshold where too much is absent.
pub(crate) fn score_or_absent(score: f32, is_absent: bool) -> f32 {
    if is_absent { f32::INFINITY } else { score }
}

/// The highest F1 among what is allowed and its threshold, of equal ones the highest, which rejects the fewest; `None` where no defective
/// image that may be found has a finite score.
pub(crate) fn best_f1(
    scores: &[f32],
    anomalous: &[bool],
    allowed: impl Fn(&Confusion) -> bool,
) -> Result<Option<(f64, f32)>> {
    // F1 is highest where a threshold just finds a defect.
    let labelled = scores.iter().zip(anomalous);
    let findable = labelled.filter(|(score, anomalous)| **anomalous && score.is_finite());
    let mut best: Option<(f64, f32)> = None;
    for (&threshold, _) in findable {
        let at = Confusion::at(scores, anomalous, threshold)?;
        let f1 = at.f1().unwrap_or(0.0);
        if allowed(&at) && best.is_none_or(|best| (f1, threshold) > best) {
            best = Some((f1, threshold));
        }
    }
    Ok(best)
}
