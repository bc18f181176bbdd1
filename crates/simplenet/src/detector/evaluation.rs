//! How good a detector is on labelled images.

use rayon::prelude::*;
use serde::Serialize;
use simplenet_data::{GOOD, Rgb8, Sample, open_mask};
use simplenet_metrics::{
    Confusion, CurvePoint, MapShape, image_metrics, pixel_metrics, pixel_metrics_within, precision_recall_curve,
    pro_curve, pro_curve_within, roc_curve,
};

use super::card::{Card, Unreadable};
use super::{Detector, Geometry, Prediction, Verdict};
use crate::error::Error;
use crate::photo::{Photo, is_upright};

/// Images that are decoded and judged at once.
const BATCH: usize = 8;
/// How many times as many pixels maps of different shapes may take side by side as they have.
const MOST_PADDING: usize = 4;
/// Points of a curve.
const POINTS: usize = 500;

/// How good a detector is on labelled images. Fractions are of 1.
#[derive(Debug, Clone, Serialize)]
pub struct TestReport {
    /// From here on a score is a defect.
    pub threshold: f32,
    /// A region with fewer source pixels is no defect.
    pub min_defect_area: u64,
    /// Images that are good only because of that: their scores are at or above the threshold.
    pub too_small: usize,
    /// Images that are called defective for what is absent alone: their scores are below the threshold.
    pub absent: AbsentAlone,
    /// Verdicts on good images.
    pub good: Counted,
    /// Verdicts on defective images.
    pub defects: Counted,
    /// Of the images that were called defective, the share that are; `None` where none was.
    pub precision: Option<f64>,
    /// Of the defective images, the share that were called so.
    pub recall: Option<f64>,
    /// The harmonic mean of both: 2 TP / (2 TP + FP + FN).
    pub f1: Option<f64>,
    /// What needs no threshold, over all images.
    #[serde(flatten)]
    pub metrics: TestMetrics,
    /// The same for every kind of defect, against all good images; by name.
    pub kinds: Vec<Kind>,
    /// How many of the images were learnt from; `None` where an older program wrote the detector.
    pub learnt_from: Option<usize>,
    /// Images that could not be judged. They count nowhere else.
    pub unreadable: Vec<Unreadable>,
    /// Why there are masks and yet no pixel metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_pixels: Option<String>,
    /// Kinds of defects whose masks mark no pixel that is judged, so that they have no pixel metrics.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unmarked: Vec<String>,
    /// Every image that was judged.
    #[serde(skip)]
    pub images: Vec<TestImage>,
    /// What can be drawn.
    #[serde(skip)]
    pub curves: Curves,
}

/// How many images were called defective for what is absent alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct AbsentAlone {
    /// Good ones.
    pub good: usize,
    /// Defective ones.
    pub defects: usize,
}

/// Verdicts at the detector's threshold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// All images.
    pub images: usize,
    /// Those called defective.
    pub rejected: usize,
}

/// What needs no threshold, as fractions of 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TestMetrics {
    /// [`simplenet_metrics::auroc`] over images.
    pub image_auroc: f64,
    /// [`simplenet_metrics::average_precision`] over images.
    pub image_average_precision: f64,
    /// [`simplenet_metrics::f1_max`] over images.
    pub image_f1_max: f64,
    /// Over the pixels that are judged, where there are masks.
    #[serde(flatten)]
    pub pixel: Option<TestPixelMetrics>,
}

/// The same over the pixels of all images together: those of the maps that lie in the region of interest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TestPixelMetrics {
    /// [`simplenet_metrics::auroc`].
    pub pixel_auroc: f64,
    /// [`simplenet_metrics::average_precision`].
    pub pixel_average_precision: f64,
    /// [`simplenet_metrics::f1_max`].
    pub pixel_f1_max: f64,
    /// [`simplenet_metrics::aupro`].
    pub aupro: f64,
}

/// One kind of defect, against the good images.
#[derive(Debug, Clone, Serialize)]
pub struct Kind {
    /// Its name.
    pub defect: String,
    /// Verdicts on it.
    #[serde(flatten)]
    pub counted: Counted,
    /// What needs no threshold.
    #[serde(flatten)]
    pub metrics: TestMetrics,
}

/// An image and what was said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct TestImage {
    /// Its path.
    pub file: String,
    /// Kind of defect; [`GOOD`] if none.
    pub defect: String,
    /// Its width and height, upright.
    pub size: [usize; 2],
    /// Whether it is defective.
    pub anomalous: bool,
    /// Its score.
    pub score: f32,
    /// Whether too much is absent, so that it was called defective whatever its score is.
    pub is_absent: bool,
    /// Whether it was called defective.
    pub rejected: bool,
    /// Whether the same file was learnt from, as far as is known.
    pub learnt_from: bool,
}

