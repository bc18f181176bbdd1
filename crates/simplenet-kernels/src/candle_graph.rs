//! Runs a [`Graph`] through candle, on any of its devices: the reference for the CPU engine, and the way onto a GPU.

use candle_core::{DType, Device, Result, Tensor};

use crate::graph::{Activation, Conv, Graph, MaxPool, Node, Padding, ValueId};

/// A graph whose weights lie on a device.
#[derive(Debug, Clone)]
pub struct CandleGraph {
    graph: Graph,
    outputs: Vec<ValueId>,
    /// Weight and bias of each convolution as candle wants them; `None` for a pooling.
    weights: Vec<Option<(Tensor, Tensor)>>,
    /// After this node no later one reads the value, and its memory can go; `usize::MAX` for an output.
    last_use: Vec<usize>,
}

/// Values of `outputs` for images `[B, C, H, W]`, each `[B, C', H', W']`, on the device of the images.
///
/// Uploads the weights on every call; keep a [`CandleGraph`] to run more than once. Fails where the images do not fit
/// the graph, or where the device does.
pub fn run(graph: &Graph, outputs: &[ValueId], images: &Tensor) -> Result<Vec<Tensor>> {
    CandleGraph::new(graph, outputs, images.device())?.run(images)
}

impl CandleGraph {
    /// Copies the weights to `device`, up to the last of `outputs`.
    pub fn new(graph: &Graph, outputs: &[ValueId], device: &Device) -> Result<CandleGraph> {
        let needed = outputs.iter().map(|output| output.0).max().unwrap_or(0);
        if needed > graph.nodes().len() {
            candle_core::bail!(
                "value {needed} is asked for, but the graph makes only {}",
                graph.nodes().len()
            );
        }
        let nodes = &graph.nodes()[..needed];
        let weights = nodes.iter().map(|node| upload(node, device)).collect::<Result<_>>()?;
        let mut last_use = vec![0; needed + 1];
        for (index, node) in nodes.iter().enumerate() {
            let (input, residual) = match node {
                Node::Conv(conv) => (conv.input, conv.residual),
                Node::MaxPool(pool) => (pool.input, None),
            };
            for value in [Some(input), residual].into_iter().flatten() {
                last_use[value.0] = index;
            }
        }
        for output in outputs {
            last_use[output.0] = usize::MAX;
        }
        Ok(CandleGraph {
            graph: graph.clone(),
            outputs: outputs.to_vec(),
            weights,
            last_use,
        })
    }

    /// Values of the outputs for images `[B, C, H, W]`, in the order they were asked for, each `[B, C', H', W']` f32.
    pub fn run(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        let (batch, channels, height, width) = images.dims4()?;
        let shapes = self.graph.shapes([batch, channels, height, width]);
        shapes.map_err(candle_core::Error::wrap)?;

        let mut values: Vec<Option<Tensor>> = vec![Some(images.to_dtype(DType::F32)?)];
        for (index, weights) in self.weights.iter().enumerate() {
            let value = match (&self.graph.nodes()[index], weights) {
                (Node::Conv(conv), Some((weight, bias))) => convolve(conv, weight, bias, &values)?,
                (Node::MaxPool(pool), _) => max_pool(pool, live(&values, pool.input)?)?,
                (Node::Conv(_), None) => candle_core::bail!("node {index} has no weights"),
            };
            values.push(Some(value));
            for (value, &last_use) in values.iter_mut().zip(&self.last_use) {
                if last_use <= index {
                    *value = None;
                }
            }
        }
        let wanted = self.outputs.iter().map(|&output| live(&values, output).cloned());
        wanted.collect()
    }
}

fn live(values: &[Option<Tensor>], value: ValueId) -> Result<&Tensor> {
    match &values[value.0] {
        Some(tensor) => Ok(tensor),
        None => candle_core::bail!("value {} is read after it was dropped", value.0),
    }
}

fn upload(node: &Node, device: &Device) -> Result<Option<(Tensor, Tensor)>> {
    let Node::Conv(conv) = node else { return Ok(None) };
    let shape = (
        conv.out_channels,
        conv.in_channels / conv.groups,
        conv.kernel,
        conv.kernel,
    );
    let weight = Tensor::from_slice(&conv.weight, shape, device)?;
    let bias = Tensor::from_slice(&conv.bias, (1, conv.out_channels, 1, 1), device)?;
    Ok(Some((weight, bias)))
}

