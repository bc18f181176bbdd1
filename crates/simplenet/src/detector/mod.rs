//! The detector: trained once, then one verdict per image.

mod absence;
mod auto_stop;
pub mod calibration;
pub mod card;
pub mod evaluation;
mod file;
mod geometry;
mod hygiene;
mod layout;
mod memory;
mod prediction;
mod reference;
mod roi;
mod settings;
pub mod shift;
mod training;

use std::borrow::Borrow;
use std::path::Path;

use simplenet_data::{Rgb8, Source};
use simplenet_kernels::maps;

pub use self::card::Card;
pub use self::evaluation::TestReport;
pub use self::file::LoadOptions;
pub use self::geometry::{Geometry, PixelBox};
pub use self::prediction::{AnomalyMap, Peak, Prediction, Region, Verdict};
pub use self::settings::DetectorConfig;
pub use self::training::Progress;

use self::absence::{Absence, Profile};
use self::calibration::Contract;
use self::card::ThresholdCard;
use self::layout::Layout;
use self::prediction::Decision;
use self::reference::Reference;
use self::roi::Roi;
use crate::error::Error;
use crate::method::Model;
use crate::photo::open_upright;
use crate::pipeline::Pipeline;

/// A trained detector: backbone, model, threshold, and the card that says where they come from.
///
/// The way from pixels to scores is that of [`crate::Scores`] and [`crate::Evaluation`], so a table, a prediction and a
/// threshold speak of the same numbers. They do not depend on the number of threads, nor on what else is in a batch.
pub struct Detector {
    config: DetectorConfig,
    card: Card,
    pipeline: Pipeline,
    model: Model,
    /// `None` where all of the picture that is seen is judged.
    roi: Option<Roi>,
    /// `None` for a method that knows where the part belongs, for images that are all the same, and in older files.
    absence: Option<Absence>,
    references: Vec<Reference>,
    /// Empty but after training.
    highest_held_out: Vec<(Source, Prediction)>,
}

/// What turns an image into a score.
#[derive(Clone, Copy)]
struct Parts<'a> {
    pipeline: &'a Pipeline,
    model: &'a Model,
    roi: Option<&'a Roi>,
    absence: Option<&'a Absence>,
    config: &'a DetectorConfig,
}

/// Image score and anomaly map of one image.
struct Scored {
    score: f32,
    /// `[rows, columns]` of the geometry.
    map: Vec<f32>,
    /// Where it is asked for.
    absence: Option<f32>,
}

impl Detector {
    /// Judges an upright image. A program that judges many does so on a thread of rayon's pool (`rayon::scope`): any other
    /// wakes one for each step and sleeps until that is done, which costs milliseconds.
    ///
    /// # Errors
    /// Where it takes too many tiles, a region of interest is for images of another size, or a score is not a number.
    pub fn predict(&self, image: &Rgb8) -> Result<Prediction, Error> {
        let mut predictions = self.predict_batch(&[image])?;
        predictions
            .pop()
            .ok_or_else(|| Error::Internal("one image gave no prediction"))
    }

    /// Decodes a file, turns it upright as EXIF says and judges it.
    ///
    /// # Errors
    /// As [`open_upright`] and [`Detector::predict`].
    pub fn predict_file(&self, path: impl AsRef<Path>) -> Result<Prediction, Error> {
        self.predict(&open_upright(path)?)
    }

    /// Judges several images at once; the same predictions as one by one.
    ///
    /// # Errors
    /// As [`Detector::predict`].
    pub fn predict_batch<I: Borrow<Rgb8> + Sync>(&self, images: &[I]) -> Result<Vec<Prediction>, Error> {
        let layouts: Vec<Layout> = images
            .iter()
            .map(|image| self.layout(image.borrow()))
            .collect::<Result<_, Error>>()?;
        let images: Vec<(&Rgb8, &Layout)> = images.iter().map(Borrow::borrow).zip(&layouts).collect();
        let decision = self.decision();
        let scored = self.parts().score(&images)?;
        let judged = scored.into_iter().zip(&layouts);
        judged
            .map(|(scored, layout)| decision.judge(scored, layout.geometry, self.roi.as_ref()))
            .collect()
    }

    /// The same where one that cannot be judged does not touch the others: a result for each image, in their order.
    pub fn predict_each<I: Borrow<Rgb8> + Sync>(&self, images: &[I]) -> Vec<Result<Prediction, Error>> {
        match self.predict_batch(images) {
            Ok(predictions) => predictions.into_iter().map(Ok).collect(),
            // Which one it is shows alone.
            Err(_) => images.iter().map(|image| self.predict(image.borrow())).collect(),
        }
    }

