//! `simplenet predict`

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use serde::Serialize;
use simplenet::detector::PixelBox;
use simplenet::{Detector, Error, Prediction, Region, Rgb8, Verdict, open_upright, write_atomic};

use crate::arguments::Predict;
use crate::inputs::{self, Input};
use crate::output::Output;
use crate::progress::Progress;
use crate::{Outcome, picture};

/// Images that are judged at once: enough work for every core, little memory.
pub(crate) const BATCH: usize = 8;

/// What came of one file.
pub(crate) struct Judged {
    pub(crate) prediction: Result<Prediction, Error>,
    pub(crate) image: Option<Rgb8>,
    pub(crate) time: Duration,
}

/// Decodes and judges files. One that cannot be judged does not touch the others.
pub(crate) fn judge(detector: &Detector, paths: &[&Path]) -> Vec<Judged> {
    let images: Vec<(Result<Rgb8, Error>, Duration)> = paths
        .par_iter()
        .map(|path| {
            let start = Instant::now();
            (open_upright(path), start.elapsed())
        })
        .collect();
    let start = Instant::now();
    let readable: Vec<&Rgb8> = images.iter().filter_map(|(image, _)| image.as_ref().ok()).collect();
    let mut predictions = match detector.predict_batch(&readable) {
        Ok(predictions) => predictions.into_iter().map(Ok).collect(),
        // One image spoils a batch only by a score that is not a number; which one it is shows alone.
        Err(_) => readable.iter().map(|image| detector.predict(image)).collect::<Vec<_>>(),
    }
    .into_iter();
    let share = start.elapsed() / u32::try_from(readable.len().max(1)).unwrap_or(u32::MAX);
    images
        .into_iter()
        .map(|(image, time)| match image {
            Err(error) => Judged {
                prediction: Err(error),
                image: None,
                time,
            },
            Ok(image) => Judged {
                prediction: predictions
                    .next()
                    .unwrap_or(Err(Error::Internal("an image got no prediction"))),
                image: Some(image),
                time: time + share,
            },
        })
        .collect()
}

/// A line of output. Coordinates are pixels of the upright image.
#[derive(Debug, Serialize)]
struct Line<'a> {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<[usize; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inspected: Option<PixelBox>,
    #[serde(skip_serializing_if = "Option::is_none")]
    regions: Option<&'a [Region]>,
    ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Where the results go.
struct Sink<'a> {
    detector: &'a Detector,
    arguments: &'a Predict,
    output: &'a Output,
    outcome: Outcome,
    csv: Vec<String>,
}

pub(crate) fn run(arguments: Predict, output: &Output) -> Result<Outcome> {
    let detector = arguments.model.load()?;
    for folder in [&arguments.heatmaps, &arguments.masks].into_iter().flatten() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let mut sink = Sink {
        detector: &detector,
        arguments: &arguments,
        output,
        outcome: Outcome::default(),
        csv: vec!["file,verdict,score,threshold,regions,x,y,width,height,area,error".into()],
    };
    let stream = Path::new("-");
    match &arguments.images[..] {
        [only] if only == stream => {
            for line in std::io::stdin().lock().lines() {
                let line = line.context("cannot read stdin")?;
                if !line.is_empty() {
                    sink.take(&[Input::streamed(PathBuf::from(line))])?;
                }
            }
        }
        names if names.iter().any(|name| name == stream) => {
            bail!("`-` reads every name from stdin\n\nhint: name files, or `-`, not both")
        }
        names => {
            let inputs = inputs::images(names)?;
            let mut progress = Progress::new(output);
            for (batch, chunk) in inputs.chunks(BATCH).enumerate() {
                sink.take(chunk)?;
                progress.at("images", batch * BATCH + chunk.len(), inputs.len());
            }
            progress.end();
        }
    }
    if let Some(path) = &arguments.csv {
        sink.csv.push(String::new());
        write_atomic(path, sink.csv.join("\n").as_bytes())?;
    }
    Ok(sink.outcome)
}

impl Sink<'_> {
    fn take(&mut self, inputs: &[Input]) -> Result<()> {
        let paths: Vec<&Path> = inputs.iter().map(|input| input.path.as_path()).collect();
        for (input, judged) in inputs.iter().zip(judge(self.detector, &paths)) {
            let ms = (judged.time.as_secs_f64() * 1e4).round() / 10.0;
            let file = input.path.display().to_string();
            match (judged.prediction, judged.image) {
                (Ok(prediction), Some(image)) => {
                    self.pictures(input, &image, &prediction)?;
                    self.outcome.defects |= prediction.verdict == Verdict::Defect;
                    self.csv.push(csv_line(&file, &prediction));
                    let line = Line {
                        file,
                        verdict: Some(prediction.verdict),
                        score: Some(prediction.score),
                        threshold: Some(prediction.threshold),
                        size: Some([image.width(), image.height()]),
                        inspected: Some(prediction.map.geometry.inspected()),
                        regions: Some(&prediction.regions),
                        ms,
                        error: None,
                    };
                    self.output.json_line(&line)?;
                }
                (prediction, _) => {
                    let reason = match prediction {
                        Err(error) => error.to_string(),
                        Ok(_) => "the image was lost".into(),
                    };
                    self.outcome.errors = true;
                    self.csv.push(format!("{},,,,,,,,,,{}", quoted(&file), quoted(&reason)));
                    let line = Line {
                        file,
                        verdict: None,
                        score: None,
                        threshold: None,
                        size: None,
                        inspected: None,
                        regions: None,
                        ms,
                        error: Some(reason),
                    };
                    self.output.json_line(&line)?;
                }
            }
        }
        Ok(())
    }

    fn pictures(&self, input: &Input, image: &Rgb8, prediction: &Prediction) -> Result<()> {
        if let Some(folder) = &self.arguments.heatmaps {
            let calibration = &self.detector.card().calibration;
            let range = [calibration.typical_pixel, calibration.pixel_threshold];
            picture::write(folder, &input.label, &picture::heatmap(image, &prediction.map, range)?)?;
        }
        if let Some(folder) = &self.arguments.masks {
            picture::write(folder, &input.label, &picture::mask(&prediction.map)?)?;
        }
        Ok(())
    }
}

fn csv_line(file: &str, prediction: &Prediction) -> String {
    let verdict = match prediction.verdict {
        Verdict::Good => "good",
        Verdict::Defect => "defect",
    };
    let region = prediction.regions.first().map_or(",,,,".to_string(), |region| {
        let PixelBox { x, y, width, height } = region.bounds;
        format!("{x},{y},{width},{height},{}", region.area)
    });
    format!(
        "{},{verdict},{},{},{},{region},",
        quoted(file),
        prediction.score,
        prediction.threshold,
        prediction.regions.len()
    )
}

/// A field of a CSV file (RFC 4180).
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", field.replace('"', "\"\""));
    }
    field.to_string()
}
