//! EfficientNet-Lite0 as TensorFlow has it (`efficientnet_lite_builder.py`), under timm's names.

use simplenet_kernels::graph::{Activation, Graph, Padding, ValueId};

use crate::arch::{Arch, Stage};
use crate::backbone::Taps;
use crate::checkpoint::Checkpoint;
use crate::error::BackboneError;
use crate::network::{Network, Spec};

const BATCH_NORM_EPSILON: f64 = 1e-3;

/// Blocks with the same channels; the first one takes the stride.
struct Blocks {
    repeats: usize,
    kernel: usize,
    stride: usize,
    out: usize,
    /// The output of the last one.
    tap: Option<Stage>,
}

const fn blocks(repeats: usize, kernel: usize, stride: usize, out: usize, tap: Option<Stage>) -> Blocks {
    Blocks {
        repeats,
        kernel,
        stride,
        out,
        tap,
    }
}

/// All but the first of them widen their input sixfold.
const NETWORK: [Blocks; 7] = [
    blocks(1, 3, 1, 16, None),
    blocks(2, 3, 2, 24, Some(Stage::Layer1)),
    blocks(2, 5, 2, 40, Some(Stage::Layer2)),
    blocks(3, 3, 2, 80, None),
    blocks(3, 5, 1, 112, Some(Stage::Layer3)),
    blocks(4, 5, 2, 192, None),
    blocks(1, 3, 1, 320, Some(Stage::Layer4)),
];

/// The network up to and including `last`.
pub(crate) fn build(checkpoint: &Checkpoint, last: Stage) -> Result<(Graph, Taps), BackboneError> {
    let mut net = Network::new(Arch::EfficientNetLite0, checkpoint, BATCH_NORM_EPSILON);
    let mut x = net.conv("conv_stem", "bn1", ValueId::INPUT, spec(32, 3, 2).relu6())?;

    let mut taps = Taps::new();
    for (group, blocks) in NETWORK.iter().enumerate() {
        for block in 0..blocks.repeats {
            let name = format!("blocks.{group}.{block}");
            let stride = if block == 0 { blocks.stride } else { 1 };
            x = match group {
                0 => separable(&mut net, &name, x, blocks.kernel, blocks.out)?,
                _ => inverted_residual(&mut net, &name, x, blocks.kernel, stride, blocks.out)?,
            };
        }
        if let Some(stage) = blocks.tap {
            taps.push((stage, x));
            if stage == last {
                break;
            }
        }
    }
    Ok((net.finish(), taps))
}

/// `pointwise(relu6(depthwise(x)))`
fn separable(net: &mut Network, name: &str, x: ValueId, kernel: usize, out: usize) -> Result<ValueId, BackboneError> {
    let channels = net.channels(x);
    let y = net.conv(
        &format!("{name}.conv_dw"),
        &format!("{name}.bn1"),
        x,
        spec(channels, kernel, 1).depthwise().relu6(),
    )?;
    net.conv(&format!("{name}.conv_pw"), &format!("{name}.bn2"), y, spec(out, 1, 1))
}

/// `pointwise(relu6(depthwise(relu6(pointwise(x)))))`, plus `x` where that has the same shape.
fn inverted_residual(
    net: &mut Network,
    name: &str,
    x: ValueId,
    kernel: usize,
    stride: usize,
    out: usize,
) -> Result<ValueId, BackboneError> {
    let wide = 6 * net.channels(x);
    let y = net.conv(
        &format!("{name}.conv_pw"),
        &format!("{name}.bn1"),
        x,
        spec(wide, 1, 1).relu6(),
    )?;
    let y = net.conv(
        &format!("{name}.conv_dw"),
        &format!("{name}.bn2"),
        y,
        spec(wide, kernel, stride).depthwise().relu6(),
    )?;
    let residual = (stride == 1 && net.channels(x) == out).then_some(x);
    let project = Spec {
        residual,
        ..spec(out, 1, 1)
    };
    net.conv(&format!("{name}.conv_pwl"), &format!("{name}.bn3"), y, project)
}

fn spec(out: usize, kernel: usize, stride: usize) -> Spec {
    Spec {
        out,
        kernel,
        stride,
        padding: Padding::Same,
        depthwise: false,
        residual: None,
        activation: Activation::Linear,
    }
}

impl Spec {
    fn depthwise(self) -> Spec {
        Spec {
            depthwise: true,
            ..self
        }
    }

    fn relu6(self) -> Spec {
        Spec {
            activation: Activation::Relu6,
            ..self
        }
    }
}