    /// What the network sees of an image: `[tiles, 3, crop, crop]`. [`Detector::predict`] does this itself.
    ///
    /// # Errors
    /// As [`Detector::predict`].
    pub fn prepare(&self, image: &Rgb8) -> Result<Vec<f32>, Error> {
        let layout = self.layout(image)?;
        let tiles = (0..layout.tiles()).map(|tile| layout::input(&self.pipeline, image, &layout, tile));
        Ok(tiles.collect::<Result<Vec<_>, Error>>()?.concat())
    }

    /// Where the part of an image that is judged lies.
    ///
    /// # Errors
    /// Where it takes too many tiles.
    pub fn geometry(&self, image: &Rgb8) -> Result<Geometry, Error> {
        Ok(self.layout(image)?.geometry)
    }

    /// The same for images of the size that most training images had.
    ///
    /// # Errors
    /// As [`Detector::geometry`].
    pub fn usual_geometry(&self) -> Result<Geometry, Error> {
        Ok(Layout::new(self.card.data.size, &self.config, &self.pipeline)?.geometry)
    }

    /// Which share of the part that is looked at counts: all of it, or what a region of interest leaves.
    pub fn judged_share(&self) -> f64 {
        self.roi.as_ref().map_or(1.0, Roi::share)
    }

    /// What it was trained with.
    pub fn config(&self) -> &DetectorConfig {
        &self.config
    }

    /// Where it comes from and what can be expected of it.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// The good images with the highest held-out scores, the highest first, and what models said of them that had not learnt from
    /// them: what a person should look at. Of a detector that was just trained; a file does not keep them.
    pub fn highest_held_out(&self) -> &[(Source, Prediction)] {
        &self.highest_held_out
    }

    /// From pixels to patch features.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// What makes scores of features.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// From which image score on a part is a defect.
    pub fn threshold(&self) -> f32 {
        self.card.calibration.threshold.value()
    }

    /// Chooses thresholds for a false-reject rate from the held-out scores in the card, for images and for pixels; on average,
    /// or with 95 % confidence.
    ///
    /// # Errors
    /// [`Error::Calibration`] for a rate that is none.
    pub fn set_max_false_reject(&mut self, rate: f64, confident: bool) -> Result<Contract, Error> {
        let calibration = &mut self.card.calibration;
        let scores: Vec<f32> = calibration.held_out.iter().map(|image| image.score).collect();
        let peaks: Vec<f32> = calibration.held_out.iter().map(|image| image.peak).collect();
        let contract = Contract::new(&scores, rate, confident)?;
        calibration.pixel_threshold = Contract::new(&peaks, rate, confident)?.threshold;
        calibration.threshold = ThresholdCard::Contract(contract);
        Ok(contract)
    }

    /// Sets the threshold, and where it comes from. The pixel threshold stays.
    ///
    /// # Errors
    /// [`Error::Calibration`] where it is not finite.
    pub fn set_threshold(&mut self, threshold: ThresholdCard) -> Result<(), Error> {
        if !threshold.value().is_finite() {
            return Err(Error::Calibration(format!(
                "{} is no threshold\n\nhint: a threshold is a finite number on the scale of the scores",
                threshold.value()
            )));
        }
        self.card.calibration.threshold = threshold;
        Ok(())
    }

    /// Sets from where on pixels of a map are drawn as marked and a region may begin, which ends halfway down from its summit.
    /// Verdicts do not depend on it, but for [`Detector::set_min_defect_area`].
    ///
    /// # Errors
    /// [`Error::Calibration`] where it is not finite.
    pub fn set_pixel_threshold(&mut self, threshold: f32) -> Result<(), Error> {
        if !threshold.is_finite() {
            return Err(Error::Calibration(format!(
                "{threshold} is no threshold for pixels\n\nhint: it is a finite number on the scale of the maps"
            )));
        }
        self.card.calibration.pixel_threshold = threshold;
        Ok(())
    }

    /// Sets how many source pixels a region must have to be a defect.
    pub fn set_min_defect_area(&mut self, pixels: u64) {
        self.card.calibration.min_defect_area = pixels;
    }

