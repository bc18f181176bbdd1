//! What follows a convolution.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, backend::BackendStorage};
use rayon::prelude::*;

use super::{expect_shape, values};
use crate::graph::Activation;

/// Values that one task makes, at least.
const VALUES_PER_TASK: usize = 1 << 14;

/// Where the channels of an image are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageLayout {
    /// `[N, C, H, W]`, as candle's convolutions make them.
    ChannelsFirst,
    /// `[N, H, W, C]`, as the engines of this crate make them.
    ChannelsLast,
}

/// `activation(x + bias + residual)` in one pass: what a convolution with batch norm folded into it leaves to do
/// ([`crate::graph::Conv`]). `x` and the residual are `[N, C, H, W]` or `[N, H, W, C]`, as `layout` says, `bias` is `[C]`;
/// the result has the shape of `x`, and the same bits on every device, but for those of a NaN, which stays one.
///
/// # Errors
/// Where shapes do not fit, or a tensor is not contiguous or not f32.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use simplenet_kernels::candle_ops::{ImageLayout, bias_residual_activation};
/// use simplenet_kernels::graph::Activation;
///
/// let x = Tensor::new(&[[[[-1.0_f32, 2.0]], [[3.0, 9.0]]]], &Device::Cpu)?; // one row of two pixels, two channels
/// let bias = Tensor::new(&[0.5_f32, -1.0], &Device::Cpu)?;
/// let out = bias_residual_activation(&x, &bias, None, Activation::Relu6, ImageLayout::ChannelsFirst)?;
/// assert_eq!(out.flatten_all()?.to_vec1::<f32>()?, [0.0, 2.5, 2.0, 6.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn bias_residual_activation(
    x: &Tensor,
    bias: &Tensor,
    residual: Option<&Tensor>,
    activation: Activation,
    layout: ImageLayout,
) -> Result<Tensor> {
    let (_, second, third, fourth) = x.dims4()?;
    let (channels, inner) = match layout {
        ImageLayout::ChannelsFirst => (second, third * fourth),
        ImageLayout::ChannelsLast => (fourth, 1),
    };
    if bias.dims() != [channels] {
        bail!(
            "the bias has shape {:?}, and `x` of shape {:?} has {channels} channels in the layout {layout:?}\n\nhint: the \
             bias is [channels]; `layout` says where they are",
            bias.dims(),
            x.dims()
        );
    }
    let epilogue = Epilogue { inner, activation };
    match residual {
        Some(residual) => {
            expect_shape("the residual", residual, "`x`", x.dims())?;
            x.apply_op3_no_bwd(bias, residual, &epilogue)
        }
        None => x.apply_op2_no_bwd(bias, &epilogue),
    }
}

/// Value `i` belongs to channel `i / inner % channels`.
struct Epilogue {
    inner: usize,
    activation: Activation,
}

impl Epilogue {
    const NAME: &'static str = "bias-residual-activation";

    fn on_processor(&self, x: &[f32], bias: &[f32], residual: Option<&[f32]>) -> CpuStorage {
        let mut out = vec![0.0; x.len()];
        let (inner, channels) = (self.inner, bias.len());
        let bounds = bounds(self.activation);
        // Whole rows of channels, or whole planes of a channel.
        let unit = if inner == 1 { channels } else { inner }.max(1);
        let per_task = VALUES_PER_TASK.next_multiple_of(unit);
        let tasks = out.par_chunks_mut(per_task).zip(x.par_chunks(per_task)).enumerate();
        tasks.for_each(|(task, (out, x))| {
            let residual = residual.map(|residual| &residual[task * per_task..][..out.len()]);
            let units = out.chunks_exact_mut(unit).zip(x.chunks_exact(unit)).enumerate();
            for (at, (out, x)) in units {
                let residual = residual.map(|residual| &residual[at * unit..][..unit]);
                if inner == 1 {
                    let sums = x.iter().zip(bias).map(|(x, bias)| x + bias);
                    finish(out, sums, residual, bounds);
                } else {
                    let bias = bias[(task * (per_task / unit) + at) % channels];
                    finish(out, x.iter().map(|x| x + bias), residual, bounds);
                }
            }
        });
        CpuStorage::F32(out)
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(
        &self,
        (x, layout): (&CudaStorage, &Layout),
        (bias, bias_layout): (&CudaStorage, &Layout),
        residual: Option<(&CudaStorage, &Layout)>,
    ) -> Result<(CudaStorage, Shape)> {
        use super::device;
        use crate::cuda::{Gpu, epilogue};

        let gpu = Gpu::of(x.device())?;
        let x = device::values(x, layout)?;
        let bias = device::values(bias, bias_layout)?;
        let residual = residual
            .map(|(residual, layout)| device::values(residual, layout))
            .transpose()?;
        let out = gpu.zeros(x.len())?;
        // Empty tensors are memory of one value on the device.
        let all = out.range(0..x.len());
        epilogue::bias_activation(&gpu, x, bias, residual, all, self.inner, self.activation)?;
        Ok((device::storage(&gpu, out), layout.shape().clone()))
    }
}

/// What an activation lets through.
fn bounds(activation: Activation) -> [f32; 2] {
    match activation {
        Activation::Linear => [f32::NEG_INFINITY, f32::INFINITY],
        Activation::Relu => [0.0, f32::INFINITY],
        Activation::Relu6 => [0.0, 6.0],
    }
}

fn finish(out: &mut [f32], sums: impl Iterator<Item = f32>, residual: Option<&[f32]>, [low, high]: [f32; 2]) {
    // NaN fails both comparisons and passes.
    let activate = |sum: f32| {
        let sum = if sum < low { low } else { sum };
        if sum > high { high } else { sum }
    };
    match residual {
        Some(residual) => {
            let all = out.iter_mut().zip(sums.zip(residual));
            all.for_each(|(out, (sum, residual))| *out = activate(sum + residual));
        }
        None => out.iter_mut().zip(sums).for_each(|(out, sum)| *out = activate(sum)),
    }
}

impl CustomOp2 for Epilogue {
    fn name(&self) -> &'static str {
        Epilogue::NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, l1: &Layout, bias: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = self.on_processor(values(x, l1)?, values(bias, l2)?, None);
        Ok((out, l1.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, l1: &Layout, bias: &CudaStorage, l2: &Layout) -> Result<(CudaStorage, Shape)> {
        self.on_gpu((x, l1), (bias, l2), None)
    }
}

impl CustomOp3 for Epilogue {
    fn name(&self) -> &'static str {
        Epilogue::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        l1: &Layout,
        bias: &CpuStorage,
        l2: &Layout,
        residual: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let out = self.on_processor(values(x, l1)?, values(bias, l2)?, Some(values(residual, l3)?));
        Ok((out, l1.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        l1: &Layout,
        bias: &CudaStorage,
        l2: &Layout,
        residual: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.on_gpu((x, l1), (bias, l2), Some((residual, l3)))
    }
}
