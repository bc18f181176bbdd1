//! Adam and AdamW as PyTorch computes them.

use rayon::prelude::*;

use crate::config::{Optimizer, Rule};
use crate::scalar::Scalar;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Values that one task updates.
const VALUES_PER_TASK: usize = 1 << 13;

/// The moments of some parameters and the number of updates so far.
#[derive(Debug)]
pub(crate) struct Adam<T> {
    config: Optimizer,
    updates: i32,
    first_moment: Vec<T>,
    second_moment: Vec<T>,
}

impl<T: Scalar> Adam<T> {
    pub(crate) fn new(config: Optimizer, parameters: usize) -> Adam<T> {
        Adam {
            config,
            updates: 0,
            first_moment: vec![T::ZERO; parameters],
            second_moment: vec![T::ZERO; parameters],
        }
    }

    /// One update of all `parameters` by their `gradients`, in one sweep over the four vectors.
    pub(crate) fn update(&mut self, parameters: &mut [T], gradients: &[T]) {
        self.updates = self.updates.saturating_add(1);
        let Optimizer {
            rule,
            learning_rate,
            weight_decay,
        } = self.config;
        let (shrink, into_gradient) = match rule {
            Rule::Adam => (1.0, weight_decay),
            Rule::AdamW => (1.0 - learning_rate * weight_decay, 0.0),
        };
        let (shrink, into_gradient) = (T::from_f64(shrink), T::from_f64(into_gradient));
        let step_size = T::from_f64(learning_rate / (1.0 - BETA1.powi(self.updates)));
        let second_correction = T::from_f64((1.0 - BETA2.powi(self.updates)).sqrt());
        let (keep_first, take_first) = (T::from_f64(BETA1), T::from_f64(1.0 - BETA1));
        let (keep_second, take_second) = (T::from_f64(BETA2), T::from_f64(1.0 - BETA2));
        let epsilon = T::from_f64(EPSILON);
        parameters
            .par_chunks_mut(VALUES_PER_TASK)
            .zip(gradients.par_chunks(VALUES_PER_TASK))
            .zip(self.first_moment.par_chunks_mut(VALUES_PER_TASK))
            .zip(self.second_moment.par_chunks_mut(VALUES_PER_TASK))
            .for_each(|(((parameters, gradients), firsts), seconds)| {
                let moments = firsts.iter_mut().zip(seconds);
                for ((parameter, &gradient), (first, second)) in parameters.iter_mut().zip(gradients).zip(moments) {
                    let gradient = gradient + into_gradient * *parameter;
                    *first = keep_first * *first + take_first * gradient;
                    *second = keep_second * *second + take_second * (gradient * gradient);
                    let denominator = second.sqrt() / second_correction + epsilon;
                    *parameter = shrink * *parameter - step_size * (*first / denominator);
                }
            });
    }
}