/// Curves of a test, of at most 500 points each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curves {
    /// [`simplenet_metrics::roc_curve`] over images.
    pub roc: Vec<CurvePoint>,
    /// [`simplenet_metrics::precision_recall_curve`] over images.
    pub precision_recall: Vec<CurvePoint>,
    /// [`simplenet_metrics::pro_curve`] over the pixels that are judged, where there are masks.
    pub pro: Option<Vec<CurvePoint>>,
}

impl Detector {
    /// Judges labelled images and compares. An image or mask that cannot be read is left out and named in the report.
    /// `after` hears how many images are done.
    ///
    /// Images of a set with masks are compared pixel by pixel as well, where every defective one has a mask: numbers over a part
    /// of a set would be those of another set. Pixels are those of the maps, of which every image has as many as its resized
    /// picture; where shapes differ so much that maps side by side would be mostly empty, there are no pixel metrics either.
    ///
    /// # Errors
    /// Where what can be read is not both good and defective.
    pub fn evaluate(&self, test: &[Sample], mut after: impl FnMut(usize)) -> Result<TestReport, Error> {
        let masks = Masks::of(test);
        let mut seen = Seen {
            detector: self,
            images: Vec::new(),
            maps: Vec::new(),
            too_small: 0,
            absent: AbsentAlone::default(),
            unreadable: Vec::new(),
            without_pixels: masks.why_not(),
        };
        for (batch, samples) in test.chunks(BATCH).enumerate() {
            for (sample, prediction) in samples.iter().zip(self.predict_sources(samples)) {
                let masked = prediction.and_then(|(prediction, sha256)| {
                    let mask = match &masks {
                        Masks::Complete => Some(self.mask(sample, &prediction.map.geometry)?),
                        Masks::None | Masks::Missing { .. } => None,
                    };
                    Ok((prediction, sha256, mask))
                });
                match masked {
                    Ok((prediction, sha256, mask)) => seen.add(sample, prediction, &sha256, mask),
                    Err(error) => seen.unreadable.push(Unreadable {
                        file: sample.source.to_string(),
                        error: error.to_string(),
                    }),
                }
            }
            after(batch * BATCH + samples.len());
        }
        seen.report()
    }

    /// Decodes and judges, with the SHA-256 of each file; one that cannot be judged does not touch the others.
    fn predict_sources(&self, samples: &[Sample]) -> Vec<Result<(Prediction, [u8; 32]), Error>> {
        let photos = samples.par_iter().map(|sample| Photo::open(&sample.source));
        let photos: Vec<Result<Photo, Error>> = photos.collect();
        let readable = photos.iter().filter_map(|photo| photo.as_ref().ok());
        let readable: Vec<&Rgb8> = readable.map(|photo| &photo.pixels).collect();
        let mut predictions = self.predict_each(&readable).into_iter();
        let missing = || Err(Error::Internal("an image got no prediction"));
        let judged = photos.into_iter().map(|photo| {
            let sha256 = photo?.sha256;
            Ok((predictions.next().unwrap_or_else(missing)?, sha256))
        });
        judged.collect()
    }

    /// The defective pixels of an image, as its map has them.
    fn mask(&self, sample: &Sample, geometry: &Geometry) -> Result<Vec<bool>, Error> {
        if sample.mask.is_some() && !is_upright(sample.source.path())? {
            return Err(Error::Config(format!(
                "{} is turned by EXIF and has a mask\n\nhint: masks lie on the pixels as stored; turn image and mask before measuring",
                sample.source
            )));
        }
        let rule = self.config.model.evaluate.mask;
        let preprocess = self.pipeline.preprocess();
        Ok(match open_mask(sample, rule)? {
            Some(mask) => rule.apply(&preprocess.window(&mask, geometry.resized(), geometry.window())?),
            None => vec![false; geometry.rows * geometry.columns],
        })
    }
}

/// Which defective images of a set have masks.
enum Masks {
    None,
    Complete,
    Missing {
        count: usize,
        defective: usize,
        first: String,
    },
}

impl Masks {
    fn of(test: &[Sample]) -> Masks {
        let defective = || test.iter().filter(|sample| sample.anomalous);
        let mut missing = defective().filter(|sample| sample.mask.is_none());
        match (missing.next(), defective().any(|sample| sample.mask.is_some())) {
            (_, false) => Masks::None,
            (None, true) => Masks::Complete,
            (Some(first), true) => Masks::Missing {
                count: 1 + missing.count(),
                defective: defective().count(),
                first: first.source.to_string(),
            },
        }
    }

