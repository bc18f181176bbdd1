//! The optimiser.

use std::cell::Cell;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Storage, Tensor, bail};
use rayon::prelude::*;

use super::{contiguous, expect_shape, values};

/// Values that one task updates.
const VALUES_PER_TASK: usize = 1 << 13;

/// Adam (Kingma and Ba 2015) or AdamW (Loshchilov and Hutter 2019), as PyTorch computes them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamConfig {
    /// Step size.
    pub lr: f64,
    /// Decay of the first moment, from 0 to below 1.
    pub beta1: f64,
    /// Decay of the second moment, from 0 to below 1.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay; what it means is for `decoupled` to say.
    pub weight_decay: f64,
    /// `false`: the decay is added to the gradient, so the moments see it (`torch.optim.Adam`). `true`: every step first
    /// shrinks the parameter by `lr × weight_decay` (`torch.optim.AdamW`).
    pub decoupled: bool,
}

impl Default for AdamConfig {
    /// PyTorch's defaults, without weight decay.
    fn default() -> AdamConfig {
        AdamConfig {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
        }
    }
}

/// What is the same for all parameters in an update, as `adam.cu` declares it; learning rate and bias correction in one.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct AdamUpdate {
    shrink: f32,
    into_gradient: f32,
    step_size: f32,
    second_correction: f32,
    keep_first: f32,
    take_first: f32,
    keep_second: f32,
    take_second: f32,
    eps: f32,
}

/// One update of `parameter` by its `gradient`, in place and in one sweep, with the moments `m` and `v`, all of one shape:
/// before the first step both are zeros. `step` counts from 1. A [`candle_core::Var`] can be a parameter, and sees the
/// update.
///
/// # Errors
/// Where shapes or devices differ, two tensors share their memory, one is not contiguous or not f32, `step` is 0, or the
/// configuration cannot train.
///
/// ```
/// use candle_core::{DType::F32, Device, Tensor, Var};
/// use simplenet_kernels::candle_ops::{AdamConfig, adam_step};
///
/// let parameter = Var::new(&[1.0_f32, -2.0], &Device::Cpu)?;
/// let [m, v] = [parameter.zeros_like()?, parameter.zeros_like()?];
/// let gradients = parameter.sqr()?.sum_all()?.backward()?;
/// let gradient = gradients.get(&parameter).expect("the loss depends on it");
/// adam_step(&parameter, gradient, &m, &v, 1, &AdamConfig { lr: 0.5, ..AdamConfig::default() })?;
/// let [first, second] = parameter.to_vec1::<f32>()?[..] else { unreachable!() };
/// assert!((first - 0.5).abs() < 1e-6 && (second + 1.5).abs() < 1e-6); // the first step is as long as `lr`
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn adam_step(
    parameter: &Tensor,
    gradient: &Tensor,
    m: &Tensor,
    v: &Tensor,
    step: usize,
    config: &AdamConfig,
) -> Result<()> {
    let update = AdamUpdate::new(config, step)?;
    let all = [
        ("the parameter", parameter),
        ("the gradient", gradient),
        ("m", m),
        ("v", v),
    ];
    for (at, &(what, tensor)) in all.iter().enumerate() {
        expect_shape(what, tensor, "the parameter", parameter.dims())?;
        if !tensor.device().same_device(parameter.device()) {
            let [one, other] = [tensor, parameter].map(|tensor| tensor.device().location());
            bail!(
                "{what} is on {one:?}, and the parameter on {other:?}\n\nhint: move them to one device with `to_device`"
            );
        }
        for &(before, other) in &all[..at] {
            if memory(tensor) == memory(other) {
                bail!("{before} and {what} are parts of one tensor\n\nhint: call `copy` on one of them");
            }
        }
    }
    lend(parameter, |parameter| {
        lend(m, |m| {
            lend(v, |v| {
                let (gradient, layout) = gradient.storage_and_layout();
                match (parameter, m, v, &*gradient) {
                    (Lent::Processor(parameter), Lent::Processor(m), Lent::Processor(v), Storage::Cpu(gradient)) => {
                        update.apply(parameter, values(gradient, layout)?, [m, v]);
                        Ok(())
                    }
                    #[cfg(feature = "cuda")]
                    (Lent::Gpu(parameter), Lent::Gpu(m), Lent::Gpu(v), Storage::Cuda(gradient)) => {
                        use super::device;
                        use crate::cuda::{Gpu, adam};

                        let gpu = Gpu::of(gradient.device())?;
                        adam::update(&gpu, parameter, device::values(gradient, layout)?, [m, v], &update)
                    }
                    _ => bail!("Adam updates tensors on the processor and on CUDA devices"),
                }
            })
        })
    })
}