fn convolve(conv: &Conv, weight: &Tensor, bias: &Tensor, values: &[Option<Tensor>]) -> Result<Tensor> {
    let input = live(values, conv.input)?;
    let out = if conv.groups > 1 {
        depthwise(conv, weight, input)?
    } else if let Padding::Symmetric(padding) = conv.padding {
        input.conv2d(weight, padding, conv.stride, 1, 1)?
    } else {
        let padded = pad(input, conv.padding, conv.kernel, conv.stride, 0.0)?;
        padded.conv2d(weight, 0, conv.stride, 1, 1)?
    };
    let out = out.broadcast_add(bias)?;
    let out = match conv.residual {
        Some(residual) => (out + live(values, residual)?)?,
        None => out,
    };
    match conv.activation {
        Activation::Linear => Ok(out),
        Activation::Relu => out.relu(),
        Activation::Relu6 => out.clamp(0f32, 6f32),
    }
}

/// One multiplication per cell of the kernel, over all channels at once: candle's own grouped convolution runs one
/// convolution per channel.
fn depthwise(conv: &Conv, weight: &Tensor, input: &Tensor) -> Result<Tensor> {
    let (_, channels, height, width) = input.dims4()?;
    let side = |length| conv.padding.output(length, conv.kernel, conv.stride);
    let (Some(rows), Some(columns)) = (side(height), side(width)) else {
        candle_core::bail!(
            "an input of {height}×{width} leaves nothing for a kernel of {}",
            conv.kernel
        );
    };
    // Every shifted view takes `rows * stride` rows and keeps each `stride`-th, so up to `stride - 1` more rows than the
    // convolution reads have to exist at the far end.
    let padded = pad(input, conv.padding, conv.kernel, conv.stride, 0.0)?;
    let missing = |needed: usize, there: usize| (needed + conv.kernel - 1).saturating_sub(there);
    let padded = padded
        .pad_with_zeros(2, 0, missing(rows * conv.stride, padded.dim(2)?))?
        .pad_with_zeros(3, 0, missing(columns * conv.stride, padded.dim(3)?))?;
    let mut sum: Option<Tensor> = None;
    for ky in 0..conv.kernel {
        for kx in 0..conv.kernel {
            let view = every(&padded, 2, ky, rows, conv.stride)?;
            let view = every(&view, 3, kx, columns, conv.stride)?;
            let cell = weight
                .narrow(2, ky, 1)?
                .narrow(3, kx, 1)?
                .reshape((1, channels, 1, 1))?;
            let product = view.broadcast_mul(&cell)?;
            sum = Some(match sum {
                Some(sum) => (sum + product)?,
                None => product,
            });
        }
    }
    match sum {
        Some(sum) => Ok(sum),
        None => candle_core::bail!("a kernel of side 0"),
    }
}

/// `count` slices along `axis`, from `start`, `step` apart.
fn every(tensor: &Tensor, axis: usize, start: usize, count: usize, step: usize) -> Result<Tensor> {
    let view = tensor.narrow(axis, start, count * step)?;
    if step == 1 {
        return Ok(view);
    }
    let mut split = view.dims().to_vec();
    split[axis] = count;
    split.insert(axis + 1, step);
    view.contiguous()?
        .reshape(split)?
        .narrow(axis + 1, 0, 1)?
        .squeeze(axis + 1)
}

fn max_pool(pool: &MaxPool, input: &Tensor) -> Result<Tensor> {
    let padded = pad(input, pool.padding, pool.kernel, pool.stride, f32::NEG_INFINITY)?;
    padded.max_pool2d_with_stride(pool.kernel, pool.stride)
}

/// The last two axes with `value` around them.
fn pad(input: &Tensor, padding: Padding, kernel: usize, stride: usize, value: f32) -> Result<Tensor> {
    let mut padded = input.clone();
    for axis in [2, 3] {
        let (before, after) = padding.before_after(padded.dim(axis)?, kernel, stride);
        let mut parts = vec![padded.clone()];
        for (length, at) in [(after, 1), (before, 0)] {
            if length > 0 {
                let mut shape = padded.dims().to_vec();
                shape[axis] = length;
                parts.insert(at, Tensor::full(value, shape, padded.device())?);
            }
        }
        padded = Tensor::cat(&parts, axis)?;
    }
    Ok(padded)
}
