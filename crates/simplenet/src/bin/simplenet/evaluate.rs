//! `simplenet evaluate`

use std::path::Path;

use anyhow::{Result, bail};
use serde::Serialize;
use simplenet::{Detector, Verdict, is_upright};
use simplenet_data::{GOOD, Sample, folder, load_masks};
use simplenet_metrics::{MapShape, image_metrics, pixel_metrics};

use crate::Outcome;
use crate::arguments::Evaluate;
use crate::output::Output;
use crate::predict::{BATCH, judge};
use crate::progress::Progress;

/// How good a detector is on labelled images.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    threshold: f32,
    good: Counted,
    defects: Counted,
    #[serde(flatten)]
    metrics: Metrics,
    kinds: Vec<Kind>,
    unreadable: Vec<Unreadable>,
}

/// Verdicts at the detector's threshold.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Counted {
    images: usize,
    /// Called defective.
    rejected: usize,
}

/// What needs no threshold, as fractions of 1.
#[derive(Debug, Clone, Copy, Serialize)]
struct Metrics {
    image_auroc: f64,
    image_average_precision: f64,
    image_f1_max: f64,
    #[serde(flatten)]
    pixel: Option<Pixel>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Pixel {
    pixel_auroc: f64,
    pixel_average_precision: f64,
    pixel_f1_max: f64,
    aupro: f64,
}

/// One kind of defect, against the good images.
#[derive(Debug, Serialize)]
struct Kind {
    defect: String,
    #[serde(flatten)]
    counted: Counted,
    #[serde(flatten)]
    metrics: Metrics,
}

#[derive(Debug, Serialize)]
struct Unreadable {
    file: String,
    error: String,
}

pub(crate) fn run(arguments: &Evaluate, output: &Output) -> Result<Outcome> {
    let detector = arguments.model.load()?;
    let report = measure(&detector, &labelled(&arguments.dataset)?, output)?;
    output.either(&report, || report.to_text())?;
    Ok(Outcome {
        errors: !report.unreadable.is_empty(),
        ..Outcome::default()
    })
}

/// The test images of a folder in MVTec AD's layout.
pub(crate) fn labelled(dataset: &Path) -> Result<Vec<Sample>> {
    let test = folder::load(dataset)?.test;
    if test.is_empty() {
        bail!(
            "{} has no test images\n\nhint: labelled images lie in test/good and test/DEFECT",
            dataset.display()
        );
    }
    Ok(test)
}

/// What was seen of the images that could be read.
struct Seen<'a> {
    samples: Vec<&'a Sample>,
    scores: Vec<f32>,
    rejected: Vec<bool>,
    maps: Vec<Vec<f32>>,
    /// `None` where a defective image has no mask: pixel metrics over the others would be those of another set.
    masks: Option<Vec<Vec<bool>>>,
    side: usize,
}

