//! Counter-based noise.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, bail};

use super::contiguous;
use crate::noise::{self, NoiseKey};

/// Adds `sigma` times the standard normals of `key` to a contiguous tensor, in place: element `i` of the tensor gets element
/// `i` of [`crate::noise::fill_normal`], with the same bits on every device.
///
/// # Errors
/// Where the tensor is not contiguous, or not f32.
pub fn add_normal(features: &Tensor, key: NoiseKey, sigma: f32) -> Result<()> {
    features.inplace_op1(&AddNormal { key, sigma })
}

struct AddNormal {
    key: NoiseKey,
    sigma: f32,
}

impl InplaceOp1 for AddNormal {
    fn name(&self) -> &'static str {
        "add-normal"
    }

    fn cpu_fwd(&self, features: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (start, end) = contiguous(layout)?;
        let dtype = features.dtype();
        let CpuStorage::F32(values) = features else {
            bail!("noise is added to f32, and the tensor is {dtype:?}");
        };
        let values = &mut values[start..end];
        let mut noise = [0.0; 4096];
        for (index, values) in values.chunks_mut(noise.len()).enumerate() {
            let noise = &mut noise[..values.len()];
            noise::fill_normal(noise, self.key, (index * 4096) as u64, self.sigma);
            values.iter_mut().zip(noise).for_each(|(value, noise)| *value += *noise);
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, features: &mut CudaStorage, layout: &Layout) -> Result<()> {
        use super::device;
        use crate::cuda::{Gpu, noise};

        let gpu = Gpu::of(features.device())?;
        noise::add_normal(&gpu, device::values(features, layout)?, self.key, self.sigma)
    }
}
