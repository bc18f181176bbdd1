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
use crate::{Outcome, options, picture};

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
pub(crate) struct Line<'a> {
    file: String,
    #[serde(flatten)]
    said: Said<'a>,
    ms: f64,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Said<'a> {
    Judged {
        verdict: Verdict,
        score: f32,
        threshold: f32,
        size: [usize; 2],
        inspected: PixelBox,
        regions: &'a [Region],
    },
    Failed {
        error: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

/// The line of a file.
pub(crate) fn line(file: String, judged: &Judged) -> Line<'_> {
    let said = match &judged.prediction {
        Ok(prediction) => Said::Judged {
            verdict: prediction.verdict,
            score: prediction.score,
            threshold: prediction.threshold,
            size: [prediction.map.geometry.width, prediction.map.geometry.height],
            inspected: prediction.map.geometry.inspected(),
            regions: &prediction.regions,
        },
        Err(error) => {
            let (error, hint) = error_and_hint(error);
            Said::Failed { error, hint }
        }
    };
    Line {
        file,
        said,
        ms: (judged.time.as_secs_f64() * 1e4).round() / 10.0,
    }
}

/// Writes heatmap and mask of an image into the folders that are asked for, in this order.
pub(crate) fn pictures(
    detector: &Detector,
    label: &Path,
    image: &Rgb8,
    prediction: &Prediction,
    [heatmaps, masks]: [Option<&Path>; 2],
) -> Result<()> {
    if let Some(folder) = heatmaps {
        let calibration = &detector.card().calibration;
        let range = [calibration.typical_pixel, calibration.pixel_threshold];
        picture::write(folder, label, &picture::heatmap(image, &prediction.map, range)?)?;
    }
    if let Some(folder) = masks {
        picture::write(folder, label, &picture::mask(&prediction.map)?)?;
    }
    Ok(())
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
        let folders = [self.arguments.heatmaps.as_deref(), self.arguments.masks.as_deref()];
        for (input, judged) in inputs.iter().zip(judge(self.detector, &paths)) {
            let file = input.path.display().to_string();
            match (&judged.prediction, &judged.image) {
                (Ok(prediction), Some(image)) => {
                    pictures(self.detector, &input.label, image, prediction, folders)?;
                    self.outcome.defects |= prediction.verdict == Verdict::Defect;
                }
                _ => self.outcome.errors = true,
            }
            self.csv.push(csv_line(&file, &judged.prediction));
            self.output.json_line(&line(file, &judged))?;
        }
        Ok(())
    }
}

/// What went wrong, and what could help.
fn error_and_hint(error: &Error) -> (String, Option<String>) {
    let text = options::explain(error, "--tile");
    match text.split_once("\n\nhint: ") {
        Some((error, hint)) => (error.to_string(), Some(hint.to_string())),
        None => (text, None),
    }
}

fn csv_line(file: &str, prediction: &Result<Prediction, Error>) -> String {
    let prediction = match prediction {
        Ok(prediction) => prediction,
        Err(error) => {
            return format!(
                "{},,,,,,,,,,{}",
                quoted(file),
                quoted(&options::explain(error, "--tile"))
            );
        }
    };
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
