//! The optimiser with its moments.

use simplenet_kernels::adam::{AdamConfig, AdamUpdate};

use crate::config::{Optimizer, Rule};
use crate::scalar::Scalar;

/// The moments of some parameters and the number of updates so far.
#[derive(Debug)]
pub(crate) struct Adam<T> {
    config: AdamConfig,
    updates: usize,
    first_moment: Vec<T>,
    second_moment: Vec<T>,
}

impl<T: Scalar> Adam<T> {
    pub(crate) fn new(config: Optimizer, parameters: usize) -> Adam<T> {
        Adam {
            config: AdamConfig {
                lr: config.learning_rate,
                weight_decay: config.weight_decay,
                decoupled: config.rule == Rule::AdamW,
                ..AdamConfig::default()
            },
            updates: 0,
            first_moment: vec![T::ZERO; parameters],
            second_moment: vec![T::ZERO; parameters],
        }
    }

    /// One update of all `parameters` by their `gradients`.
    pub(crate) fn update(&mut self, parameters: &mut [T], gradients: &[T]) {
        self.updates += 1;
        let moments = [&mut self.first_moment[..], &mut self.second_moment[..]];
        AdamUpdate::new(&self.config, self.updates).apply(parameters, gradients, moments);
    }
}
