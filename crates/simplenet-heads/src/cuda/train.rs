//! The training loop on the GPU.

use std::ops::ControlFlow;

use simplenet_kernels::cuda::{Products, bf16};

use super::bank::DeviceBank;
use super::head::DeviceHead;
use super::products::Product;
use super::step::DeviceStep;
use crate::config::TrainConfig;
use crate::error::{Error, Result};
use crate::head::Head;
use crate::random;
use crate::train::EpochReport;

/// [`crate::train`] on the GPU that holds `bank`: the same images in the same order with the same noise. In f32 the head
/// differs from the CPU's by rounding; the same seed on the same kind of GPU makes the same bytes.
///
/// `after_epoch` sees the head where it is, on the device; `head` itself changes when training ends, whether by its last
/// epoch or by `after_epoch`'s wish.
///
/// # Errors
/// Those of [`crate::train`], and [`Error::Device`]. A loss that is not finite is found at the end of its epoch.
pub fn train<E: From<Error>>(
    head: &mut Head,
    bank: &DeviceBank,
    config: &TrainConfig,
    products: Products,
    seed: u64,
    after_epoch: impl FnMut(&EpochReport, &DeviceHead) -> std::result::Result<ControlFlow<()>, E>,
) -> std::result::Result<(), E> {
    match products {
        Products::F32 | Products::Tf32 => train_in::<f32, E>(head, bank, config, products, seed, after_epoch),
        Products::Bf16 => train_in::<bf16, E>(head, bank, config, products, seed, after_epoch),
    }
}

fn train_in<T: Product, E: From<Error>>(
    head: &mut Head,
    bank: &DeviceBank,
    config: &TrainConfig,
    products: Products,
    seed: u64,
    mut after_epoch: impl FnMut(&EpochReport, &DeviceHead) -> std::result::Result<ControlFlow<()>, E>,
) -> std::result::Result<(), E> {
    config.check()?;
    let device = DeviceHead::upload(bank.gpu(), head)?;
    let mut step = DeviceStep::<T>::new(&device, bank, config, products.math(), seed)?;
    let mut steps = 0;
    for epoch in 1..=config.epochs {
        let report = run_epoch(&mut step, seed, epoch, &mut steps)?;
        if after_epoch(&report, &device)?.is_break() {
            break;
        }
    }
    device.download(head)?;
    Ok(())
}

fn run_epoch<T: Product>(
    step: &mut DeviceStep<'_, T>,
    seed: u64,
    epoch: usize,
    steps: &mut u64,
) -> Result<EpochReport> {
    let order = random::permutation(step.images(), seed, epoch as u64);
    step.begin_epoch(&order)?;
    for batch in order.chunks(step.batch_images()) {
        step.run(batch.len())?;
        *steps += 1;
    }
    let totals = step.report()?;
    if !totals.loss.is_finite() {
        return Err(Error::LossNotFinite {
            epoch,
            step: *steps - 1,
            loss: totals.loss,
        });
    }
    let mut report = EpochReport::start(epoch);
    report.add(&totals, 1.0);
    report.steps = *steps;
    Ok(report)
}
