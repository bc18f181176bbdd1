//! From files to patch features.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[cfg(feature = "cuda")]
use simplenet_backbone::GpuExtractor;
use simplenet_backbone::{Backbone, BackboneError, Extractor, Layer, Precision, join};
use simplenet_data::{Preprocess, Sample, load_images};
#[cfg(feature = "cuda")]
use simplenet_heads::cuda::DeviceBank;
use simplenet_heads::{Bank, BankBuilder};

use crate::config::Config;
use crate::device::{Device, FeatureBank};
use crate::error::Error;
use crate::method::Model;

/// Images that are decoded and extracted at once: enough work for every thread, little memory (5 MB at 224 px).
const BATCH: usize = 8;

/// The same for a GPU, which wants more at a time.
#[cfg(feature = "cuda")]
const GPU_BATCH: usize = 32;

/// The frozen half of a detector: decoding, resizing, backbone, patch embedding.
pub struct Pipeline {
    preprocess: Preprocess,
    extractor: AnyExtractor,
    precision: Precision,
    grid: [usize; 2],
}

enum AnyExtractor {
    Cpu(Extractor),
    #[cfg(feature = "cuda")]
    Cuda(GpuExtractor),
}

/// What a model scores.
pub enum Features {
    /// One row per patch, `[images · grid, dim]`.
    Rows(Vec<f32>),
    /// Every stage on its own grid, `[images, rows, columns, channels]` each; the first one's is the patch grid.
    Layers(Vec<Layer>),
}

impl Features {
    /// One row per patch, whatever was scored: stages are joined here where they were not.
    ///
    /// # Errors
    /// [`Error::Backbone`] where stages do not fit one another.
    pub fn rows(&self) -> Result<Cow<'_, [f32]>, Error> {
        Ok(match self {
            Features::Rows(rows) => Cow::Borrowed(rows),
            Features::Layers(layers) => Cow::Owned(join(layers).map_err(BackboneError::from)?.data),
        })
    }
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
        Pipeline::on(&Device::Cpu, config, backbone)
    }

    /// [`Pipeline::new`] with the backbone on `device`.
    pub fn on(device: &Device, config: &Config, backbone: &Backbone) -> Result<Pipeline, Error> {
        let description = backbone.arch().describe();
        let sizes = config.preprocess;
        let preprocess = Preprocess::new(sizes.resize, sizes.crop, description.mean, description.std)?;
        let features = config.feature_config();
        let precision = config.features.precision;
        let grid = features.grid(sizes.crop, sizes.crop);
        let extractor = match device {
            Device::Cpu => AnyExtractor::Cpu(Extractor::new(backbone, features, precision)?),
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) => AnyExtractor::Cuda(GpuExtractor::new(backbone, features, gpu, precision)?),
        };
        Ok(Pipeline {
            preprocess,
            extractor,
            precision,
            grid,
        })
    }

    /// How images become network inputs.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Arithmetic of inference.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Channels of a patch feature.
    pub fn dim(&self) -> usize {
        match &self.extractor {
            AnyExtractor::Cpu(extractor) => extractor.dim(),
            #[cfg(feature = "cuda")]
            AnyExtractor::Cuda(extractor) => extractor.dim(),
        }
    }

    /// Rows and columns of the patch grid of one image.
    pub fn grid(&self) -> [usize; 2] {
        self.grid
    }

    /// The features of one prepared batch `[images, 3, crop, crop]`: `[images · grid, dim]`.
    pub fn features(&self, images: &[f32]) -> Result<Vec<f32>, Error> {
        let crop = self.preprocess.crop();
        let count = images.len() / self.preprocess.input_len();
        let shape = [count, 3, crop, crop];
        match &self.extractor {
            AnyExtractor::Cpu(extractor) => Ok(extractor.extract(images, shape)?.data),
            #[cfg(feature = "cuda")]
            AnyExtractor::Cuda(extractor) => {
                let patches = self.grid[0] * self.grid[1];
                let bank = DeviceBank::new(extractor.gpu(), count, patches, extractor.dim())?;
                extractor.extract(images, shape, bank.slot(0, count))?;
                Ok(bank.all()?)
            }
        }
    }

    /// What `model` scores of one prepared batch `[images, 3, crop, crop]`: stages that are not joined yet where it is linear
    /// up to its hidden units, since they are cheaper to score, and rows otherwise.
    ///
    /// # Errors
    /// [`Error::Backbone`], and with a GPU [`Error::Heads`], where the device fails.
    pub fn features_for(&self, model: &Model, images: &[f32]) -> Result<Features, Error> {
        match (&self.extractor, model) {
            (AnyExtractor::Cpu(extractor), Model::SimpleNet(network)) if network.is_linear() => {
                let crop = self.preprocess.crop();
                let count = images.len() / self.preprocess.input_len();
                Ok(Features::Layers(
                    extractor.extract_layers(images, [count, 3, crop, crop])?,
                ))
            }
            _ => Ok(Features::Rows(self.features(images)?)),
        }
    }

    /// The patch scores `[images · grid]` of a batch's features; higher is more anomalous. Layers and rows of the same
    /// images have the same scores to rounding.
    ///
    /// # Errors
    /// [`Error::Features`] for layers and a model that needs rows; as [`Model::score`].
    pub fn score(&self, model: &Model, features: &Features) -> Result<Vec<f32>, Error> {
        match (features, model) {
            (Features::Layers(layers), Model::SimpleNet(network)) => network.score_layers(layers),
            (Features::Layers(_), _) => Err(Error::Features(model.name())),
            (Features::Rows(rows), _) => {
                let image = self.grid[0] * self.grid[1] * self.dim();
                // Whole images: a rest is refused by the model.
                let scores = rows.chunks(image).map(|rows| model.score(rows));
                Ok(scores.collect::<Result<Vec<_>, _>>()?.concat())
            }
        }
    }

    /// [`Pipeline::bank`] on the device of this pipeline: a GPU keeps the features in its own memory.
    pub fn feature_bank<E: From<Error>>(
        &self,
        samples: &[Sample],
        memory: &BankMemory,
        after: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(FeatureBank, Duration), E> {
        match &self.extractor {
            AnyExtractor::Cpu(_) => {
                let (bank, time) = self.bank(samples, memory, after)?;
                Ok((FeatureBank::Host(bank), time))
            }
            #[cfg(feature = "cuda")]
            AnyExtractor::Cuda(extractor) => {
                let (bank, time) = self.device_bank(extractor, samples, after)?;
                Ok((FeatureBank::Cuda(bank), time))
            }
        }
    }

    /// Images are decoded while the GPU works on those before.
    #[cfg(feature = "cuda")]
    fn device_bank<E: From<Error>>(
        &self,
        extractor: &GpuExtractor,
        samples: &[Sample],
        mut after: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(DeviceBank, Duration), E> {
        let start = Instant::now();
        let (patches, crop) = (self.grid[0] * self.grid[1], self.preprocess.crop());
        let bank = DeviceBank::new(extractor.gpu(), samples.len(), patches, extractor.dim()).map_err(Error::Heads)?;
        for (batch, samples) in samples.chunks(GPU_BATCH).enumerate() {
            let images = load_images(samples, &self.preprocess).map_err(Error::Data)?;
            let rows = bank.slot(batch * GPU_BATCH, samples.len());
            let shape = [samples.len(), 3, crop, crop];
            extractor.extract(&images, shape, rows).map_err(Error::Backbone)?;
            after(batch * GPU_BATCH + samples.len())?;
        }
        bank.check_finite().map_err(Error::Heads)?;
        Ok((bank, start.elapsed()))
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
