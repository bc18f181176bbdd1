//! Measures how much of what good pictures show is absent from others: from other good ones, from defective ones, and from
//! *emptied* ones, on which the plainest corner of a good test picture is mirrored over all of it, as if the part were not there.
//!
//!     cargo run --release -p simplenet --example absence -- results/detector/absence.csv bottle=data/mvtec/bottle ...
//!
//! A set is a folder with train/good and test. Detectors are trained with the defaults.
#![expect(clippy::print_stderr, reason = "progress of an example")]

use std::path::Path;

use anyhow::{Context, Result, bail};
use simplenet::{Detector, DetectorConfig, Prediction, Rgb8, Verdict, open_upright, write_atomic};
use simplenet_data::folder;

const HEADER: &str = "set,pictures,count,lowest_absence,median_absence,highest_absence,rejected,rejected_by_score";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [out, sets @ ..] = &arguments[..] else {
        bail!("usage: absence OUT.csv NAME=DIR...");
    };
    let mut rows = vec![HEADER.to_string()];
    for set in sets {
        let (name, dir) = set.split_once('=').context("a set is NAME=DIR")?;
        for row in measure(name, dir.as_ref())? {
            eprintln!("{row}");
            rows.push(row);
        }
        write_atomic(out.as_ref(), format!("{}\n", rows.join("\n")).as_bytes())?;
    }
    Ok(())
}

fn measure(name: &str, dir: &Path) -> Result<Vec<String>> {
    let set = folder::load(dir)?;
    let train: Vec<_> = set.train.iter().map(|sample| sample.source.clone()).collect();
    let detector = Detector::train(&train, &DetectorConfig::default(), |_| {})?;
    let mut judged: [(&str, Vec<Prediction>); 3] =
        ["good", "defective", "emptied"].map(|pictures| (pictures, Vec::new()));
    for sample in &set.test {
        let image = open_upright(sample.source.path())?;
        judged[usize::from(sample.anomalous)].1.push(detector.predict(&image)?);
        if !sample.anomalous {
            judged[2].1.push(detector.predict(&emptied(&image)?)?);
        }
    }
    Ok(judged
        .iter()
        .map(|(pictures, predictions)| row(name, pictures, predictions))
        .collect())
}

fn row(set: &str, pictures: &str, predictions: &[Prediction]) -> String {
    let mut absence: Vec<f32> = predictions.iter().filter_map(|prediction| prediction.absence).collect();
    absence.sort_by(f32::total_cmp);
    let at = |share: f64| {
        let index = (share * absence.len().saturating_sub(1) as f64).round() as usize;
        absence
            .get(index)
            .map(|value| format!("{value:.4}"))
            .unwrap_or_default()
    };
    let rejected = predictions
        .iter()
        .filter(|prediction| prediction.verdict == Verdict::Defect)
        .count();
    let by_score = predictions
        .iter()
        .filter(|prediction| prediction.score >= prediction.threshold)
        .count();
    let (low, middle, high) = (at(0.0), at(0.5), at(1.0));
    format!(
        "{set},{pictures},{},{low},{middle},{high},{rejected},{by_score}",
        predictions.len()
    )
}

/// The corner with the least contrast, a quarter as wide and high as the picture, and its mirror images side by side.
fn emptied(image: &Rgb8) -> Result<Rgb8> {
    let (width, height) = (image.width(), image.height());
    let (wide, high) = ((width / 4).max(1), (height / 4).max(1));
    let at = |x: usize, y: usize, channel: usize| image.data()[(y * width + x) * 3 + channel];
    let contrast = |&(left, top): &(usize, usize)| {
        let pixels = (top..top + high).flat_map(|y| (left..left + wide).map(move |x| f64::from(at(x, y, 1))));
        let (sum, squares) = pixels.fold((0.0, 0.0), |(sum, squares), value| {
            (sum + value, squares + value * value)
        });
        squares - sum * sum / (wide * high) as f64
    };
    let corners = [
        (0, 0),
        (width - wide, 0),
        (0, height - high),
        (width - wide, height - high),
    ];
    let plainest = corners.into_iter().min_by(|a, b| contrast(a).total_cmp(&contrast(b)));
    let (left, top) = plainest.context("a picture has corners")?;
    let mirrored = |at: usize, length: usize| match (at / length).is_multiple_of(2) {
        true => at % length,
        false => length - 1 - at % length,
    };
    let mut data = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let (from_x, from_y) = (left + mirrored(x, wide), top + mirrored(y, high));
            data.extend((0..3).map(|channel| at(from_x, from_y, channel)));
        }
    }
    Ok(Rgb8::new(width, height, data)?)
}
