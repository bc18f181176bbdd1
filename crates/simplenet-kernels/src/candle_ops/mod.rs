//! The kernels as operations on candle's tensors, for programs that are written with candle: on its processor device they
//! are the functions of this crate, on its CUDA device (feature `cuda`) the kernels of `kernels/*.cu`. Tensors are f32.
//!
//! The detector and the experiments do without tensors ([`crate::engine`], and the module `cuda` of that feature).
//!
//! What stands in front of the head, [`bias_residual_activation`] for a backbone's convolutions, [`mean_embed`] and
//! [`code_embed`], has no gradient, as the backbone is frozen; nor have [`add_normal`] and [`anomaly_maps`].
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
//!
//! A discriminator trains with [`discriminator_scores`] and [`truncated_l1`], which candle's autograd goes back through, and
//! [`adam_step`]:
//!
//! ```
//! use candle_core::{DType::F32, Device, Result, Tensor, Var};
//! use simplenet_kernels::adam::AdamConfig;
//! use simplenet_kernels::candle_ops::{add_normal, adam_step, discriminator_scores, truncated_l1};
//! use simplenet_kernels::noise::NoiseKey;
//!
//! let random = |shape: &[usize], stream| -> Result<Tensor> {
//!     let tensor = Tensor::zeros(shape, F32, &Device::Cpu)?;
//!     add_normal(&tensor, NoiseKey { seed: 0, stream }, 0.5)?;
//!     Ok(tensor)
//! };
//! let (rows, dim, hidden) = (12, 6, 8);
//! let features = random(&[rows, dim], 1)?;
//! let ones = Tensor::ones(hidden, F32, &Device::Cpu)?;
//! let parameters = [random(&[dim, hidden], 2)?, ones.clone(), ones.zeros_like()?, random(&[hidden], 3)?];
//! let parameters = parameters.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
//! let [weight, gamma, beta, output] = &parameters[..] else { unreachable!() };
//! let moments = parameters.iter().map(|var| Ok([var.zeros_like()?, var.zeros_like()?])).collect::<Result<Vec<_>>>()?;
//!
//! let mut losses = Vec::new();
//! for step in 1..=20 {
//!     let noised = features.copy()?;
//!     add_normal(&noised, NoiseKey { seed: 1, stream: step as u64 }, 0.015)?;
//!     let z = Tensor::cat(&[&features, &noised], 0)?.matmul(weight)?;
//!     let scores = discriminator_scores(&z, gamma, beta, output, 1e-5, 0.2)?;
//!     let loss = truncated_l1(&scores.narrow(0, 0, rows)?, &scores.narrow(0, rows, rows)?, 0.5, -0.5)?;
//!     let gradients = loss.backward()?;
//!     for (parameter, [m, v]) in parameters.iter().zip(&moments) {
//!         let gradient = gradients.get(parameter).expect("the loss depends on all of them");
//!         adam_step(parameter, gradient, m, v, step, &AdamConfig::default())?;
//!     }
//!     losses.push(loss.to_scalar::<f32>()?);
//! }
//! assert!(losses[19] < losses[0]);
//! # Ok::<(), candle_core::Error>(())
//! ```

mod adam;
mod discriminator;
mod embed;
mod epilogue;
mod loss;
mod maps;
mod noise;

use candle_core::{CpuStorage, Layout, Result, Tensor, bail};

pub use self::adam::adam_step;
pub use self::discriminator::discriminator_scores;
pub use self::embed::{code_embed, mean_embed};
pub use self::epilogue::{ImageLayout, bias_residual_activation};
pub use self::loss::truncated_l1;
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

/// Refuses a tensor of another shape than `of`'s.
fn expect_shape(what: &str, tensor: &Tensor, of: &str, shape: &[usize]) -> Result<()> {
    if tensor.dims() == shape {
        return Ok(());
    }
    bail!(
        "{what} has shape {:?}, and {of} {shape:?}\n\nhint: the two have the same shape; see `Tensor::reshape`",
        tensor.dims()
    )
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
