//! The training loss.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, backend::BackendStorage};

use super::{expect_shape, values};

/// The truncated L1 loss (Eq. 7 of Liu et al. 2023) of the scores D `[n]` of normal and of noised features, a scalar: mean
/// of `max(0, th⁺ − D(normal))` plus mean of `max(0, D(noised) − th⁻)`. The paper has th⁺ = 0.5 and th⁻ = −0.5.
///
/// It has a gradient with respect to both; at a margin itself it is not zero, as with `torch.clip`. NaN makes the loss NaN.
///
/// # Errors
/// Where the scores are none, not of one shape `[n]`, not contiguous or not f32.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use simplenet_kernels::candle_ops::truncated_l1;
///
/// let normal = Tensor::new(&[0.25_f32, 0.75], &Device::Cpu)?;
/// let noised = Tensor::new(&[-0.75_f32, 1.0], &Device::Cpu)?;
/// assert_eq!(truncated_l1(&normal, &noised, 0.5, -0.5)?.to_scalar::<f32>()?, 0.125 + 0.75);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn truncated_l1(normal: &Tensor, noised: &Tensor, th_plus: f64, th_minus: f64) -> Result<Tensor> {
    let rows = normal.dims1()?;
    expect_shape("the scores of noised features", noised, "those of normal ones", &[rows])?;
    if rows == 0 {
        bail!("0 scores have no mean\n\nhint: give the scores of at least one normal and one noised feature");
    }
    let margins = [th_plus as f32, th_minus as f32];
    normal.apply_op2(noised, TruncatedL1 { margins })
}

/// Of scores `[n]` each to a scalar.
struct TruncatedL1 {
    /// th⁺ and th⁻.
    margins: [f32; 2],
}

/// Of the same and the gradient of the scalar to `[2, n]`.
struct Back {
    margins: [f32; 2],
}

impl CustomOp2 for TruncatedL1 {
    fn name(&self) -> &'static str {
        "truncated-l1"
    }

    fn cpu_fwd(
        &self,
        normal: &CpuStorage,
        l1: &Layout,
        noised: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (normal, noised) = (values(normal, l1)?, values(noised, l2)?);
        let [positive, negative] = self.margins.map(f64::from);
        // NaN must stay NaN, and f64::max would drop it.
        let truncated = |x: f64| if x < 0.0 { 0.0 } else { x };
        let sum = |scores: &[f32], of: &dyn Fn(f64) -> f64| scores.iter().map(|&d| of(d.into())).sum::<f64>();
        let below = sum(normal, &|d| truncated(positive - d));
        let above = sum(noised, &|d| truncated(d - negative));
        let loss = ((below + above) / normal.len() as f64) as f32;
        Ok((CpuStorage::F32(vec![loss]), ().into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        normal: &CudaStorage,
        l1: &Layout,
        noised: &CudaStorage,
        l2: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        use super::device;
        use crate::cuda::{Gpu, discriminator};

        let gpu = Gpu::of(normal.device())?;
        let scores = [device::values(normal, l1)?, device::values(noised, l2)?];
        let loss = gpu.zeros(1)?;
        discriminator::truncated_l1(&gpu, scores, self.margins, loss.all())?;
        Ok((device::storage(&gpu, loss), ().into()))
    }

    fn bwd(
        &self,
        normal: &Tensor,
        noised: &Tensor,
        _loss: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let back = Back { margins: self.margins };
        let both = normal.apply_op3_no_bwd(noised, gradient, &back)?;
        Ok((Some(both.get(0)?), Some(both.get(1)?)))
    }
}

impl CustomOp3 for Back {
    fn name(&self) -> &'static str {
        "truncated-l1-back"
    }

    fn cpu_fwd(
        &self,
        normal: &CpuStorage,
        l1: &Layout,
        noised: &CpuStorage,
        l2: &Layout,
        gradient: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (normal, noised) = (values(normal, l1)?, values(noised, l2)?);
        let rows = normal.len();
        let [positive, negative] = self.margins;
        let share = values(gradient, l3)?[0] * (1.0 / rows as f64) as f32;
        let of_normal = normal
            .iter()
            .map(|&score| if positive - score >= 0.0 { -share } else { 0.0 });
        let of_noised = noised
            .iter()
            .map(|&score| if score - negative >= 0.0 { share } else { 0.0 });
        Ok((CpuStorage::F32(of_normal.chain(of_noised).collect()), (2, rows).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        normal: &CudaStorage,
        l1: &Layout,
        noised: &CudaStorage,
        l2: &Layout,
        gradient: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        use super::device;
        use crate::cuda::{Gpu, discriminator};

        let gpu = Gpu::of(normal.device())?;
        let scores = [device::values(normal, l1)?, device::values(noised, l2)?];
        let rows = scores[0].len();
        let out = gpu.zeros(2 * rows)?;
        let gradient = device::values(gradient, l3)?;
        discriminator::truncated_l1_back(&gpu, scores, gradient, self.margins, out.all())?;
        Ok((device::storage(&gpu, out), (2, rows).into()))
    }
}