    /// Sets from which [`Prediction::absence`] on an image is a defect, whatever its score is; `None` for never. It is 1 after
    /// training.
    ///
    /// # Errors
    /// [`Error::Calibration`] where the limit is not positive, or the detector does not know what good images show.
    pub fn set_max_absence(&mut self, limit: Option<f32>) -> Result<(), Error> {
        if let Some(limit) = limit.filter(|limit| !(limit.is_finite() && *limit > 0.0)) {
            return Err(Error::Calibration(format!(
                "{limit} is no limit for what is absent\n\nhint: it is a number above 0; 1 is what training chose"
            )));
        }
        match &mut self.card.calibration.absence {
            Some(card) => card.limit = limit,
            None => {
                return Err(Error::Calibration(format!(
                    "this detector does not measure what is absent\n\nhint: {}",
                    match self.model {
                        Model::Padim(_) => "`padim` knows where the part belongs, and has no need of it",
                        Model::SimpleNet(_) | Model::PatchCore(_) =>
                            "train it again with this version of the program, and with pictures that are not copies of each other",
                    }
                )));
            }
        }
        Ok(())
    }

    fn layout(&self, image: &Rgb8) -> Result<Layout, Error> {
        Layout::new([image.width(), image.height()], &self.config, &self.pipeline)
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            pipeline: &self.pipeline,
            model: &self.model,
            roi: self.roi.as_ref(),
            absence: self.absence.as_ref(),
            config: &self.config,
        }
    }

    fn decision(&self) -> Decision {
        let calibration = &self.card.calibration;
        Decision {
            threshold: calibration.threshold.value(),
            pixel_threshold: calibration.pixel_threshold,
            min_area: calibration.min_defect_area,
            max_absence: calibration.absence.and_then(|card| card.limit),
        }
    }
}

impl Parts<'_> {
    /// The one way from images to scores and maps.
    fn score(&self, images: &[(&Rgb8, &Layout)]) -> Result<Vec<Scored>, Error> {
        let (tiles, profiles) = self.score_squares(images)?;
        let (mut tiles, mut profiles) = (tiles.into_iter(), profiles.into_iter());
        images
            .iter()
            .map(|(_, layout)| {
                let mut scored = self.finish(layout, tiles.by_ref().take(layout.tiles()).collect())?;
                let profile = profiles.next();
                scored.absence = self.absence.zip(profile).map(|(absence, profile)| absence.of(&profile));
                Ok(scored)
            })
            .collect()
    }

    /// The patch scores of every square, image by image, and where absence is asked for a profile of every image.
    fn score_squares(&self, images: &[(&Rgb8, &Layout)]) -> Result<(Vec<Vec<f32>>, Vec<Profile>), Error> {
        let Some(absence) = self.absence else {
            return Ok((layout::score(self.pipeline, self.model, images, None)?, Vec::new()));
        };
        let mut profiles: Vec<Profile> = images.iter().map(|_| absence.profile()).collect();
        let mut see = |rows: &[f32], image: usize, tile| match self.roi {
            None => absence.see(&mut profiles[image], rows),
            Some(roi) => {
                let layout = images[image].1;
                roi.check(&layout.geometry)?;
                let judged = roi.judged_rows(layout, tile, rows, self.pipeline.dim());
                absence.see(&mut profiles[image], &judged)
            }
        };
        let squares = layout::score(self.pipeline, self.model, images, Some(&mut see))?;
        Ok((squares, profiles))
    }

    /// From the patch scores of an image's squares to its score and map.
    fn finish(&self, layout: &Layout, tiles: Vec<Vec<f32>>) -> Result<Scored, Error> {
        let mut patches = layout.stitch(tiles)?;
        let [rows, columns] = layout.patches;
        let Geometry {
            columns: width,
            rows: height,
            ..
        } = layout.geometry;
        let blur_sigma = self.config.model.evaluate.blur_sigma;
        let score = match self.roi {
            None => maps::image_scores(&patches, [1, rows, columns])?,
            Some(roi) => {
                roi.check(&layout.geometry)?;
                let judged = roi.judged(&patches);
                roi.continue_outside(&mut patches);
                maps::image_scores(&judged, [1, 1, judged.len()])?
            }
        };
        let mut map = maps::anomaly_maps(&patches, [1, rows, columns], [height, width], blur_sigma)?;
        if let Some(roi) = self.roi {
            roi.flatten_outside(&mut map);
        }
        Ok(Scored {
            score: score[0],
            map,
            absence: None,
        })
    }
}
