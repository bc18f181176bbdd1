//! Checkpoint names in, convolutions out: what the builders of the architectures share.

use simplenet_kernels::graph::{Activation, Conv, Graph, MaxPool, Padding, ValueId};

use crate::arch::Arch;
use crate::checkpoint::Checkpoint;
use crate::error::BackboneError;

/// A graph being built from a checkpoint.
pub(crate) struct Network<'a> {
    arch: Arch,
    checkpoint: &'a Checkpoint,
    /// Added to the variance of every batch normalisation.
    epsilon: f64,
    graph: Graph,
}

/// A convolution as the figure of a paper states it; what it reads gives the channels in.
pub(crate) struct Spec {
    pub(crate) out: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: Padding,
    pub(crate) depthwise: bool,
    pub(crate) residual: Option<ValueId>,
    pub(crate) activation: Activation,
}

impl<'a> Network<'a> {
    pub(crate) fn new(arch: Arch, checkpoint: &'a Checkpoint, epsilon: f64) -> Network<'a> {
        let graph = Graph::new(3);
        Network {
            arch,
            checkpoint,
            epsilon,
            graph,
        }
    }

    pub(crate) fn finish(self) -> Graph {
        self.graph
    }

    pub(crate) fn channels(&self, value: ValueId) -> usize {
        self.graph.channels(value)
    }

    /// The convolution `name`, with the batch normalisation `norm` folded into it where the checkpoint still has it.
    pub(crate) fn conv(
        &mut self,
        name: &str,
        norm: &str,
        input: ValueId,
        spec: Spec,
    ) -> Result<ValueId, BackboneError> {
        let in_channels = self.channels(input);
        let groups = if spec.depthwise { in_channels } else { 1 };
        let shape = [spec.out, in_channels / groups, spec.kernel, spec.kernel];
        let mut weight = self.required(&format!("{name}.weight"), &shape)?;
        let bias = self.checkpoint.tensor(&format!("{name}.bias"), &[spec.out])?;
        let has_norm = self.checkpoint.shape(&format!("{norm}.weight")).is_some();
        let bias = match bias {
            Some(bias) if !has_norm => bias,
            bias => self.fold(norm, &mut weight, bias, spec.out)?,
        };
        let conv = Conv {
            input,
            weight,
            bias,
            in_channels,
            out_channels: spec.out,
            kernel: spec.kernel,
            stride: spec.stride,
            padding: spec.padding,
            groups,
            residual: spec.residual,
            activation: spec.activation,
        };
        Ok(self.graph.conv(conv)?)
    }

    pub(crate) fn max_pool(&mut self, pool: MaxPool) -> Result<ValueId, BackboneError> {
        Ok(self.graph.max_pool(pool)?)
    }

    /// Scales each filter as the batch normalisation `norm` scales its output; returns the bias that does the rest.
    fn fold(
        &self,
        norm: &str,
        weight: &mut [f32],
        bias: Option<Vec<f32>>,
        out: usize,
    ) -> Result<Vec<f32>, BackboneError> {
        let scale = self.required(&format!("{norm}.weight"), &[out])?;
        let shift = self.required(&format!("{norm}.bias"), &[out])?;
        let mean = self.required(&format!("{norm}.running_mean"), &[out])?;
        let variance = self.required(&format!("{norm}.running_var"), &[out])?;
        let bias = bias.unwrap_or(vec![0.0; out]);

        let per_filter = weight.len() / out;
        let mut folded = Vec::with_capacity(out);
        for (channel, filter) in weight.chunks_exact_mut(per_filter).enumerate() {
            let deviation = (f64::from(variance[channel]) + self.epsilon).sqrt();
            let scale = f64::from(scale[channel]) / deviation;
            for value in filter {
                *value = (f64::from(*value) * scale) as f32;
            }
            let centred = f64::from(bias[channel]) - f64::from(mean[channel]);
            folded.push((f64::from(shift[channel]) + centred * scale) as f32);
        }
        let finite = folded.iter().chain(&*weight).all(|value| value.is_finite());
        if !finite {
            // A negative variance, or one so small that the scale overflows.
            let path = self.checkpoint.path().to_path_buf();
            let tensor = format!("{norm}.running_var");
            return Err(BackboneError::NotFinite { path, tensor });
        }
        Ok(folded)
    }

    fn required(&self, tensor: &str, shape: &[usize]) -> Result<Vec<f32>, BackboneError> {
        let missing = || BackboneError::MissingTensor {
            path: self.checkpoint.path().to_path_buf(),
            tensor: tensor.to_string(),
            arch: self.arch,
        };
        self.checkpoint.tensor(tensor, shape)?.ok_or_else(missing)
    }
}
