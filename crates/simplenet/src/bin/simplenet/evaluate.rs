//! `simplenet evaluate`

use std::path::Path;

use anyhow::{Result, bail};
use serde::Serialize;
use simplenet::detector::Geometry;
use simplenet::{Detector, Verdict, is_upright, write_atomic};
use simplenet_data::{GOOD, Sample, folder, open_mask};
use simplenet_metrics::{
    CurvePoint, MapShape, image_metrics, pixel_metrics, precision_recall_curve, pro_curve, roc_curve,
};

use crate::arguments::Evaluate;
use crate::output::Output;
use crate::outputs::Outputs;
use crate::predict::{BATCH, judge};
use crate::progress::Progress;
use crate::{Outcome, page, remark};

/// Points of a curve.
const POINTS: usize = 500;

/// How good a detector is on labelled images.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    threshold: f32,
    /// A region with fewer pixels is no defect.
    min_defect_area: u64,
    /// Images that are good only because of that: their scores are at or above the threshold.
    too_small: usize,
    good: Counted,
    defects: Counted,
    #[serde(flatten)]
    metrics: Metrics,
    kinds: Vec<Kind>,
    unreadable: Vec<Unreadable>,
    #[serde(skip)]
    curves: Curves,
}

/// What is drawn.
#[derive(Debug)]
pub(crate) struct Curves {
    /// Points `[across, up]`.
    pub(crate) roc: Vec<[f64; 2]>,
    pub(crate) precision_recall: Vec<[f64; 2]>,
    pub(crate) pro: Option<Vec<[f64; 2]>>,
    pub(crate) images: Vec<Image>,
}

/// An image and what was said of it.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) file: String,
    pub(crate) defect: String,
    pub(crate) anomalous: bool,
    pub(crate) score: f32,
    pub(crate) rejected: bool,
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
    let test = folder::labelled(&arguments.dataset)?;
    check_outputs(arguments, &test)?;
    let report = measure(&detector, &test, output)?;
    if let Some(path) = &arguments.page {
        let title = format!("{} on {}", arguments.model.path.display(), arguments.dataset.display());
        write_atomic(path, page::html(&title, &report, &report.curves).as_bytes())?;
    }
    if let Some(path) = &arguments.curves {
        write_atomic(path, report.curves.to_csv().as_bytes())?;
    }
    output.either(&report, || report.to_text())?;
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

/// What was seen of the images that could be read.
struct Seen<'a> {
    samples: Vec<&'a Sample>,
    scores: Vec<f32>,
    rejected: Vec<bool>,
    /// Images whose regions are all too small to be a defect.
    too_small: usize,
    maps: Vec<Vec<f32>>,
    /// `None` where a defective image has no mask: pixel metrics over the others would be those of another set. Also where
    /// maps differ in size.
    masks: Option<Vec<Vec<bool>>>,
    /// Rows and columns of all maps.
    size: Option<[usize; 2]>,
}

/// Judges labelled images and compares.
pub(crate) fn measure(detector: &Detector, test: &[Sample], output: &Output) -> Result<Report> {
    let mut unreadable = Vec::new();
    let mut seen = Seen {
        samples: Vec::new(),
        scores: Vec::new(),
        rejected: Vec::new(),
        too_small: 0,
        maps: Vec::new(),
        masks: Some(Vec::new()),
        size: None,
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
                    Some(_) => Some(mask(sample, detector, &prediction.map.geometry)?),
                    None => None,
                };
                Ok((prediction, mask))
            });
            match outcome {
                Ok((prediction, mask)) => {
                    seen.samples.push(sample);
                    seen.scores.push(prediction.score);
                    seen.rejected.push(prediction.verdict == Verdict::Defect);
                    seen.too_small += usize::from(prediction.verdict == Verdict::Good && prediction.too_small > 0);
                    let geometry = &prediction.map.geometry;
                    let size = [geometry.rows, geometry.columns];
                    if *seen.size.get_or_insert(size) != size {
                        seen.masks = None;
                    }
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
        output.say(&remark::left_out(&file.file, &file.error));
    }
    let all = |_: &Sample| true;
    let is_good = |sample: &Sample| !sample.anomalous;
    let is_defect = |sample: &Sample| sample.anomalous;
    let mut names: Vec<&str> = seen.samples.iter().map(|sample| sample.defect.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| *name != GOOD);
    for name in &names {
        if seen.lacks_pixels(name) {
            output.say(&format!(
                "warning: no mask of `{name}` has a white pixel in the part of its picture that is looked at, so it has no pixel metrics"
            ));
        }
    }
    let kinds = names
        .into_iter()
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
        min_defect_area: detector.card().calibration.min_defect_area,
        too_small: seen.too_small,
        good: seen.count(is_good),
        defects: seen.count(is_defect),
        metrics: seen.metrics(detector, all)?,
        curves: seen.curves()?,
        kinds,
        unreadable,
    })
}