    fn why_not(&self) -> Option<String> {
        match self {
            Masks::None | Masks::Complete => None,
            Masks::Missing {
                count,
                defective,
                first,
            } => Some(format!(
                "{count} of {defective} defective images have no mask, such as {first}"
            )),
        }
    }
}

/// What was seen of the images that could be judged.
struct Seen<'a> {
    detector: &'a Detector,
    images: Vec<TestImage>,
    /// A map and a mask for each image; empty where there are no pixel metrics.
    maps: Vec<LabelledMap>,
    too_small: usize,
    absent: AbsentAlone,
    unreadable: Vec<Unreadable>,
    without_pixels: Option<String>,
}

struct LabelledMap {
    geometry: Geometry,
    values: Vec<f32>,
    mask: Vec<bool>,
}

impl Seen<'_> {
    fn add(&mut self, sample: &Sample, prediction: Prediction, sha256: &[u8; 32], mask: Option<Vec<bool>>) {
        self.too_small += usize::from(prediction.verdict == Verdict::Good && prediction.too_small > 0);
        let alone = usize::from(prediction.is_absent && prediction.score < prediction.threshold);
        match sample.anomalous {
            true => self.absent.defects += alone,
            false => self.absent.good += alone,
        }
        self.images.push(TestImage {
            file: sample.source.to_string(),
            defect: sample.defect.clone(),
            size: [prediction.map.geometry.width, prediction.map.geometry.height],
            anomalous: sample.anomalous,
            score: prediction.score,
            is_absent: prediction.is_absent,
            rejected: prediction.verdict == Verdict::Defect,
            learnt_from: self.detector.card.data.has_learnt(sha256) == Some(true),
        });
        if let Some(mask) = mask {
            self.maps.push(LabelledMap {
                geometry: prediction.map.geometry,
                values: prediction.map.values,
                mask,
            });
        }
    }

    /// Leaves out the pixel metrics where maps are of so many shapes that side by side they would be mostly empty.
    fn check_shapes(&mut self) {
        let pixels: usize = self.maps.iter().map(|map| map.values.len()).sum();
        let [rows, columns] = largest(self.maps.iter());
        if rows * columns * self.maps.len() > MOST_PADDING * pixels {
            self.without_pixels = Some(format!(
                "the maps differ too much in shape: {rows} rows in one, {columns} columns in another, and {} pixels on average",
                pixels / self.maps.len()
            ));
            self.maps.clear();
        }
    }

    fn report(mut self) -> Result<TestReport, Error> {
        self.check_shapes();
        let scores: Vec<f32> = self.images.iter().map(|image| image.score).collect();
        let anomalous: Vec<bool> = self.images.iter().map(|image| image.anomalous).collect();
        let metrics = self.metrics(|_| true)?;
        let curves = Curves {
            roc: roc_curve(&scores, &anomalous, POINTS)?,
            precision_recall: precision_recall_curve(&scores, &anomalous, POINTS)?,
            pro: self.pixels(|_| true).as_ref().map(Pixels::curve).transpose()?,
        };
        let mut names: Vec<&str> = self.images.iter().map(|image| image.defect.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| *name != GOOD);
        let mut kinds = Vec::new();
        let mut unmarked = Vec::new();
        for name in names {
            let this = |image: &TestImage| image.defect == name;
            let metrics = self.metrics(|image| this(image) || !image.anomalous)?;
            if metrics.pixel.is_none() && !self.maps.is_empty() {
                unmarked.push(name.to_string());
            }
            kinds.push(Kind {
                defect: name.to_string(),
                counted: self.count(this),
                metrics,
            });
        }
        let (good, defects) = (
            self.count(|image| !image.anomalous),
            self.count(|image| image.anomalous),
        );
        let confusion = Confusion {
            true_positives: defects.rejected as u64,
            false_positives: good.rejected as u64,
            true_negatives: (good.images - good.rejected) as u64,
            false_negatives: (defects.images - defects.rejected) as u64,
        };
        let learnt_from = self.images.iter().filter(|image| image.learnt_from).count();
        let Card { data, calibration, .. } = &self.detector.card;
        Ok(TestReport {
            threshold: calibration.threshold.value(),
            min_defect_area: calibration.min_defect_area,
            too_small: self.too_small,
            absent: self.absent,
            good,
            defects,
            precision: confusion.precision(),
            recall: confusion.recall(),
            f1: confusion.f1(),
            metrics,
            kinds,
            unmarked,
            curves,
            without_pixels: self.without_pixels,
            learnt_from: (!data.files_sha256.is_empty()).then_some(learnt_from),
            unreadable: self.unreadable,
            images: self.images,
        })
    }

    fn count(&self, wanted: impl Fn(&TestImage) -> bool) -> Counted {
        let images = self.images.iter().filter(|image| wanted(image));
        images.fold(Counted::default(), |counted, image| Counted {
            images: counted.images + 1,
            rejected: counted.rejected + usize::from(image.rejected),
        })
    }

    fn metrics(&self, wanted: impl Fn(&TestImage) -> bool) -> Result<TestMetrics, Error> {
        let chosen = || self.images.iter().filter(|image| wanted(image));
        let scores: Vec<f32> = chosen().map(|image| image.score).collect();
        let anomalous: Vec<bool> = chosen().map(|image| image.anomalous).collect();
        let image = image_metrics(&scores, &anomalous)?;
        let limit = self.detector.config.model.evaluate.aupro_limit;
        let pixels = self.pixels(&wanted);
        Ok(TestMetrics {
            image_auroc: image.auroc,
            image_average_precision: image.average_precision,
            image_f1_max: image.f1_max,
            pixel: pixels.map(|pixels| pixels.metrics(limit)).transpose()?,
        })
    }

    /// The pixels of some images; `None` where there are none, or no mask marks one that is judged.
    fn pixels(&self, wanted: impl Fn(&TestImage) -> bool) -> Option<Pixels> {
        let labelled = self.images.iter().zip(&self.maps);
        let chosen: Vec<&LabelledMap> = labelled
            .filter(|(image, _)| wanted(image))
            .map(|(_, map)| map)
            .collect();
        let roi = self.detector.roi.as_ref();
        let is_judged = |pixel: usize| roi.is_none_or(|roi| roi.is_inside(pixel));
        let marks = |map: &&LabelledMap| (map.mask.iter().enumerate()).any(|(pixel, mask)| *mask && is_judged(pixel));
        if !chosen.iter().any(marks) {
            return None;
        }
        let [height, width] = largest(chosen.iter().copied());
        let shape = MapShape {
            images: chosen.len(),
            height,
            width,
        };
        let size = height * width;
        let mut pixels = Pixels {
            shape,
            maps: vec![0.0; shape.images * size],
            masks: vec![false; shape.images * size],
            within: None,
        };
        let is_whole = |map: &&LabelledMap| [map.geometry.rows, map.geometry.columns] == [height, width];
        let mut within = match roi.is_none() && chosen.iter().all(is_whole) {
            true => Vec::new(),
            false => vec![false; shape.images * size],
        };
        for (map, place) in chosen.iter().zip((0..).step_by(size)) {
            let columns = map.geometry.columns;
            for row in 0..map.geometry.rows {
                let (from, to) = (row * columns, place + row * width);
                pixels.maps[to..][..columns].copy_from_slice(&map.values[from..][..columns]);
                pixels.masks[to..][..columns].copy_from_slice(&map.mask[from..][..columns]);
                for (column, within) in within.iter_mut().skip(to).take(columns).enumerate() {
                    *within = is_judged(from + column);
                }
            }
        }
        pixels.within = (!within.is_empty()).then_some(within);
        Some(pixels)
    }
}

