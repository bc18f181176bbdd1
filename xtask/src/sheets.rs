//! Pictures of a category: what the detector got most wrong and most right.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use simplenet::{Evaluation, Scores, Truth};
use simplenet_data::{Dataset, Preprocess, Rgb8};
use simplenet_report::{Gallery, GalleryImage, Row, SheetRow, SheetSection, gallery, sheet};

/// Images per section of a sheet ranked by score.
const MISSES: usize = 3;
const FALSE_ALARMS: usize = 2;
const HITS: usize = 3;
/// Images per section of a sheet ranked by overlap.
const PER_RANK: usize = 2;
/// Images per category in the browser of report.html, spread evenly over the ranking of scores.
const GALLERY: usize = 16;

/// The state of a head that a sheet shows.
pub(crate) struct Shown<'a> {
    pub(crate) dataset: &'a Dataset,
    pub(crate) preprocess: &'a Preprocess,
    pub(crate) truth: &'a Truth,
    pub(crate) scores: &'a Scores,
    /// `[images, side, side]`.
    pub(crate) maps: &'a [f32],
    pub(crate) evaluation: &'a Evaluation,
}

/// What makes an image a good or a bad example.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ranking {
    /// Its score: misses, false alarms, hits.
    Score,
    /// The Dice overlap of marked and defective pixels (Figure 8); its score where there are no masks.
    Overlap,
}

/// The name of the sheet and the gallery of a row's cell, without its ending.
pub(crate) fn stem(row: &Row) -> String {
    format!(
        "{}-{}-{}-{}-{}-seed{}-{}",
        row.experiment,
        row.category,
        row.variant,
        row.protocol,
        row.backbone,
        row.seed,
        row.config_sha256.get(..8).unwrap_or(&row.config_sha256)
    )
}

/// Writes the sheet of a cell into `folder`. Pixels are marked at the threshold of the best pixel F1 of the category
/// (section 4.7 of the paper), or of the best image F1 where there are no masks.
pub(crate) fn write(folder: &Path, row: &Row, ranking: Ranking, shown: &Shown) -> Result<()> {
    let chosen = match (ranking, &shown.truth.masks) {
        (Ranking::Overlap, Some(masks)) => shown.by_overlap(masks),
        _ => shown.by_score(),
    };
    let pictures: Vec<(&str, Vec<Picture>)> = chosen
        .into_iter()
        .map(|(title, indices)| Ok((title, shown.pictures(indices)?)))
        .collect::<Result<_>>()?;
    let rows: Vec<(&str, Vec<SheetRow>)> = pictures
        .iter()
        .map(|(title, pictures)| (*title, pictures.iter().map(|picture| shown.row(picture)).collect()))
        .collect();
    let sections: Vec<SheetSection> = rows.iter().map(|(title, rows)| SheetSection { title, rows }).collect();
    let epochs = row
        .epoch
        .map_or(String::new(), |epoch| format!(", last of {epoch} epochs"));
    let title = format!(
        "{}: {} {}, {}, protocol {}, seed {}{epochs}",
        row.category, row.experiment, row.variant, row.backbone, row.protocol, row.seed
    );
    sheet(&cell_file(folder, row, "png")?, &title, &sections)?;
    Ok(())
}

/// Writes what the image browser of report.html shows of a cell.
pub(crate) fn write_gallery(folder: &Path, row: &Row, shown: &Shown) -> Result<()> {
    let ranked = shown.ranked();
    let count = ranked.len().min(GALLERY);
    // First and last are among them.
    let spread = (0..count).map(|place| ranked[place * (ranked.len() - 1) / count.saturating_sub(1).max(1)]);
    let pictures = shown.pictures(spread.collect())?;
    let images: Vec<GalleryImage> = pictures
        .iter()
        .map(|picture| GalleryImage {
            anomalous: shown.truth.anomalous[picture.index],
            row: shown.row(picture),
        })
        .collect();
    let title = format!(
        "{}, {} {} ({}, protocol {}, seed {})",
        row.category, row.experiment, row.variant, row.backbone, row.protocol, row.seed
    );
    let gallery = Gallery {
        title: &title,
        images: &images,
        image_threshold: shown.evaluation.image.f1_threshold,
        taken_from: ranked.len(),
    };
    gallery::write(&cell_file(folder, row, "json")?, &gallery)?;
    Ok(())
}

