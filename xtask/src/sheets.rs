//! The qualitative sheet of a category: what the detector got most wrong and most right.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use simplenet::{Evaluation, Scores, Truth};
use simplenet_data::{Dataset, Preprocess, Rgb8};
use simplenet_report::{SheetRow, SheetSection, sheet};

use crate::plan::Cell;

/// Images per section.
const MISSES: usize = 3;
const FALSE_ALARMS: usize = 2;
const HITS: usize = 3;

/// The state of a head that a sheet shows.
pub(crate) struct Shown<'a> {
    pub(crate) scores: &'a Scores,
    /// `[images, side, side]`.
    pub(crate) maps: &'a [f32],
    pub(crate) evaluation: &'a Evaluation,
}

/// Writes the sheet of a cell into `folder` and says where. Pixels are marked at the threshold of the best pixel F1 of the
/// category (section 4.7 of the paper), or of the best image F1 where there are no masks.
pub(crate) fn write(
    folder: &Path,
    cell: &Cell,
    dataset: &Dataset,
    preprocess: &Preprocess,
    truth: &Truth,
    shown: &Shown,
) -> Result<PathBuf> {
    let Shown {
        scores,
        maps,
        evaluation,
    } = shown;
    let threshold = evaluation
        .pixel
        .map_or(evaluation.image.f1_threshold, |pixel| pixel.f1_threshold);
    let mut by_score: Vec<usize> = (0..dataset.test.len()).collect();
    by_score.sort_by(|&a, &b| scores.images[a].total_cmp(&scores.images[b]).then(a.cmp(&b)));
    let of = |anomalous: bool| {
        by_score
            .iter()
            .copied()
            .filter(move |&index| truth.anomalous[index] == anomalous)
    };
    let misses: Vec<usize> = of(true).take(MISSES).collect();
    let alarms: Vec<usize> = of(false).rev().take(FALSE_ALARMS).collect();
    let hits: Vec<usize> = of(true)
        .rev()
        .filter(|index| !misses.contains(index))
        .take(HITS)
        .collect();

    let side = truth.side;
    let pixels = side * side;
    let chosen: Vec<(&str, Vec<Picture>)> = [
        ("defects with the lowest scores", misses),
        ("good images with the highest scores", alarms),
        ("defects with the highest scores", hits),
    ]
    .into_iter()
    .map(|(title, indices)| {
        let pictures = indices
            .into_iter()
            .map(|index| Picture::read(dataset, preprocess, index));
        Ok((title, pictures.collect::<Result<Vec<_>>>()?))
    })
    .collect::<Result<_>>()?;
    let rows: Vec<(&str, Vec<SheetRow>)> = chosen
        .iter()
        .map(|(title, pictures)| {
            let rows = pictures.iter().map(|picture| {
                let range = picture.index * pixels..(picture.index + 1) * pixels;
                SheetRow {
                    caption: &dataset.test[picture.index].defect,
                    file: &picture.file,
                    score: scores.images[picture.index],
                    image: simplenet_report::Rgb8 {
                        width: side,
                        height: side,
                        data: picture.image.data(),
                    },
                    map: &maps[range.clone()],
                    threshold,
                    truth: truth.masks.as_ref().map(|masks| &masks[range]),
                }
            });
            (*title, rows.collect())
        })
        .collect();
    let sections: Vec<SheetSection> = rows.iter().map(|(title, rows)| SheetSection { title, rows }).collect();
    let name = format!(
        "{}-{}-{}-{}-seed{}-{}.png",
        cell.category,
        cell.variant,
        cell.protocol.name(),
        cell.config.features.backbone,
        cell.seed,
        &cell.config_sha256[..8]
    );
    let path = folder.join(name);
    let title = format!(
        "{}: {} {}, {}, last of {} epochs",
        cell.category, cell.experiment, cell.variant, cell.config.features.backbone, cell.config.train.epochs
    );
    std::fs::create_dir_all(folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
    sheet(&path, &title, &sections)?;
    Ok(path)
}

struct Picture {
    index: usize,
    file: String,
    image: Rgb8,
}

impl Picture {
    fn read(dataset: &Dataset, preprocess: &Preprocess, index: usize) -> Result<Picture> {
        let source = &dataset.test[index].source;
        let image = preprocess.crop_image(&source.decode()?);
        let file = source
            .path()
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        Ok(Picture { index, file, image })
    }
}
