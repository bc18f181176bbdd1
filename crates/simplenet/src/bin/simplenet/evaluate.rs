//! `simplenet evaluate`

use std::path::Path;

use anyhow::Result;
use simplenet::detector::evaluation::{AbsentAlone, Curves, TestMetrics, TestReport};
use simplenet::{Detector, write_atomic};
use simplenet_data::{Sample, folder};
use simplenet_metrics::Confusion;

use crate::arguments::Evaluate;
use crate::output::Output;
use crate::outputs::Outputs;
use crate::progress::Progress;
use crate::sizes::OtherSizes;
use crate::threshold::{best_f1, score_or_absent};
use crate::{Outcome, page, remark};

/// Where the best F1 is higher by so much than that at the threshold, a person should know.
const MUCH_BETTER: f64 = 0.05;
/// A threshold that rejects more than one good part in so many is none to propose.
const MOST_REJECTED: usize = 10;
/// Of fewer good parts hardly anything follows for others.
const FEW_GOOD: usize = 30;
/// An AUROC that does not come about by chance where both kinds have so many pictures.
const REVERSED: f64 = 0.2;
const ENOUGH: usize = 10;

pub(crate) fn run(arguments: &Evaluate, output: &Output) -> Result<Outcome> {
    let detector = arguments.model.load()?;
    let test = folder::labelled(&arguments.dataset)?;
    check_outputs(arguments, &test)?;
    let report = measure(&detector, &test, output)?;
    if let Some(path) = &arguments.page {
        let title = format!("{} on {}", arguments.model.path.display(), arguments.dataset.display());
        write_atomic(path, page::html(&title, &report, &detector, &test).as_bytes())?;
    }
    if let Some(path) = &arguments.curves {
        write_atomic(path, curves_csv(&report.curves).as_bytes())?;
    }
    output.either(&report, || text(&report))?;
    Ok(Outcome {
        errors: !report.unreadable.is_empty(),
        ..Outcome::default()
    })
}

/// Refuses files that cannot be written, or would replace what they tell of.
fn check_outputs(arguments: &Evaluate, test: &[Sample]) -> Result<()> {
    let mut outputs = Outputs::default();
    outputs.keep(&arguments.model.path, "the detector");
    for sample in test {
        outputs.keep(sample.source.path(), "the image");
        if let Some(mask) = &sample.mask {
            outputs.keep(mask, "the mask");
        }
    }
    for (option, path) in [("--page", &arguments.page), ("--curves", &arguments.curves)] {
        if let Some(path) = path {
            outputs.file(option, path)?;
        }
    }
    Ok(())
}

/// Judges labelled images, and says what is missing from the numbers.
pub(crate) fn measure(detector: &Detector, test: &[Sample], output: &Output) -> Result<TestReport> {
    let mut progress = Progress::new(output);
    let report = detector.evaluate(test, |done| progress.at("test images", done, test.len()));
    progress.end();
    let report = report?;
    for file in &report.unreadable {
        output.say(&remark::left_out(&file.file, &file.error));
    }
    if let Some(reason) = &report.without_pixels {
        output.say(&format!("warning: no pixel metrics: {reason}"));
    }
    for name in &report.unmarked {
        output.say(&format!(
            "warning: no mask of `{name}` has a white pixel in the part of its picture that is judged, so it has no pixel metrics"
        ));
    }
    if let Some(text) = learnt_from(&report) {
        output.say(&format!("warning: {text}"));
    }
    let mut sizes = OtherSizes::new(detector);
    for image in &report.images {
        sizes.add(Path::new(&image.file), image.size);
    }
    if let Some(text) = sizes.text() {
        output.say(&text);
    }
    let better = better(&report).map(|text| format!("note: {text}"));
    let swapped = swapped(&report).map(|text| format!("warning: {text}"));
    for advice in better.into_iter().chain(swapped) {
        output.say(&advice);
    }
    Ok(report)
}

/// What to say of images that were learnt from.
pub(crate) fn learnt_from(report: &TestReport) -> Option<String> {
    let files = report.images.iter().filter(|image| image.learnt_from);
    let files: Vec<&str> = files.map(|image| image.file.as_str()).collect();
    remark::learnt_from(&files, report.images.len())
}

/// A line of the table, as fractions of 1.
pub(crate) struct TableLine<'a> {
    pub(crate) name: &'a str,
    pub(crate) found: usize,
    pub(crate) images: usize,
    pub(crate) image_auroc: f64,
    pub(crate) pixel_auroc: Option<f64>,
    pub(crate) aupro: Option<f64>,
}

/// One line per kind of defect, then one for all.
pub(crate) fn lines(report: &TestReport) -> Vec<TableLine<'_>> {
    let kinds = report
        .kinds
        .iter()
        .map(|kind| (kind.defect.as_str(), &kind.counted, &kind.metrics));
    let all = kinds.chain([("all", &report.defects, &report.metrics)]);
    all.map(|(name, counted, metrics): (_, _, &TestMetrics)| TableLine {
        name,
        found: counted.rejected,
        images: counted.images,
        image_auroc: metrics.image_auroc,
        pixel_auroc: metrics.pixel.map(|pixel| pixel.pixel_auroc),
        aupro: metrics.pixel.map(|pixel| pixel.aupro),
    })
    .collect()
}

