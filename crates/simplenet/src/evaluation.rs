//! Scores of a test set, and how good they are.

use simplenet_data::{Preprocess, Sample, load_masks};
use simplenet_heads::{Bank, Head, Precision};
use simplenet_kernels::maps;
use simplenet_metrics::{ImageMetrics, MapShape, PixelMetrics, image_metrics, pixel_metrics};

use crate::config::{Config, Evaluate};
use crate::error::Error;
use crate::method::Model;

/// Patch and image scores of an image set; higher = more anomalous.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Per patch, `[images, rows, columns]`: −D, or the distance of another method.
    pub patches: Vec<f32>,
    /// The largest patch score of each image (Eq. 11; the authors' code takes it before upsampling); PatchCore may weight
    /// it.
    pub images: Vec<f32>,
    /// Images, rows and columns of `patches`.
    pub shape: [usize; 3],
}

/// What is known about a test set.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// Per image.
    pub anomalous: Vec<bool>,
    /// Per pixel of the crop, `[images, crop, crop]`; `None` where an anomalous image has no mask, because pixel metrics over
    /// the others would be those of another test set.
    pub masks: Option<Vec<bool>>,
    /// Side of the crop.
    pub side: usize,
}

/// All metrics of one state of a head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Over images.
    pub image: ImageMetrics,
    /// Over pixels, where there are masks.
    pub pixel: Option<PixelMetrics>,
}

impl Scores {
    /// Scores every patch of a bank whose images have `grid` = rows × columns patches, in the precision of inference.
    pub fn of(head: &Head, bank: &Bank, grid: [usize; 2], precision: Precision) -> Result<Scores, Error> {
        let scorer = head.scorer_in(precision)?;
        let mut patches = Vec::with_capacity(bank.rows());
        for image in 0..bank.images() {
            patches.extend(scorer.score(bank.image(image))?);
        }
        let shape = [bank.images(), grid[0], grid[1]];
        let images = maps::image_scores(&patches, shape)?;
        Ok(Scores { patches, images, shape })
    }

    /// The same with any fitted method.
    pub fn by(model: &Model, bank: &Bank, grid: [usize; 2]) -> Result<Scores, Error> {
        let mut scores = Scores {
            patches: Vec::with_capacity(bank.rows()),
            images: Vec::with_capacity(bank.images()),
            shape: [bank.images(), grid[0], grid[1]],
        };
        for image in 0..bank.images() {
            let scored = model.score_image(bank.image(image))?;
            scores.patches.extend(scored.patches);
            scores.images.push(scored.image);
        }
        Ok(scores)
    }

    /// Anomaly maps `[images, side, side]`: bilinear upsampling, then a Gaussian of `blur_sigma` pixels.
    pub fn maps(&self, side: usize, blur_sigma: f32) -> Result<Vec<f32>, Error> {
        Ok(maps::anomaly_maps(&self.patches, self.shape, [side, side], blur_sigma)?)
    }

    /// The anomaly map `[side, side]` of one image.
    pub fn map(&self, image: usize, side: usize, blur_sigma: f32) -> Result<Vec<f32>, Error> {
        let [_, rows, columns] = self.shape;
        let patches = &self.patches[image * rows * columns..(image + 1) * rows * columns];
        Ok(maps::anomaly_maps(
            patches,
            [1, rows, columns],
            [side, side],
            blur_sigma,
        )?)
    }
}

impl Truth {
    /// Reads the masks of a test set as its images are read: resized and cropped.
    pub fn load(samples: &[Sample], preprocess: &Preprocess, evaluate: &Evaluate) -> Result<Truth, Error> {
        let complete = samples.iter().all(|sample| sample.mask.is_some() || !sample.anomalous);
        let any = samples.iter().any(|sample| sample.mask.is_some());
        let masks = match complete && any {
            true => Some(load_masks(samples, preprocess, evaluate.mask)?),
            false => None,
        };
        let anomalous = samples.iter().map(|sample| sample.anomalous).collect();
        Ok(Truth {
            anomalous,
            masks,
            side: preprocess.crop(),
        })
    }
}

impl Evaluation {
    /// Judges scores by the truth.
    pub fn of(scores: &Scores, truth: &Truth, config: &Config) -> Result<Evaluation, Error> {
        let image = image_metrics(&scores.images, &truth.anomalous)?;
        let Some(masks) = &truth.masks else {
            return Ok(Evaluation { image, pixel: None });
        };
        let maps = scores.maps(truth.side, config.evaluate.blur_sigma)?;
        let shape = MapShape {
            images: truth.anomalous.len(),
            height: truth.side,
            width: truth.side,
        };
        let pixel = pixel_metrics(&maps, masks, shape, config.evaluate.aupro_limit)?;
        Ok(Evaluation {
            image,
            pixel: Some(pixel),
        })
    }

    /// Whether the authors' code would keep this state instead of `other`: a higher image AUROC, or the same and a higher
    /// pixel AUROC (`simplenet.py:431-452`).
    pub fn beats(&self, other: &Evaluation) -> bool {
        let pixel = |evaluation: &Evaluation| evaluation.pixel.map_or(0.0, |pixel| pixel.auroc);
        let (mine, theirs) = (self.image.auroc, other.image.auroc);
        mine > theirs || (mine == theirs && pixel(self) > pixel(other))
    }
}