/// The defective pixels of an image, as its map has them.
fn mask(sample: &Sample, detector: &Detector, geometry: &Geometry) -> Result<Vec<bool>> {
    if sample.mask.is_some() && !is_upright(sample.source.path())? {
        bail!(
            "{} is turned by EXIF and has a mask\n\nhint: masks lie on the pixels as stored; turn image and mask before measuring",
            sample.source
        );
    }
    let rule = detector.config().model.evaluate.mask;
    let preprocess = detector.pipeline().preprocess();
    Ok(match open_mask(sample, rule)? {
        Some(mask) => rule.apply(&preprocess.window(&mask, geometry.resized(), geometry.window())?),
        None => vec![false; geometry.rows * geometry.columns],
    })
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

    /// Whether there are masks, and none of this kind of defect marks anything.
    fn lacks_pixels(&self, defect: &str) -> bool {
        let Some(masks) = &self.masks else { return false };
        let mut of_kind = self
            .samples
            .iter()
            .zip(masks)
            .filter(|(sample, _)| sample.defect == defect);
        !of_kind.any(|(_, mask)| mask.contains(&true))
    }

    fn curves(&self) -> Result<Curves> {
        let pairs = |points: Vec<CurvePoint>| points.into_iter().map(|point| [point.x, point.y]).collect();
        let anomalous: Vec<bool> = self.samples.iter().map(|sample| sample.anomalous).collect();
        let pro = match (&self.masks, self.size) {
            (None, _) | (_, None) => None,
            (Some(masks), _) if !masks.iter().any(|mask| mask.contains(&true)) => None,
            (Some(masks), Some([height, width])) => {
                let shape = MapShape {
                    images: masks.len(),
                    height,
                    width,
                };
                let curve = pro_curve(&self.maps.concat(), &masks.concat(), shape, POINTS)?;
                Some(pairs(curve))
            }
        };
        let judged = self.samples.iter().zip(self.scores.iter().zip(&self.rejected));
        let images = judged.map(|(sample, (&score, &rejected))| Image {
            file: sample.source.to_string(),
            defect: sample.defect.clone(),
            anomalous: sample.anomalous,
            score,
            rejected,
        });
        Ok(Curves {
            roc: pairs(roc_curve(&self.scores, &anomalous, POINTS)?),
            precision_recall: pairs(precision_recall_curve(&self.scores, &anomalous, POINTS)?),
            pro,
            images: images.collect(),
        })
    }

    fn metrics(&self, detector: &Detector, wanted: impl Fn(&Sample) -> bool) -> Result<Metrics> {
        let chosen: Vec<usize> = (0..self.samples.len())
            .filter(|&index| wanted(self.samples[index]))
            .collect();
        let scores: Vec<f32> = chosen.iter().map(|&index| self.scores[index]).collect();
        let anomalous: Vec<bool> = chosen.iter().map(|&index| self.samples[index].anomalous).collect();
        let image = image_metrics(&scores, &anomalous)?;
        let pixel = match (&self.masks, self.size) {
            (None, _) | (_, None) => None,
            // No defect of these lies in what is looked at, so there is nothing to be found.
            (Some(masks), _) if !chosen.iter().any(|&index| masks[index].contains(&true)) => None,
            (Some(masks), Some([height, width])) => {
                let maps = chosen.iter().flat_map(|&index| &self.maps[index]).copied();
                let masks = chosen.iter().flat_map(|&index| &masks[index]).copied();
                let shape = MapShape {
                    images: chosen.len(),
                    height,
                    width,
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

impl Curves {
    /// All points: `curve,x,y`.
    fn to_csv(&self) -> String {
        let curves = [
            ("roc", Some(&self.roc)),
            ("precision_recall", Some(&self.precision_recall)),
            ("pro", self.pro.as_ref()),
        ];
        let named = curves.into_iter().filter_map(|(name, points)| Some((name, points?)));
        let lines = named.flat_map(|(name, points)| points.iter().map(move |[x, y]| format!("{name},{x},{y}\n")));
        format!("curve,x,y\n{}", lines.collect::<String>())
    }
}

impl Report {
    pub(crate) fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Good parts that were rejected, of how many.
    pub(crate) fn rejected(&self) -> (usize, usize) {
        (self.good.rejected, self.good.images)
    }

    pub(crate) fn unreadable(&self) -> impl Iterator<Item = (&str, &str)> {
        let files = self.unreadable.iter();
        files.map(|file| (file.file.as_str(), file.error.as_str()))
    }

    /// One line per kind of defect, then one for all.
    pub(crate) fn lines(&self) -> Vec<TableLine<'_>> {
        let kinds = self
            .kinds
            .iter()
            .map(|kind| (kind.defect.as_str(), &kind.counted, &kind.metrics));
        let all = kinds.chain([("all", &self.defects, &self.metrics)]);
        all.map(|(name, counted, metrics)| TableLine {
            name,
            found: counted.rejected,
            images: counted.images,
            image_auroc: metrics.image_auroc,
            pixel_auroc: metrics.pixel.map(|pixel| pixel.pixel_auroc),
            aupro: metrics.pixel.map(|pixel| pixel.aupro),
        })
        .collect()
    }

    /// A table: one line per kind of defect, in percent.
    pub(crate) fn to_text(&self) -> String {
        let table = self.lines();
        let width = table.iter().map(|line| line.name.len()).max().unwrap_or(0).max(7);
        let mut lines = vec![format!(
            "{:<width$}  {:>9}  {:>7}  {:>7}  {:>5}",
            "defect", "found", "I-AUROC", "P-AUROC", "AUPRO"
        )];
        let percent = |value: Option<f64>| value.map_or("–".to_string(), |value| format!("{:.1}", value * 100.0));
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
        lines.push(format!(
            "good parts rejected: {}/{} at threshold {:.4}",
            self.good.rejected, self.good.images, self.threshold
        ));
        lines.extend(self.smallest());
        lines.join("\n")
    }

    /// What the smallest defect has changed, where there is one.
    pub(crate) fn smallest(&self) -> Option<String> {
        (self.min_defect_area > 0).then(|| {
            format!(
                "above the threshold and yet good, without a region of at least {} pixels (--min-defect-area): {}",
                self.min_defect_area, self.too_small
            )
        })
    }
}