impl AdamUpdate {
    fn new(config: &AdamConfig, step: usize) -> Result<AdamUpdate> {
        let AdamConfig {
            lr,
            beta1,
            beta2,
            eps,
            weight_decay,
            decoupled,
        } = *config;
        if step == 0 {
            bail!("step is 0, before which there is no update to correct for\n\nhint: count steps from 1");
        }
        for (what, value, upper) in [
            ("lr", lr, f64::INFINITY),
            ("beta1", beta1, 1.0),
            ("beta2", beta2, 1.0),
            ("eps", eps, f64::INFINITY),
            ("weight_decay", weight_decay, f64::INFINITY),
        ] {
            if !(0.0..upper).contains(&value) {
                bail!("{what} is {value}\n\nhint: it is at least 0 and less than {upper}; see `AdamConfig::default`");
            }
        }
        let (shrink, into_gradient) = match decoupled {
            false => (1.0, weight_decay),
            true => (1.0 - lr * weight_decay, 0.0),
        };
        let step = step as f64;
        Ok(AdamUpdate {
            shrink: shrink as f32,
            into_gradient: into_gradient as f32,
            step_size: (lr / (1.0 - beta1.powf(step))) as f32,
            second_correction: (1.0 - beta2.powf(step)).sqrt() as f32,
            keep_first: beta1 as f32,
            take_first: (1.0 - beta1) as f32,
            keep_second: beta2 as f32,
            take_second: (1.0 - beta2) as f32,
            eps: eps as f32,
        })
    }

    fn apply(&self, parameters: &mut [f32], gradients: &[f32], [firsts, seconds]: [&mut [f32]; 2]) {
        let update = *self;
        parameters
            .par_chunks_mut(VALUES_PER_TASK)
            .zip(gradients.par_chunks(VALUES_PER_TASK))
            .zip(firsts.par_chunks_mut(VALUES_PER_TASK))
            .zip(seconds.par_chunks_mut(VALUES_PER_TASK))
            .for_each(|(((parameters, gradients), firsts), seconds)| {
                let moments = firsts.iter_mut().zip(seconds);
                for ((parameter, &gradient), (first, second)) in parameters.iter_mut().zip(gradients).zip(moments) {
                    let gradient = gradient + update.into_gradient * *parameter;
                    *first = update.keep_first * *first + update.take_first * gradient;
                    *second = update.keep_second * *second + update.take_second * (gradient * gradient);
                    let denominator = second.sqrt() / update.second_correction + update.eps;
                    *parameter = update.shrink * *parameter - update.step_size * (*first / denominator);
                }
            });
    }
}

/// Where a tensor's memory is: the same for all views of it.
fn memory(tensor: &Tensor) -> *const Storage {
    let (storage, _) = tensor.storage_and_layout();
    std::ptr::from_ref(&*storage)
}

/// The values of a tensor, to be changed.
enum Lent<'a> {
    Processor(&'a mut [f32]),
    #[cfg(feature = "cuda")]
    Gpu(crate::cuda::Span<'a, f32>),
}

/// Lends the values of a contiguous tensor to `work`. candle's operations in place change one tensor, and an update changes
/// three: so one loan is made within another, of tensors that do not share memory.
fn lend<F: FnOnce(Lent<'_>) -> Result<()>>(tensor: &Tensor, work: F) -> Result<()> {
    tensor.inplace_op1(&Loan(Cell::new(Some(work))))
}

struct Loan<F>(Cell<Option<F>>);

impl<F: FnOnce(Lent<'_>) -> Result<()>> Loan<F> {
    fn with(&self, values: Lent<'_>) -> Result<()> {
        match self.0.take() {
            Some(work) => work(values),
            None => Ok(()),
        }
    }
}

impl<F: FnOnce(Lent<'_>) -> Result<()>> InplaceOp1 for Loan<F> {
    fn name(&self) -> &'static str {
        "adam-step"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (start, end) = contiguous(layout)?;
        let dtype = storage.dtype();
        let CpuStorage::F32(values) = storage else {
            bail!("Adam updates f32, and the tensor is {dtype:?}");
        };
        self.with(Lent::Processor(&mut values[start..end]))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        self.with(Lent::Gpu(super::device::values(storage, layout)?))
    }
}
