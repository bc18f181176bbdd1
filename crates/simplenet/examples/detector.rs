//! The detector from another Rust program: train on a folder, save, load, judge.
//!
//!     cargo run -p simplenet --example detector -- GOOD_DIR IMAGE...
//!
//! Without arguments it draws its own photographs of a good and of a torn material.
#![expect(clippy::print_stdout, reason = "an example")]

use std::path::PathBuf;

use anyhow::Result;
use simplenet::{Detector, DetectorConfig, LoadOptions, Source, Verdict};
use simplenet_data::toy::{CATEGORIES, Shot, render};

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let (good, images) = match &arguments[..] {
        [good, images @ ..] => (simplenet_data::folder::load(good)?, images.to_vec()),
        [] => {
            for index in 0..20 {
                let path = folder.path().join(format!("{index:03}.png"));
                render(0, &CATEGORIES[0], Shot::Train { index }).image.save(path)?;
            }
            let torn = folder.path().join("torn").with_extension("bmp");
            let good = simplenet_data::folder::load(folder.path())?;
            let shot = Shot::Defective { defect: 0, index: 0 };
            render(0, &CATEGORIES[0], shot).image.save(&torn)?;
            (good, vec![torn])
        }
    };
    let sources: Vec<Source> = good.train.into_iter().map(|sample| sample.source).collect();

    let config = DetectorConfig {
        max_false_reject: 0.02,
        ..DetectorConfig::default()
    };
    let detector = Detector::train(&sources, &config, |_| {})?;
    let file = folder.path().join("part.simplenet");
    detector.save(&file)?;

    // Later, and elsewhere: the same scores, or an error.
    let detector = Detector::load(&file, &LoadOptions::default())?;
    for image in images {
        let prediction = detector.predict_file(&image)?;
        let verdict = match prediction.verdict {
            Verdict::Good => "good",
            Verdict::Defect => "defect",
        };
        println!(
            "{}: {verdict}, score {:.3}, threshold {:.3}",
            image.display(),
            prediction.score,
            prediction.threshold
        );
        for region in &prediction.regions {
            let bounds = region.bounds;
            println!(
                "  {} pixels in {} x {} at ({}, {})",
                region.area, bounds.width, bounds.height, bounds.x, bounds.y
            );
        }
    }
    Ok(())
}