/// The file of a cell in a folder that is there from now on.
pub(crate) fn cell_file(folder: &Path, row: &Row, ending: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
    Ok(folder.join(format!("{}.{ending}", stem(row))))
}

struct Picture {
    index: usize,
    file: String,
    image: Rgb8,
}

impl Shown<'_> {
    /// From the least to the most anomalous.
    fn ranked(&self) -> Vec<usize> {
        let scores = &self.scores.images;
        let mut ranked: Vec<usize> = (0..scores.len()).collect();
        ranked.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(a.cmp(&b)));
        ranked
    }

    fn threshold(&self) -> f32 {
        let pixel = self.evaluation.pixel.map(|pixel| pixel.f1_threshold);
        pixel.unwrap_or(self.evaluation.image.f1_threshold)
    }

    fn pixels(&self, index: usize) -> std::ops::Range<usize> {
        let pixels = self.truth.side * self.truth.side;
        index * pixels..(index + 1) * pixels
    }

    fn by_score(&self) -> Vec<(&'static str, Vec<usize>)> {
        let ranked = self.ranked();
        let of = |anomalous: bool| {
            let ranked = ranked.iter().copied();
            ranked.filter(move |&index| self.truth.anomalous[index] == anomalous)
        };
        let misses: Vec<usize> = of(true).take(MISSES).collect();
        let alarms: Vec<usize> = of(false).rev().take(FALSE_ALARMS).collect();
        let hits = of(true)
            .rev()
            .filter(|index| !misses.contains(index))
            .take(HITS)
            .collect();
        vec![
            ("defects with the lowest scores", misses),
            ("good images with the highest scores", alarms),
            ("defects with the highest scores", hits),
        ]
    }

    fn by_overlap(&self, masks: &[bool]) -> Vec<(&'static str, Vec<usize>)> {
        let dice = |index: usize| {
            let (map, mask) = (&self.maps[self.pixels(index)], &masks[self.pixels(index)]);
            let (mut both, mut either) = (0_usize, 0_usize);
            for (score, &defective) in map.iter().zip(mask) {
                let marked = *score >= self.threshold();
                both += usize::from(marked && defective);
                either += usize::from(marked) + usize::from(defective);
            }
            2.0 * both as f64 / (either as f64).max(1.0)
        };
        let defective = (0..self.truth.anomalous.len()).filter(|&index| self.truth.anomalous[index]);
        let mut ranked: Vec<(f64, usize)> = defective.map(|index| (dice(index), index)).collect();
        // Of those that overlap alike, as where nothing is marked, the one with the lower score is the worse.
        let scores = &self.scores.images;
        ranked.sort_by(|left, right| {
            let by_score = || scores[right.1].total_cmp(&scores[left.1]);
            right
                .0
                .total_cmp(&left.0)
                .then_with(by_score)
                .then(left.1.cmp(&right.1))
        });
        let count = ranked.len();
        let middle = (count / 2).saturating_sub(PER_RANK / 2);
        let part = |from: usize| {
            let to = (from + PER_RANK).min(count);
            ranked[from.min(to)..to].iter().map(|(_, index)| *index).collect()
        };
        vec![
            ("best: marked and defective pixels overlap most", part(0)),
            ("median", part(middle)),
            ("worst", part(count.saturating_sub(PER_RANK))),
        ]
    }

    fn pictures(&self, indices: Vec<usize>) -> Result<Vec<Picture>> {
        let read = |index: usize| {
            let source = &self.dataset.test[index].source;
            let image = self.preprocess.crop_image(&source.decode()?);
            let name = source.path().file_name();
            let file = name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            Ok(Picture { index, file, image })
        };
        indices.into_iter().map(read).collect()
    }

    fn row<'a>(&'a self, picture: &'a Picture) -> SheetRow<'a> {
        let pixels = self.pixels(picture.index);
        SheetRow {
            caption: &self.dataset.test[picture.index].defect,
            file: &picture.file,
            score: self.scores.images[picture.index],
            image: simplenet_report::Rgb8 {
                width: self.truth.side,
                height: self.truth.side,
                data: picture.image.data(),
            },
            map: &self.maps[pixels.clone()],
            threshold: self.threshold(),
            truth: self.truth.masks.as_ref().map(|masks| &masks[pixels]),
        }
    }
}