/// A table in percent, then what holds at the threshold.
pub(crate) fn text(report: &TestReport) -> String {
    let table = lines(report);
    let width = table.iter().map(|line| line.name.len()).max().unwrap_or(0).max(7);
    let mut lines = vec![format!(
        "{:<width$}  {:>9}  {:>7}  {:>7}  {:>5}",
        "defect", "found", "I-AUROC", "P-AUROC", "AUPRO"
    )];
    for line in table {
        lines.push(format!(
            "{:<width$}  {:>9}  {:>7}  {:>7}  {:>5}",
            line.name,
            format!("{}/{}", line.found, line.images),
            percent(Some(line.image_auroc)),
            percent(line.pixel_auroc),
            percent(line.aupro)
        ));
    }
    lines.push(at_threshold(report));
    lines.extend(smallest(report));
    lines.extend(absent(report));
    lines.join("\n")
}

/// Good parts that were rejected, and what holds at the threshold.
pub(crate) fn at_threshold(report: &TestReport) -> String {
    format!(
        "good parts rejected: {}/{} at threshold {:.4}; precision {}, recall {}, F1 {}",
        report.good.rejected,
        report.good.images,
        report.threshold,
        percent(report.precision),
        percent(report.recall),
        percent(report.f1)
    )
}

/// What the smallest defect has changed, where there is one.
pub(crate) fn smallest(report: &TestReport) -> Option<String> {
    (report.min_defect_area > 0).then(|| {
        format!(
            "above the threshold and yet good, without a region of at least {} pixels (--min-defect-area): {}",
            report.min_defect_area, report.too_small
        )
    })
}

/// Images that no score would have rejected.
pub(crate) fn absent(report: &TestReport) -> Option<String> {
    let AbsentAlone { good, defects } = report.absent;
    (good + defects > 0).then(|| {
        format!(
            "below the threshold and rejected for what is absent (--max-absence): {defects} defects, {good} good parts"
        )
    })
}

/// What another threshold would do, where this one misses defects that score higher than good parts.
pub(crate) fn better(report: &TestReport) -> Option<String> {
    let missed = report.defects.images - report.defects.rejected;
    // Where regions are too small another threshold may change nothing.
    if missed == 0 || report.too_small > 0 {
        return None;
    }
    let (scores, anomalous): (Vec<f32>, Vec<bool>) = (report.images.iter())
        .map(|image| (score_or_absent(image.score, image.is_absent), image.anomalous))
        .unzip();
    // Among many defects even rejecting most good parts has a high F1, and no line runs so.
    let runs = |at: &Confusion| MOST_REJECTED * at.false_positives as usize <= report.good.images;
    let (f1, threshold) = best_f1(&scores, &anomalous, runs).ok()??;
    if f1 - report.f1.unwrap_or(0.0) < MUCH_BETTER {
        return None;
    }
    let threshold = rounded_down(threshold);
    let at = Confusion::at(&scores, &anomalous, threshold as f32).ok()?;
    let or_less = if report.min_defect_area > 0 { "at most " } else { "" };
    let few = match report.good.images {
        images if images < FEW_GOOD => format!("; {images} good parts say little about others"),
        _ => String::new(),
    };
    Some(format!(
        "a threshold of {threshold:.4} would find {or_less}{} of {} defects and reject {} of {} of these good parts{few}; \
         `threshold --value` sets one, `--from-test` the one with the best F1, however many it rejects",
        at.true_positives, report.defects.images, at.false_positives, report.good.images
    ))
}

/// So that who types it finds what has just this score.
fn rounded_down(threshold: f32) -> f64 {
    (f64::from(threshold) * 1e4).floor() / 1e4
}

/// What to say where the scores are the wrong way round.
pub(crate) fn swapped(report: &TestReport) -> Option<String> {
    let enough = report.good.images.min(report.defects.images) >= ENOUGH;
    (enough && report.metrics.image_auroc < REVERSED).then(|| {
        format!(
            "good parts score higher than defects (I-AUROC {}); are the folders swapped?",
            percent(Some(report.metrics.image_auroc))
        )
    })
}

/// In percent; a dash where there is no number.
pub(crate) fn percent(value: Option<f64>) -> String {
    value.map_or("–".to_string(), |value| format!("{:.1}", value * 100.0))
}

/// All points: `curve,x,y`.
fn curves_csv(curves: &Curves) -> String {
    let curves = [
        ("roc", Some(&curves.roc)),
        ("precision_recall", Some(&curves.precision_recall)),
        ("pro", curves.pro.as_ref()),
    ];
    let named = curves.into_iter().filter_map(|(name, points)| Some((name, points?)));
    let lines = named.flat_map(|(name, points)| {
        points
            .iter()
            .map(move |point| format!("{name},{},{}\n", point.x, point.y))
    });
    format!("curve,x,y\n{}", lines.collect::<String>())
}
