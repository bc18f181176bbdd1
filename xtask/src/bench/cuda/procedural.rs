//! Procedural images in MVTec AD's layout: what a category takes depends on how many and how large they are.

use std::path::Path;

use anyhow::{Context, Result};
use image::imageops::{FilterType, resize};
use rayon::prelude::*;
use simplenet_data::toy::{CATEGORIES, Shot, render};
use simplenet_data::{Dataset, mvtec};

use crate::bench::random::enlarged;

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
        enlarged(&rendered.image, self.side)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_is_a_category_whose_defects_have_masks_of_their_size() {
        let cache = tempfile::tempdir().unwrap();
        let drawing = Drawing {
            name: "small",
            side: 300,
            counts: [2, 2, 4],
        };
        let dataset = drawing.load(cache.path()).unwrap();
        let anomalous = dataset.test.iter().filter(|sample| sample.anomalous).count();
        assert_eq!((dataset.train.len(), dataset.test.len(), anomalous), (2, 6, 4));
        let folder = cache.path().join("procedural-bench/small");
        for index in 0..4 {
            let mask = image::open(folder.join(format!("ground_truth/bad/{index:03}_mask.png"))).unwrap();
            let mask = mask.into_luma8();
            assert_eq!(mask.dimensions(), (300, 300));
            assert!(mask.pixels().any(|pixel| pixel.0[0] > 127), "mask {index} is empty");
        }
        // An interrupted drawing begins again, a complete one is kept.
        std::fs::remove_file(folder.join("test/good/001.png")).unwrap();
        assert_eq!(drawing.load(cache.path()).unwrap().test.len(), 5);
        std::fs::remove_file(folder.join("complete")).unwrap();
        assert_eq!(drawing.load(cache.path()).unwrap().test.len(), 6);
    }
}
