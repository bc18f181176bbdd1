//! Procedural images in MVTec AD's layout: what a category takes depends on how many and how large they are.

use std::path::Path;

use anyhow::{Context, Result};
use image::RgbImage;
use image::imageops::{FilterType, resize};
use rayon::prelude::*;
use simplenet_data::toy::{CATEGORIES, Shot, render};
use simplenet_data::{Dataset, mvtec};

/// A set of images, drawn once.
pub(super) struct Drawing {
    /// Its folder's name in the cache.
    pub(super) name: &'static str,
    /// Side of an image, in pixels.
    pub(super) side: u32,
    /// Training images, good and defective test images.
    pub(super) counts: [usize; 3],
}

impl Drawing {
    /// Draws the images unless an earlier run has drawn all of them.
    pub(super) fn load(&self, cache: &Path) -> Result<Dataset> {
        let root = cache.join("procedural-bench");
        let folder = root.join(self.name);
        let complete = folder.join("complete");
        if !complete.is_file() {
            for part in ["train/good", "test/good", "test/bad", "ground_truth/bad"] {
                let part = folder.join(part);
                std::fs::create_dir_all(&part).with_context(|| format!("failed to create `{}`", part.display()))?;
            }
            self.shots()
                .into_par_iter()
                .try_for_each(|shot| self.save(&folder, shot))?;
            std::fs::write(&complete, "").with_context(|| format!("failed to write `{}`", complete.display()))?;
        }
        Ok(mvtec::load(&root, self.name)?)
    }

    fn shots(&self) -> Vec<Shot> {
        let [train, good, defective] = self.counts;
        let train = (0..train).map(|index| Shot::Train { index });
        let good = (0..good).map(|index| Shot::Good { index });
        let defective = (0..defective).map(|index| Shot::Defective {
            defect: index % 3,
            index,
        });
        train.chain(good).chain(defective).collect()
    }

    fn save(&self, folder: &Path, shot: Shot) -> Result<()> {
        let (part, index) = match shot {
            Shot::Train { index } => ("train/good", index),
            Shot::Good { index } => ("test/good", index),
            Shot::Defective { index, .. } => ("test/bad", index),
        };
        let rendered = render(0, &CATEGORIES[0], shot);
        let path = folder.join(format!("{part}/{index:03}.png"));
        enlarged(rendered.image, self.side)
            .save(&path)
            .with_context(|| format!("failed to write `{}`", path.display()))?;
        if let Some(mask) = rendered.mask {
            let path = folder.join(format!("ground_truth/bad/{index:03}_mask.png"));
            resize(&mask, self.side, self.side, FilterType::Nearest)
                .save(&path)
                .with_context(|| format!("failed to write `{}`", path.display()))?;
        }
        Ok(())
    }
}

/// The image at another side, with the grain of a sensor: a smooth enlargement would decode too fast.
fn enlarged(image: RgbImage, side: u32) -> RgbImage {
    if image.dimensions() == (side, side) {
        return image;
    }
    let mut large = resize(&image, side, side, FilterType::CatmullRom);
    let mut state = 1_u32;
    for value in large.iter_mut() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = value.saturating_add((state >> 30) as u8);
    }
    large
}
