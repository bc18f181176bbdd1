//! Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), as PyTorch computes them.

use rayon::prelude::*;

use crate::gemm::Real;

/// Values that one task updates.
const VALUES_PER_TASK: usize = 1 << 13;

/// Which of the two, and its numbers.
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

/// What is the same for all parameters in an update, as `adam.cuh` declares it of floats; learning rate and bias correction in
/// one.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct AdamUpdate<T> {
    shrink: T,
    into_gradient: T,
    step_size: T,
    second_correction: T,
    keep_first: T,
    take_first: T,
    keep_second: T,
    take_second: T,
    eps: T,
}

impl<T: Real> AdamUpdate<T> {
    /// Update number `step`, which counts from 1.
    ///
    /// # Panics
    /// Where `step` is 0: there is no bias to correct for.
    pub fn new(config: &AdamConfig, step: usize) -> AdamUpdate<T> {
        let AdamConfig {
            lr,
            beta1,
            beta2,
            eps,
            weight_decay,
            decoupled,
        } = *config;
        assert!(step > 0, "updates count from 1");
        let (shrink, into_gradient) = match decoupled {
            false => (1.0, weight_decay),
            true => (1.0 - lr * weight_decay, 0.0),
        };
        // After as many steps as an i32 counts the correction has long been 1.
        let step = i32::try_from(step).unwrap_or(i32::MAX);
        let of = T::nearest;
        AdamUpdate {
            shrink: of(shrink),
            into_gradient: of(into_gradient),
            step_size: of(lr / (1.0 - beta1.powi(step))),
            second_correction: of((1.0 - beta2.powi(step)).sqrt()),
            keep_first: of(beta1),
            take_first: of(1.0 - beta1),
            keep_second: of(beta2),
            take_second: of(1.0 - beta2),
            eps: of(eps),
        }
    }

    /// What changes from update to update or differs between groups of parameters, as `AdamStep` of `adam.cuh` declares it.
    #[cfg(feature = "cuda")]
    pub(crate) fn of_this_step(&self) -> [T; 4] {
        [self.shrink, self.into_gradient, self.step_size, self.second_correction]
    }

    /// Updates all `parameters` and their two moments by their `gradients`, in one sweep over the four, which are equally
    /// long. Before the first update the moments are zeros.
    ///
    /// # Panics
    /// Where lengths differ.
    pub fn apply(&self, parameters: &mut [T], gradients: &[T], [firsts, seconds]: [&mut [T]; 2]) {
        for len in [gradients.len(), firsts.len(), seconds.len()] {
            assert_eq!(len, parameters.len(), "every parameter has a gradient and two moments");
        }
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
                    let denominator = second.root() / update.second_correction + update.eps;
                    *parameter = update.shrink * *parameter - update.step_size * (*first / denominator);
                }
            });
    }
}