/// Rows and columns that every map fits into.
fn largest<'a>(maps: impl Iterator<Item = &'a LabelledMap>) -> [usize; 2] {
    maps.fold([0, 0], |[rows, columns], map| {
        [rows.max(map.geometry.rows), columns.max(map.geometry.columns)]
    })
}

/// Maps and masks one after the other, each in the upper left of what the largest needs.
struct Pixels {
    shape: MapShape,
    maps: Vec<f32>,
    masks: Vec<bool>,
    /// Whether a pixel is of a map and judged; `None` where all are.
    within: Option<Vec<bool>>,
}

impl Pixels {
    fn metrics(&self, limit: f64) -> Result<TestPixelMetrics, Error> {
        let (maps, masks) = (&self.maps, &self.masks);
        let metrics = match &self.within {
            Some(within) => pixel_metrics_within(maps, masks, within, self.shape, limit)?,
            None => pixel_metrics(maps, masks, self.shape, limit)?,
        };
        Ok(TestPixelMetrics {
            pixel_auroc: metrics.auroc,
            pixel_average_precision: metrics.average_precision,
            pixel_f1_max: metrics.f1_max,
            aupro: metrics.aupro,
        })
    }

    fn curve(&self) -> Result<Vec<CurvePoint>, Error> {
        Ok(match &self.within {
            Some(within) => pro_curve_within(&self.maps, &self.masks, within, self.shape, POINTS)?,
            None => pro_curve(&self.maps, &self.masks, self.shape, POINTS)?,
        })
    }
}
