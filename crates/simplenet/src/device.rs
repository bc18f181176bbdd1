//! Where the work is done: on the processor, or on an NVIDIA GPU.
//!
//! The types here say "either" for what lies on one or the other; a build without the feature `cuda` has the processor only.

use std::borrow::Cow;
use std::ops::{ControlFlow, Deref};

#[cfg(feature = "cuda")]
use simplenet_heads::BankBuilder;
#[cfg(feature = "cuda")]
use simplenet_heads::cuda::{self, DeviceBank, DeviceHead};
use simplenet_heads::{Bank, EpochReport, Head, Precision, Standardizer, TrainConfig};
#[cfg(feature = "cuda")]
use simplenet_kernels::cuda::{Gpu, Products};
#[cfg(feature = "cuda")]
use simplenet_kernels::maps;

use crate::error::Error;
use crate::evaluation::Scores;
use crate::pipeline::BankMemory;

/// What computes.
#[derive(Clone, Default)]
pub enum Device {
    /// The processor, with all of rayon's threads.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    #[cfg(feature = "cuda")]
    Cuda(Gpu),
}

/// The features of an image set on the device that extracted them.
pub enum FeatureBank {
    /// In memory or in a temporary file.
    Host(Bank),
    /// In a GPU's memory.
    #[cfg(feature = "cuda")]
    Cuda(DeviceBank),
}

/// A feature bank on the host.
pub enum HostBank<'a> {
    /// Where the features were extracted.
    Own(&'a Bank),
    /// Copied from a GPU.
    Copy(Bank),
}

impl Deref for HostBank<'_> {
    type Target = Bank;

    fn deref(&self) -> &Bank {
        match self {
            HostBank::Own(bank) => bank,
            HostBank::Copy(bank) => bank,
        }
    }
}

/// A head in training, where it is.
pub enum HeadInTraining<'a> {
    /// On the host.
    Host(&'a Head),
    /// On a GPU.
    #[cfg(feature = "cuda")]
    Cuda(&'a DeviceHead),
}

impl Device {
    /// GPU `ordinal`, counted from 0.
    ///
    /// # Errors
    /// [`Error::Device`] where there is none, or this build cannot use it.
    pub fn cuda(ordinal: usize) -> Result<Device, Error> {
        #[cfg(feature = "cuda")]
        {
            let gpu = Gpu::new(ordinal).map_err(|error| Error::Device(format!("cannot use GPU {ordinal}: {error}")))?;
            Ok(Device::Cuda(gpu))
        }
        #[cfg(not(feature = "cuda"))]
        {
            Err(Error::Device(format!(
                "cannot use GPU {ordinal}: this program was built without CUDA\n\nhint: build it with `--features cuda`, or \
                 use `--device cpu`"
            )))
        }
    }

    /// `cpu` or `cuda`.
    pub fn name(&self) -> &'static str {
        match self {
            Device::Cpu => "cpu",
            #[cfg(feature = "cuda")]
            Device::Cuda(_) => "cuda",
        }
    }
}

impl FeatureBank {
    /// Number of images, at least 1.
    pub fn images(&self) -> usize {
        match self {
            FeatureBank::Host(bank) => bank.images(),
            #[cfg(feature = "cuda")]
            FeatureBank::Cuda(bank) => bank.images(),
        }
    }

    /// Channels of a patch.
    pub fn dim(&self) -> usize {
        match self {
            FeatureBank::Host(bank) => bank.dim(),
            #[cfg(feature = "cuda")]
            FeatureBank::Cuda(bank) => bank.dim(),
        }
    }

    /// The features of an image, `[patches, dim]`.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn image(&self, index: usize) -> Result<Cow<'_, [f32]>, Error> {
        match self {
            FeatureBank::Host(bank) => Ok(Cow::Borrowed(bank.image(index))),
            #[cfg(feature = "cuda")]
            FeatureBank::Cuda(bank) => Ok(Cow::Owned(bank.image(index)?)),
        }
    }

    /// Mean and deviation of every channel over the bank.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn standardizer(&self) -> Result<Standardizer, Error> {
        match self {
            FeatureBank::Host(bank) => Ok(Standardizer::fit(bank)),
            #[cfg(feature = "cuda")]
            FeatureBank::Cuda(bank) => Ok(bank.standardizer()?),
        }
    }

    /// The bank on the host, for what runs there only: a GPU's is copied, within `memory`.
    ///
    /// # Errors
    /// Where the device fails, or the copy cannot be kept.
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "nothing is copied"))]
    pub fn host(&self, memory: &BankMemory) -> Result<HostBank<'_>, Error> {
        match self {
            FeatureBank::Host(bank) => Ok(HostBank::Own(bank)),
            #[cfg(feature = "cuda")]
            FeatureBank::Cuda(bank) => {
                let mut copy = BankBuilder::new(bank.dim(), bank.rows_per_image(), memory.budget, &memory.spill)?;
                for image in 0..bank.images() {
                    copy.push(&bank.image(image)?)?;
                }
                Ok(HostBank::Copy(copy.finish()?))
            }
        }
    }

    /// Trains `head` on this bank, on the device where it is ([`simplenet_heads::train`]).
    ///
    /// # Errors
    /// Those of the training and of `after_epoch`.
    pub fn train<E: From<simplenet_heads::Error>>(
        &self,
        head: &mut Head,
        config: &TrainConfig,
        seed: u64,
        mut after_epoch: impl FnMut(&EpochReport, HeadInTraining<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        match self {
            FeatureBank::Host(bank) => simplenet_heads::train(head, bank, config, seed, |report, head| {
                after_epoch(report, HeadInTraining::Host(head))
            }),
            #[cfg(feature = "cuda")]
            FeatureBank::Cuda(bank) => {
                cuda::train(head, bank, config, config.precision.into(), seed, |report, head| {
                    after_epoch(report, HeadInTraining::Cuda(head))
                })
            }
        }
    }
}

impl HeadInTraining<'_> {
    /// Scores every patch of a bank on the same device, whose images have `grid` = rows × columns patches, in the precision of
    /// inference; for bf16 a GPU multiplies in TF32, which rounds less.
    ///
    /// # Errors
    /// [`Error::Device`] where the bank is elsewhere, and those of the scoring.
    pub fn score(&self, bank: &FeatureBank, grid: [usize; 2], precision: Precision) -> Result<Scores, Error> {
        match (self, bank) {
            (HeadInTraining::Host(head), FeatureBank::Host(bank)) => Scores::of(head, bank, grid, precision),
            #[cfg(feature = "cuda")]
            (HeadInTraining::Cuda(head), FeatureBank::Cuda(bank)) => {
                let patches = head.score(bank, Products::from(precision).math())?;
                let shape = [bank.images(), grid[0], grid[1]];
                let images = maps::image_scores(&patches, shape)?;
                Ok(Scores { patches, images, shape })
            }
            #[cfg(feature = "cuda")]
            _ => Err(Error::Device("the head and the features lie on two devices".into())),
        }
    }
}
