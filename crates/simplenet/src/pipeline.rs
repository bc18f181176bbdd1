//! From files to patch features.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use simplenet_backbone::{Backbone, Extractor};
use simplenet_data::{Preprocess, Sample, load_images};
use simplenet_heads::{Bank, BankBuilder};

use crate::config::Config;
use crate::error::Error;

/// Images that are decoded and extracted at once: enough work for every thread, little memory (5 MB at 224 px).
const BATCH: usize = 8;

/// The frozen half of a detector: decoding, resizing, backbone, patch embedding.
pub struct Pipeline {
    preprocess: Preprocess,
    extractor: Extractor,
    grid: [usize; 2],
}

/// How much memory a bank may take, and where it goes beyond that.
#[derive(Debug, Clone)]
pub struct BankMemory {
    /// Bytes.
    pub budget: u64,
    /// Folder of the temporary file.
    pub spill: PathBuf,
}

impl BankMemory {
    /// `budget` bytes, then a file in the system's folder for temporary files.
    pub fn new(budget: u64) -> BankMemory {
        BankMemory {
            budget,
            spill: std::env::temp_dir(),
        }
    }

    /// The same with another folder.
    pub fn spill_to(self, folder: &Path) -> BankMemory {
        BankMemory {
            spill: folder.to_path_buf(),
            ..self
        }
    }
}

impl Pipeline {
    /// Joins the backbone with the configuration's sizes and patch embedding. Mean and standard deviation of the pixels come
    /// from the backbone's description.
    pub fn new(config: &Config, backbone: &Backbone) -> Result<Pipeline, Error> {
        let description = backbone.arch().describe();
        let sizes = config.preprocess;
        let preprocess = Preprocess::new(sizes.resize, sizes.crop, description.mean, description.std)?;
        let extractor = Extractor::new(backbone, config.feature_config(), config.features.precision)?;
        let grid = extractor.config().grid(sizes.crop, sizes.crop);
        Ok(Pipeline {
            preprocess,
            extractor,
            grid,
        })
    }

    /// How images become network inputs.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Channels of a patch feature.
    pub fn dim(&self) -> usize {
        self.extractor.dim()
    }

    /// Rows and columns of the patch grid of one image.
    pub fn grid(&self) -> [usize; 2] {
        self.grid
    }

    /// The features of one prepared batch `[images, 3, crop, crop]`: `[images · grid, dim]`.
    pub fn features(&self, images: &[f32]) -> Result<Vec<f32>, Error> {
        let crop = self.preprocess.crop();
        let count = images.len() / self.preprocess.input_len();
        Ok(self.extractor.extract(images, [count, 3, crop, crop])?.data)
    }

    /// Decodes and extracts `samples`, in their order; `after` hears how many are done. Also says how long it took.
    pub fn bank<E: From<Error>>(
        &self,
        samples: &[Sample],
        memory: &BankMemory,
        mut after: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(Bank, Duration), E> {
        let start = Instant::now();
        let patches = self.grid[0] * self.grid[1];
        let mut builder = BankBuilder::new(self.dim(), patches, memory.budget, &memory.spill).map_err(Error::Heads)?;
        for (batch, samples) in samples.chunks(BATCH).enumerate() {
            let images = load_images(samples, &self.preprocess).map_err(Error::Data)?;
            let rows = self.features(&images)?;
            builder.push(&rows).map_err(Error::Heads)?;
            after(batch * BATCH + samples.len())?;
        }
        let bank = builder.finish().map_err(Error::Heads)?;
        Ok((bank, start.elapsed()))
    }
}
