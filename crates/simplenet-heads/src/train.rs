//! The training loop.

use std::ops::ControlFlow;

use rayon::prelude::*;

use crate::bank::Bank;
use crate::config::TrainConfig;
use crate::error::{Error, Result};
use crate::head::Head;
use crate::loss::StepReport;
use crate::random;
use crate::step::Step;

/// What an epoch found out, averaged over its rows, each step before its own update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochReport {
    /// From 1.
    pub epoch: usize,
    /// Steps since the start of training.
    pub steps: u64,
    /// The loss.
    pub loss: f64,
    /// D of the normal features.
    pub mean_normal: f64,
    /// D of the noised features.
    pub mean_noised: f64,
    /// Fraction of the normal features with D ≥ th⁺.
    pub normal_past_margin: f64,
    /// Fraction of the noised features with D < th⁻.
    pub noised_past_margin: f64,
}

/// Trains `head` on the features of normal images (Section 3.5; Algorithm 1 of the paper).
///
/// Every epoch sees every image once, in an order drawn by (seed, epoch), `batch_images` at a time, the last batch with
/// what is left. `after_epoch` looks at the head and says whether to go on; its error ends the training. The result is a
/// function of the arguments alone: the same seed makes the same bytes with any number of threads. Batch norm's running
/// statistics and the weights go on from where `head` has them; the optimisers start afresh.
///
/// # Errors
/// [`Error::Config`] for a configuration that makes no sense, [`Error::Dim`] where bank and head differ in channels,
/// [`Error::LossNotFinite`] where training diverges, and whatever `after_epoch` returns.
pub fn train<E: From<Error>>(
    head: &mut Head,
    bank: &Bank,
    config: &TrainConfig,
    seed: u64,
    mut after_epoch: impl FnMut(&EpochReport, &Head) -> std::result::Result<ControlFlow<()>, E>,
) -> std::result::Result<(), E> {
    config.check()?;
    check_dim(head, bank)?;
    let image_size = bank.rows_per_image() * bank.dim();
    let batch_images = config.batch_images.min(bank.images());
    let mut step = Step::new(head.config(), config, batch_images * bank.rows_per_image())?;
    let mut features = vec![0.0_f32; batch_images * image_size];
    let mut noise = vec![0.0_f32; batch_images * image_size];
    let mut steps = 0_u64;
    for epoch in 1..=config.epochs {
        let order = random::permutation(bank.images(), seed, epoch as u64);
        let mut totals = EpochReport::start(epoch);
        for batch in order.chunks(batch_images) {
            let features = &mut features[..batch.len() * image_size];
            let noise = &mut noise[..batch.len() * image_size];
            gather(bank, head, batch, features);
            random::fill_noise(noise, seed, steps, config.noise as f32);
            let report = step.run(head, features, noise)?;
            if !report.loss.is_finite() {
                let loss = report.loss;
                return Err(Error::LossNotFinite {
                    epoch,
                    step: steps,
                    loss,
                }
                .into());
            }
            totals.add(&report, batch.len() as f64 / bank.images() as f64);
            steps += 1;
        }
        totals.steps = steps;
        if after_epoch(&totals, head)?.is_break() {
            break;
        }
    }
    Ok(())
}

impl EpochReport {
    pub(crate) fn start(epoch: usize) -> EpochReport {
        EpochReport {
            epoch,
            steps: 0,
            loss: 0.0,
            mean_normal: 0.0,
            mean_noised: 0.0,
            normal_past_margin: 0.0,
            noised_past_margin: 0.0,
        }
    }

    /// Adds a step that saw `share` of the epoch's rows.
    pub(crate) fn add(&mut self, report: &StepReport, share: f64) {
        self.loss += share * report.loss;
        self.mean_normal += share * report.mean_normal;
        self.mean_noised += share * report.mean_noised;
        self.normal_past_margin += share * report.normal_past_margin;
        self.noised_past_margin += share * report.noised_past_margin;
    }
}

fn check_dim(head: &Head, bank: &Bank) -> Result<()> {
    if head.config().dim == bank.dim() {
        return Ok(());
    }
    Err(Error::Dim {
        left: "the head",
        left_dim: head.config().dim,
        right: "the feature bank",
        right_dim: bank.dim(),
    })
}

/// The features of some images one after the other, standardised where the head asks for it.
fn gather(bank: &Bank, head: &Head, images: &[usize], out: &mut [f32]) {
    let size = bank.rows_per_image() * bank.dim();
    out.par_chunks_exact_mut(size)
        .zip(images)
        .for_each(|(out, &image)| match head.standardizer() {
            Some(standardizer) => standardizer.copy(bank.image(image), out),
            None => out.copy_from_slice(bank.image(image)),
        });
}
