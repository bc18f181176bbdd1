//! The kernels as operations on candle's tensors, for programs that are written with candle: on its processor device they
//! are the functions of this crate, on its CUDA device (feature `cuda`) the kernels of `kernels/*.cu`.
//!
//! The detector and the experiments do without tensors ([`crate::engine`], and the module `cuda` of that feature). Tensors
//! are f32; operations have no gradient, as the backbone in front of them is frozen.
//!
//! ```
//! use candle_core::{DType::F32, Device, Tensor};
//! use simplenet_kernels::candle_ops::{add_normal, anomaly_maps, mean_embed};
//! use simplenet_kernels::noise::NoiseKey;
//!
//! let layer2 = Tensor::ones((1, 8, 4, 4), F32, &Device::Cpu)?;
//! let layer3 = Tensor::ones((1, 16, 2, 2), F32, &Device::Cpu)?;
//! let rows = mean_embed(&[layer2, layer3], 3)?;
//! assert_eq!(rows.dims(), [16, 24]);
//! add_normal(&rows, NoiseKey { seed: 0, stream: 0 }, 0.015)?;
//! let scores = rows.mean(1)?.reshape((1, 4, 4))?;
//! assert_eq!(anomaly_maps(&scores, [32, 32], 4.0)?.dims(), [1, 32, 32]);
//! # Ok::<(), candle_core::Error>(())
//! ```

mod embed;
mod maps;
mod noise;

use candle_core::{CpuStorage, Layout, Result, bail};

pub use self::embed::{code_embed, mean_embed};
pub use self::maps::anomaly_maps;
pub use self::noise::add_normal;

/// The values of a contiguous tensor on the processor.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = contiguous(layout)?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Where a contiguous tensor begins and ends in its storage.
fn contiguous(layout: &Layout) -> Result<(usize, usize)> {
    match layout.contiguous_offsets() {
        Some(offsets) => Ok(offsets),
        None => bail!(
            "the tensor is not contiguous: shape {:?}, strides {:?}\n\nhint: call `contiguous` on it",
            layout.dims(),
            layout.stride()
        ),
    }
}

#[cfg(feature = "cuda")]
mod device {
    use candle_core::{CudaStorage, Layout, Result};

    use super::contiguous;
    use crate::cuda::{Buffer, Gpu, Span};

    /// The values of a contiguous tensor on a GPU.
    pub(super) fn values<'a>(storage: &'a CudaStorage, layout: &Layout) -> Result<Span<'a, f32>> {
        let (start, end) = contiguous(layout)?;
        Ok(Span::of(storage.as_cuda_slice::<f32>()?).range(start..end))
    }

    /// What an operation made, as candle keeps it.
    pub(super) fn storage(gpu: &Gpu, buffer: Buffer<f32>) -> CudaStorage {
        CudaStorage::wrap_cuda_slice(buffer.into_slice(), gpu.candle().clone())
    }
}
