//! The features of an image set in device memory.

use simplenet_kernels::cuda::hidden::{all_finite, channel_sums};
use simplenet_kernels::cuda::{Buffer, Gpu, Span};

use crate::bank::Bank;
use crate::error::{Error, Result};
use crate::standardize::Standardizer;

/// The patch features of an image set on a GPU: `rows_per_image` rows of `dim` values for every image.
pub struct DeviceBank {
    gpu: Gpu,
    rows: Buffer<f32>,
    images: usize,
    rows_per_image: usize,
    dim: usize,
}

impl DeviceBank {
    /// Room for `images` images, to be filled by way of [`DeviceBank::slot`].
    ///
    /// # Errors
    /// [`Error::EmptyBank`] where a size is 0, [`Error::DeviceMemory`] where the GPU has too little room.
    pub fn new(gpu: &Gpu, images: usize, rows_per_image: usize, dim: usize) -> Result<DeviceBank> {
        let values = images * rows_per_image * dim;
        if values == 0 {
            return Err(Error::EmptyBank);
        }
        let (free, _) = gpu.memory()?;
        let needed = values * size_of::<f32>();
        if needed > free {
            return Err(Error::DeviceMemory { needed, free });
        }
        Ok(DeviceBank {
            rows: gpu.zeros(values)?,
            gpu: gpu.clone(),
            images,
            rows_per_image,
            dim,
        })
    }

    /// A copy of a bank on the host.
    ///
    /// # Errors
    /// As [`DeviceBank::new`].
    pub fn upload(gpu: &Gpu, bank: &Bank) -> Result<DeviceBank> {
        let device = DeviceBank::new(gpu, bank.images(), bank.rows_per_image(), bank.dim())?;
        for image in 0..bank.images() {
            gpu.write(device.slot(image, 1), bank.image(image))?;
        }
        gpu.synchronize()?;
        Ok(device)
    }

    /// Where the rows of `count` images from `first` on lie, `[count · rows_per_image, dim]`.
    ///
    /// # Panics
    /// Where the bank has no such images, as a slice would.
    pub fn slot(&self, first: usize, count: usize) -> Span<'_, f32> {
        let size = self.rows_per_image * self.dim;
        self.rows.range(first * size..(first + count) * size)
    }

    /// Refuses features that are NaN or infinite; waits for the device.
    ///
    /// # Errors
    /// [`Error::FeatureNotFinite`] with the first of them.
    pub fn check_finite(&self) -> Result<()> {
        if all_finite(&self.gpu, self.rows.all())? {
            return Ok(());
        }
        for image in 0..self.images {
            let rows = self.gpu.download(self.slot(image, 1))?;
            if let Some(index) = rows.iter().position(|value| !value.is_finite()) {
                return Err(Error::FeatureNotFinite {
                    image,
                    row: index / self.dim,
                    channel: index % self.dim,
                    value: rows[index],
                });
            }
        }
        Ok(())
    }

    /// Mean and 1/deviation of every channel over the bank, as [`Standardizer::fit`].
    ///
    /// # Errors
    /// Where the device fails.
    pub fn standardizer(&self) -> Result<Standardizer> {
        let sums = channel_sums(&self.gpu, self.rows.all(), self.dim)?;
        let shift = self.gpu.download(self.rows.range(0..self.dim))?;
        Ok(Standardizer::from_moments(
            &shift,
            sums.split_at(self.dim),
            self.rows() as f64,
        ))
    }

    /// The features of an image on the host, `[rows_per_image, dim]`.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn image(&self, index: usize) -> Result<Vec<f32>> {
        Ok(self.gpu.download(self.slot(index, 1))?)
    }

    /// The features of all images on the host, `[images · rows_per_image, dim]`.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn all(&self) -> Result<Vec<f32>> {
        Ok(self.gpu.download(self.rows.all())?)
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Number of images, at least 1.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Patches of an image.
    pub fn rows_per_image(&self) -> usize {
        self.rows_per_image
    }

    /// Patches of all images.
    pub fn rows(&self) -> usize {
        self.images * self.rows_per_image
    }

    /// Channels of a patch.
    pub fn dim(&self) -> usize {
        self.dim
    }
}
