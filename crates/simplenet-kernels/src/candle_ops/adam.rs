//! The optimiser.

use std::cell::Cell;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Storage, Tensor, bail};

use super::{contiguous, expect_shape, values};
use crate::adam::{AdamConfig, AdamUpdate};

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
/// use simplenet_kernels::adam::AdamConfig;
/// use simplenet_kernels::candle_ops::adam_step;
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
    check(config, step)?;
    let update = AdamUpdate::new(config, step);
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

/// Refuses what cannot train.
fn check(config: &AdamConfig, step: usize) -> Result<()> {
    if step == 0 {
        bail!("step is 0, before which there is no update to correct for\n\nhint: count steps from 1");
    }
    for (what, value, upper) in [
        ("lr", config.lr, f64::INFINITY),
        ("beta1", config.beta1, 1.0),
        ("beta2", config.beta2, 1.0),
        ("eps", config.eps, f64::INFINITY),
        ("weight_decay", config.weight_decay, f64::INFINITY),
    ] {
        if !(0.0..upper).contains(&value) {
            bail!("{what} is {value}\n\nhint: it is at least 0 and less than {upper}; see `AdamConfig::default`");
        }
    }
    Ok(())
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
