//! `simplenet threshold`

use anyhow::{Result, bail};
use simplenet::detector::card::ThresholdCard;
use simplenet::{Detector, Verdict};
use simplenet_data::{Sample, folder};
use simplenet_metrics::Confusion;

use crate::Outcome;
use crate::arguments::Threshold;
use crate::output::Output;
use crate::predict::{BATCH, judge};
use crate::{inspect, outputs};

pub(crate) fn run(arguments: &Threshold, output: &Output) -> Result<Outcome> {
    let mut detector = arguments.model.load()?;
    if let Some(out) = &arguments.out {
        outputs::writable("--out", out)?;
    }
    let mut changed = true;
    // First, because it has a part in what a threshold finds.
    if let Some(pixels) = arguments.min_defect_area {
        detector.set_min_defect_area(pixels);
    }
    if let Some(rate) = arguments.max_false_reject {
        detector.set_max_false_reject(rate, arguments.confident)?;
    } else if let Some(threshold) = arguments.value {
        detector.set_threshold(ThresholdCard::Fixed { threshold })?;
    } else if let Some(labelled) = &arguments.from_test {
        let test = folder::labelled(labelled)?;
        let best = best(&mut detector, &test)?;
        detector.set_threshold(best)?;
    } else {
        changed = arguments.min_defect_area.is_some();
    }
    if changed {
        detector.save(arguments.out.as_ref().unwrap_or(&arguments.model.path))?;
    }
    let calibration = &detector.card().calibration;
    output.either(&calibration.threshold, || inspect::threshold_text(calibration))?;
    Ok(Outcome::default())
}

/// The threshold with the best F1 on labelled images. Those without a region as large as a defect must be are good at any
/// threshold.
fn best(detector: &mut Detector, test: &[Sample]) -> Result<ThresholdCard> {
    // Below every score, so that the regions of all are known.
    detector.set_threshold(ThresholdCard::Fixed { threshold: f32::MIN })?;
    let (mut scores, mut anomalous) = (Vec::new(), Vec::new());
    for samples in test.chunks(BATCH) {
        let paths: Vec<_> = samples.iter().map(|sample| sample.source.path()).collect();
        for (sample, judged) in samples.iter().zip(judge(detector, &paths)) {
            let prediction = judged.prediction?;
            scores.push(match prediction.verdict {
                Verdict::Defect => prediction.score,
                Verdict::Good => f32::NEG_INFINITY,
            });
            anomalous.push(sample.anomalous);
        }
    }
    // F1 is highest where a threshold just finds a defect.
    let labelled = scores.iter().zip(&anomalous);
    let findable = labelled.filter(|(score, anomalous)| **anomalous && score.is_finite());
    let mut best: Option<(f64, f32)> = None;
    for (&threshold, _) in findable {
        let f1 = Confusion::at(&scores, &anomalous, threshold)?.f1().unwrap_or(0.0);
        // Of equal ones the highest, which rejects the fewest.
        if best.is_none_or(|best| (f1, threshold) > best) {
            best = Some((f1, threshold));
        }
    }
    let Some((f1, threshold)) = best else {
        bail!(
            "no defective image has a region of at least {} pixels, so none is found at any threshold\n\nhint: choose a smaller --min-defect-area",
            detector.card().calibration.min_defect_area
        );
    };
    let defective = anomalous.iter().filter(|&&anomalous| anomalous).count();
    Ok(ThresholdCard::FromTest {
        threshold,
        f1,
        good: anomalous.len() - defective,
        defective,
    })
}