/// Judges labelled images and compares.
pub(crate) fn measure(detector: &Detector, test: &[Sample], output: &Output) -> Result<Report> {
    let side = detector.pipeline().preprocess().crop();
    let mut unreadable = Vec::new();
    let mut seen = Seen {
        samples: Vec::new(),
        scores: Vec::new(),
        rejected: Vec::new(),
        maps: Vec::new(),
        masks: Some(Vec::new()),
        side,
    };
    let with_masks = test.iter().any(|sample| sample.mask.is_some());
    let complete = with_masks && test.iter().all(|sample| sample.mask.is_some() || !sample.anomalous);
    if !complete {
        seen.masks = None;
    }
    let mut progress = Progress::new(output);
    for (batch, samples) in test.chunks(BATCH).enumerate() {
        let paths: Vec<&Path> = samples.iter().map(|sample| sample.source.path()).collect();
        for (sample, judged) in samples.iter().zip(judge(detector, &paths)) {
            let outcome = judged.prediction.map_err(anyhow::Error::from).and_then(|prediction| {
                let mask = match &seen.masks {
                    Some(_) => Some(mask(sample, detector)?),
                    None => None,
                };
                Ok((prediction, mask))
            });
            match outcome {
                Ok((prediction, mask)) => {
                    seen.samples.push(sample);
                    seen.scores.push(prediction.score);
                    seen.rejected.push(prediction.verdict == Verdict::Defect);
                    seen.maps.push(prediction.map.values);
                    if let (Some(masks), Some(mask)) = (&mut seen.masks, mask) {
                        masks.push(mask);
                    }
                }
                Err(error) => unreadable.push(Unreadable {
                    file: sample.source.to_string(),
                    error: format!("{error:#}"),
                }),
            }
        }
        progress.at("test images", batch * BATCH + samples.len(), test.len());
    }
    progress.end();
    for file in &unreadable {
        let reason = file.error.lines().next().unwrap_or_default();
        output.say(&format!("warning: left out {}: {reason}", file.file));
    }
    let all = |_: &Sample| true;
    let is_good = |sample: &Sample| !sample.anomalous;
    let is_defect = |sample: &Sample| sample.anomalous;
    let mut names: Vec<&str> = seen.samples.iter().map(|sample| sample.defect.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let kinds = names
        .into_iter()
        .filter(|name| *name != GOOD)
        .map(|name| {
            let this = |sample: &Sample| sample.defect == name;
            Ok(Kind {
                defect: name.to_string(),
                counted: seen.count(this),
                metrics: seen.metrics(detector, |sample| this(sample) || is_good(sample))?,
            })
        })
        .collect::<Result<_>>()?;
    Ok(Report {
        threshold: detector.threshold(),
        good: seen.count(is_good),
        defects: seen.count(is_defect),
        metrics: seen.metrics(detector, all)?,
        kinds,
        unreadable,
    })
}

/// The defective pixels of the crop.
fn mask(sample: &Sample, detector: &Detector) -> Result<Vec<bool>> {
    if sample.mask.is_some() && !is_upright(sample.source.path())? {
        bail!(
            "{} is turned by EXIF and has a mask\n\nhint: masks lie on the pixels as stored; turn image and mask before measuring",
            sample.source
        );
    }
    let rule = detector.config().model.evaluate.mask;
    let preprocess = detector.pipeline().preprocess();
    Ok(load_masks(std::slice::from_ref(sample), preprocess, rule)?)
}

impl Seen<'_> {
    fn count(&self, wanted: impl Fn(&Sample) -> bool) -> Counted {
        let mut counted = Counted::default();
        for (sample, rejected) in self.samples.iter().zip(&self.rejected) {
            if wanted(sample) {
                counted.images += 1;
                counted.rejected += usize::from(*rejected);
            }
        }
        counted
    }

    fn metrics(&self, detector: &Detector, wanted: impl Fn(&Sample) -> bool) -> Result<Metrics> {
        let chosen: Vec<usize> = (0..self.samples.len())
            .filter(|&index| wanted(self.samples[index]))
            .collect();
        let scores: Vec<f32> = chosen.iter().map(|&index| self.scores[index]).collect();
        let anomalous: Vec<bool> = chosen.iter().map(|&index| self.samples[index].anomalous).collect();
        let image = image_metrics(&scores, &anomalous)?;
        let pixel = match &self.masks {
            None => None,
            Some(masks) => {
                let maps = chosen.iter().flat_map(|&index| &self.maps[index]).copied();
                let masks = chosen.iter().flat_map(|&index| &masks[index]).copied();
                let shape = MapShape {
                    images: chosen.len(),
                    height: self.side,
                    width: self.side,
                };
                let limit = detector.config().model.evaluate.aupro_limit;
                let metrics = pixel_metrics(&maps.collect::<Vec<f32>>(), &masks.collect::<Vec<bool>>(), shape, limit)?;
                Some(Pixel {
                    pixel_auroc: metrics.auroc,
                    pixel_average_precision: metrics.average_precision,
                    pixel_f1_max: metrics.f1_max,
                    aupro: metrics.aupro,
                })
            }
        };
        Ok(Metrics {
            image_auroc: image.auroc,
            image_average_precision: image.average_precision,
            image_f1_max: image.f1_max,
            pixel,
        })
    }
}

impl Report {
    /// A table: one line per kind of defect, in percent.
    pub(crate) fn to_text(&self) -> String {
        let width = self
            .kinds
            .iter()
            .map(|kind| kind.defect.len())
            .max()
            .unwrap_or(0)
            .max(7);
        let mut lines = vec![format!(
            "{:<width$}  {:>9}  {:>7}  {:>7}  {:>5}",
            "defect", "found", "I-AUROC", "P-AUROC", "AUPRO"
        )];
        let mut line = |name: &str, counted: &Counted, metrics: &Metrics| {
            let found = format!("{}/{}", counted.rejected, counted.images);
            let pixel = |value: fn(&Pixel) -> f64| {
                metrics
                    .pixel
                    .as_ref()
                    .map_or("–".to_string(), |pixel| format!("{:.1}", value(pixel) * 100.0))
            };
            lines.push(format!(
                "{name:<width$}  {found:>9}  {:>7.1}  {:>7}  {:>5}",
                metrics.image_auroc * 100.0,
                pixel(|pixel| pixel.pixel_auroc),
                pixel(|pixel| pixel.aupro)
            ));
        };
        for kind in &self.kinds {
            line(&kind.defect, &kind.counted, &kind.metrics);
        }
        line("all", &self.defects, &self.metrics);
        lines.push(format!(
            "good parts rejected: {}/{} at threshold {:.4}",
            self.good.rejected, self.good.images, self.threshold
        ));
        lines.join("\n")
    }
}
