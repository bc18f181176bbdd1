//! ResNets as torchvision has them (`torchvision/models/resnet.py`; He et al. 2016, table 1).

use simplenet_kernels::graph::{Activation, Graph, MaxPool, Padding, ValueId};

use crate::arch::{Arch, Stage};
use crate::backbone::Taps;
use crate::checkpoint::Checkpoint;
use crate::error::BackboneError;
use crate::network::{Network, Spec};

const BATCH_NORM_EPSILON: f64 = 1e-5;

/// One column of table 1.
pub(crate) struct Shape {
    /// Blocks per layer.
    pub(crate) blocks: [usize; 4],
    /// Three convolutions per block instead of two.
    pub(crate) bottleneck: bool,
    /// Channels of the 3×3 convolutions in the first layer; each further layer doubles them.
    pub(crate) width: usize,
}

/// The network up to and including `last`.
pub(crate) fn build(
    arch: Arch,
    shape: &Shape,
    checkpoint: &Checkpoint,
    last: Stage,
) -> Result<(Graph, Taps), BackboneError> {
    let mut net = Network::new(arch, checkpoint, BATCH_NORM_EPSILON);
    let x = net.conv("conv1", "bn1", ValueId::INPUT, spec(64, 7, 2).relu())?;
    let mut x = net.max_pool(MaxPool {
        input: x,
        kernel: 3,
        stride: 2,
        padding: Padding::Symmetric(1),
    })?;

    let mut taps = Taps::new();
    for stage in Stage::ALL.into_iter().take_while(|stage| *stage <= last) {
        let index = stage as usize;
        let (out, width) = (arch.channels(stage), shape.width << index);
        for block in 0..shape.blocks[index] {
            let name = format!("{stage}.{block}");
            let stride = if block == 0 && stage != Stage::Layer1 { 2 } else { 1 };
            x = match shape.bottleneck {
                true => bottleneck(&mut net, &name, x, width, out, stride)?,
                false => basic(&mut net, &name, x, out, stride)?,
            };
        }
        taps.push((stage, x));
    }
    Ok((net.finish(), taps))
}

/// `relu(conv3(relu(conv3(x))) + shortcut(x))`
fn basic(net: &mut Network, name: &str, x: ValueId, out: usize, stride: usize) -> Result<ValueId, BackboneError> {
    let shortcut = shortcut(net, name, x, out, stride)?;
    let y = net.conv(
        &format!("{name}.conv1"),
        &format!("{name}.bn1"),
        x,
        spec(out, 3, stride).relu(),
    )?;
    net.conv(
        &format!("{name}.conv2"),
        &format!("{name}.bn2"),
        y,
        spec(out, 3, 1).add(shortcut).relu(),
    )
}

/// `relu(conv1(relu(conv3(relu(conv1(x))))) + shortcut(x))`
fn bottleneck(
    net: &mut Network,
    name: &str,
    x: ValueId,
    width: usize,
    out: usize,
    stride: usize,
) -> Result<ValueId, BackboneError> {
    let shortcut = shortcut(net, name, x, out, stride)?;
    let y = net.conv(
        &format!("{name}.conv1"),
        &format!("{name}.bn1"),
        x,
        spec(width, 1, 1).relu(),
    )?;
    let y = net.conv(
        &format!("{name}.conv2"),
        &format!("{name}.bn2"),
        y,
        spec(width, 3, stride).relu(),
    )?;
    net.conv(
        &format!("{name}.conv3"),
        &format!("{name}.bn3"),
        y,
        spec(out, 1, 1).add(shortcut).relu(),
    )
}

/// `x` itself where it has the shape of the block's output.
fn shortcut(net: &mut Network, name: &str, x: ValueId, out: usize, stride: usize) -> Result<ValueId, BackboneError> {
    if stride == 1 && net.channels(x) == out {
        return Ok(x);
    }
    let name = format!("{name}.downsample");
    net.conv(&format!("{name}.0"), &format!("{name}.1"), x, spec(out, 1, stride))
}

fn spec(out: usize, kernel: usize, stride: usize) -> Spec {
    Spec {
        out,
        kernel,
        stride,
        padding: Padding::Symmetric(kernel / 2),
        depthwise: false,
        residual: None,
        activation: Activation::Linear,
    }
}

impl Spec {
    fn relu(self) -> Spec {
        Spec {
            activation: Activation::Relu,
            ..self
        }
    }

    fn add(self, residual: ValueId) -> Spec {
        Spec {
            residual: Some(residual),
            ..self
        }
    }
}
