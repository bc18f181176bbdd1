//! Adam with two groups of parameters, whose place in the training is on the device.

use candle_core::Result;

use crate::adam::{AdamConfig, AdamUpdate};
use crate::cuda::gemm::Factor;
use crate::cuda::gpu::{Argument, Buffer, Gpu, Grid, NULL, Span, arguments, int};

/// How one group of parameters is updated.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct AdamRule {
    learning_rate: f64,
    weight_decay: f64,
    decoupled: i32,
}
arguments!(AdamRule);

impl AdamRule {
    /// Adam with L2 decay, or AdamW where the decay is `decoupled`.
    pub fn new(learning_rate: f64, weight_decay: f64, decoupled: bool) -> AdamRule {
        AdamRule {
            learning_rate,
            weight_decay,
            decoupled: decoupled.into(),
        }
    }

    /// As `adam_step` of `head.cu` computes it, for the first update.
    fn first_step(self) -> [f32; 4] {
        let config = AdamConfig {
            lr: self.learning_rate,
            weight_decay: self.weight_decay,
            decoupled: self.decoupled != 0,
            ..AdamConfig::default()
        };
        AdamUpdate::new(&config, 1).of_this_step()
    }
}

/// Both moments of all parameters, of which the first `adaptor` are updated by one rule and the others by another.
pub struct Adam {
    pub(super) rules: [AdamRule; 2],
    adaptor: usize,
    firsts: Buffer<f32>,
    seconds: Buffer<f32>,
    pub(super) steps: Buffer<f32>,
}

impl Adam {
    /// Before the first update.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(gpu: &Gpu, rules: [AdamRule; 2], adaptor: usize, parameters: usize) -> Result<Adam> {
        Ok(Adam {
            rules,
            adaptor,
            firsts: gpu.zeros(parameters)?,
            seconds: gpu.zeros(parameters)?,
            steps: gpu.upload(&rules.map(AdamRule::first_step).concat())?,
        })
    }

    /// One update of all parameters; `copy`, where given, takes them in the products' type.
    ///
    /// # Errors
    /// Where a span has another size.
    pub fn update<T: Factor>(
        &self,
        gpu: &Gpu,
        parameters: Span<'_, f32>,
        gradients: Span<'_, f32>,
        copy: Option<Span<'_, T>>,
    ) -> Result<()> {
        let parameters = parameters.expect("the parameters", self.firsts.len())?;
        let gradients = gradients.expect("the gradients", self.firsts.len())?;
        let copy = match copy {
            Some(copy) => copy.expect("the parameters' copy", self.firsts.len())?.address(),
            None => NULL,
        };
        let (firsts, seconds, steps) = (self.firsts.all(), self.seconds.all(), self.steps.all());
        let (adaptor, count) = (int("parameters", self.adaptor)?, int("parameters", parameters.len())?);
        let name = T::named("adam_f32", "adam_bf16");
        let arguments: [&dyn Argument; 8] = [
            &parameters,
            &gradients,
            &firsts,
            &seconds,
            &copy,
            &steps,
            &adaptor,
            &count,
        ];
        gpu.launch("head", name, Grid::over(parameters.len()), &arguments)
    }
}
