//! `simplenet threshold`

use anyhow::Result;
use simplenet::detector::card::ThresholdCard;
use simplenet_data::folder;
use simplenet_metrics::f1_max;

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
    if let Some(rate) = arguments.max_false_reject {
        detector.set_max_false_reject(rate, arguments.confident)?;
    } else if let Some(threshold) = arguments.value {
        detector.set_threshold(ThresholdCard::Fixed { threshold })?;
    } else if let Some(labelled) = &arguments.from_test {
        let test = folder::labelled(labelled)?;
        let (mut scores, mut anomalous) = (Vec::new(), Vec::new());
        for samples in test.chunks(BATCH) {
            let paths: Vec<_> = samples.iter().map(|sample| sample.source.path()).collect();
            for (sample, judged) in samples.iter().zip(judge(&detector, &paths)) {
                scores.push(judged.prediction?.score);
                anomalous.push(sample.anomalous);
            }
        }
        let best = f1_max(&scores, &anomalous)?;
        let defective = anomalous.iter().filter(|&&anomalous| anomalous).count();
        detector.set_threshold(ThresholdCard::FromTest {
            threshold: best.threshold,
            f1: best.f1,
            good: anomalous.len() - defective,
            defective,
        })?;
    } else {
        changed = arguments.min_defect_area.is_some();
    }
    if let Some(pixels) = arguments.min_defect_area {
        detector.set_min_defect_area(pixels);
    }
    if changed {
        detector.save(arguments.out.as_ref().unwrap_or(&arguments.model.path))?;
    }
    let calibration = &detector.card().calibration;
    output.either(&calibration.threshold, || inspect::threshold_text(calibration))?;
    Ok(Outcome::default())
}
