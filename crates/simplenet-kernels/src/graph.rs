//! A convolution network as data: what a backbone is, before anything decides how to run it.
//!
//! A [`Graph`] is a list of nodes in the order they run. Node `i` reads values that exist before it and makes
//! [`ValueId`] `i + 1`; value 0 is the image. Batch normalisation never appears: it is folded into the weights when a
//! checkpoint is loaded. The same graph runs on the CPU engine ([`crate::engine`]), on a GPU
//! (`crate::cuda::network`) and through candle ([`crate::candle_graph`]), which is the reference and the way to other devices.

use thiserror::Error;

/// No image is as wide, and sizes stay far from what a pointer counts.
const MOST_PADDING: usize = 1 << 16;

/// Of a pooling, whose padding is smaller.
const LARGEST_WINDOW: usize = 1 << 16;

/// A value of a [`Graph`]: 0 is the input image, `i + 1` is the output of node `i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

impl ValueId {
    /// The input image.
    pub const INPUT: ValueId = ValueId(0);
}

/// How many zeros stand around the input of a convolution or pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// The same number on all four sides (PyTorch).
    Symmetric(usize),
    /// TensorFlow's `SAME`: as many as make the output `ceil(input / stride)`, the odd one at the bottom and right.
    Same,
}

impl Padding {
    /// Zeros before and after one side of length `input`.
    pub fn before_after(self, input: usize, kernel: usize, stride: usize) -> (usize, usize) {
        match self {
            Padding::Symmetric(p) => (p, p),
            Padding::Same => {
                let total = ((input.div_ceil(stride) - 1) * stride + kernel).saturating_sub(input);
                (total / 2, total - total / 2)
            }
        }
    }

    /// Length of one side after the operation, or `None` where the kernel does not fit.
    pub fn output(self, input: usize, kernel: usize, stride: usize) -> Option<usize> {
        if input == 0 {
            return None;
        }
        let (before, after) = self.before_after(input, kernel, stride);
        (input + before + after)
            .checked_sub(kernel)
            .map(|span| span / stride + 1)
    }
}

/// What follows a convolution's bias and residual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Linear,
    /// `max(0, x)`.
    Relu,
    /// `min(max(0, x), 6)`.
    Relu6,
}

/// A square convolution with everything that follows it: `activation(conv(x) + bias + residual)`.
#[derive(Debug, Clone)]
pub struct Conv {
    /// What it reads, `[B, in_channels, H, W]`.
    pub input: ValueId,
    /// `[out_channels, in_channels / groups, kernel, kernel]`, row-major.
    pub weight: Vec<f32>,
    /// `[out_channels]`.
    pub bias: Vec<f32>,
    /// Channels in.
    pub in_channels: usize,
    /// Channels out.
    pub out_channels: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Step of the kernel.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: Padding,
    /// 1 (dense) or `in_channels` (depthwise).
    pub groups: usize,
    /// Added before the activation; the shape of the output.
    pub residual: Option<ValueId>,
    /// Applied last.
    pub activation: Activation,
}

/// A square max pooling; padding never wins.
#[derive(Debug, Clone)]
pub struct MaxPool {
    /// What it reads.
    pub input: ValueId,
    /// Side of the window.
    pub kernel: usize,
    /// Step of the window.
    pub stride: usize,
    /// Cells around the input.
    pub padding: Padding,
}

/// One step of a [`Graph`].
#[derive(Debug, Clone)]
pub enum Node {
    /// Convolution, bias, residual, activation.
    Conv(Conv),
    /// Max pooling.
    MaxPool(MaxPool),
}

/// A convolution network.
///
/// ```
/// use simplenet_kernels::graph::{Activation, Conv, Graph, Padding, ValueId};
/// let mut graph = Graph::new(3);
/// let stem = graph.conv(Conv {
///     input: ValueId::INPUT, weight: vec![0.1; 8 * 3 * 9], bias: vec![0.0; 8], in_channels: 3, out_channels: 8,
///     kernel: 3, stride: 2, padding: Padding::Symmetric(1), groups: 1, residual: None, activation: Activation::Relu,
/// })?;
/// assert_eq!(graph.shapes([1, 3, 5, 8])?[stem.0], [1, 8, 3, 4]);
/// # Ok::<(), simplenet_kernels::graph::GraphError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Graph {
    input_channels: usize,
    nodes: Vec<Node>,
    channels: Vec<usize>,
}

/// Why a graph or an input was refused.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GraphError {
    /// A node reads a value that does not exist yet.
    #[error("node {node} reads value {value}, but only {available} values exist before it")]
    UnknownValue {
        /// The node.
        node: usize,
        /// What it reads.
        value: usize,
        /// How many there are.
        available: usize,
    },
    /// A node does not fit the value it reads, or itself.
    #[error("node {node}: {what} is {found}, expected {expected}")]
    Mismatch {
        /// The node.
        node: usize,
        /// The quantity.
        what: &'static str,
        /// As given.
        found: usize,
        /// As needed.
        expected: usize,
    },
    /// The image has another number of channels than the graph.
    #[error("the input has {found} channels, the network expects {expected}")]
    InputChannels {
        /// As given.
        found: usize,
        /// As needed.
        expected: usize,
    },
    /// The image is too small for a kernel.
    #[error("an input of {height}×{width} leaves nothing for the kernel of node {node}")]
    TooSmall {
        /// The node.
        node: usize,
        /// Height of the image.
        height: usize,
        /// Width of the image.
        width: usize,
    },
    /// The values of one image are more than memory holds.
    #[error("an input of {height}×{width} makes more values than memory holds")]
    TooLarge {
        /// Height of the image.
        height: usize,
        /// Width of the image.
        width: usize,
    },
}

impl Graph {
    /// An empty network on images of `input_channels` channels.
    pub fn new(input_channels: usize) -> Graph {
        Graph {
            input_channels,
            nodes: Vec::new(),
            channels: vec![input_channels],
        }
    }

    /// The nodes in the order they run.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Channels of a value.
    pub fn channels(&self, value: ValueId) -> usize {
        self.channels[value.0]
    }

    /// Appends a convolution; checks it against what it reads.
    pub fn conv(&mut self, conv: Conv) -> Result<ValueId, GraphError> {
        let node = self.nodes.len();
        let check = |what, found, expected| equal(node, what, found, expected);
        check("in_channels", conv.in_channels, self.known(conv.input)?)?;
        if conv.groups != 1 {
            check("groups (1, or all channels)", conv.groups, conv.in_channels)?;
            check(
                "out_channels of a depthwise convolution",
                conv.out_channels,
                conv.in_channels,
            )?;
        }
        check("stride (at least 1)", conv.stride, conv.stride.max(1))?;
        check("kernel (at least 1)", conv.kernel, conv.kernel.max(1))?;
        check("in_channels (at least 1)", conv.in_channels, conv.in_channels.max(1))?;
        check("out_channels (at least 1)", conv.out_channels, conv.out_channels.max(1))?;
        let per_filter = conv.in_channels / conv.groups * conv.kernel * conv.kernel;
        check("length of weight", conv.weight.len(), conv.out_channels * per_filter)?;
        check("length of bias", conv.bias.len(), conv.out_channels)?;
        if let Padding::Symmetric(padding) = conv.padding {
            check("padding (at most 65536)", padding, padding.min(MOST_PADDING))?;
        }
        if let Some(residual) = conv.residual {
            check("channels of the residual", self.known(residual)?, conv.out_channels)?;
        }
        self.channels.push(conv.out_channels);
        self.nodes.push(Node::Conv(conv));
        Ok(ValueId(node + 1))
    }

    /// Appends a max pooling; checks it against itself.
    pub fn max_pool(&mut self, pool: MaxPool) -> Result<ValueId, GraphError> {
        let node = self.nodes.len();
        let channels = self.known(pool.input)?;
        equal(node, "stride (at least 1)", pool.stride, pool.stride.max(1))?;
        equal(node, "kernel (at least 1)", pool.kernel, pool.kernel.max(1))?;
        let kernel = pool.kernel.min(LARGEST_WINDOW);
        equal(node, "kernel of a pooling (at most 65536)", pool.kernel, kernel)?;
        if let Padding::Symmetric(padding) = pool.padding {
            // Otherwise some windows would hold nothing but padding, which has no maximum.
            let most = pool.kernel - 1;
            equal(
                node,
                "padding of a pooling (less than its kernel)",
                padding,
                padding.min(most),
            )?;
        }
        self.channels.push(channels);
        self.nodes.push(Node::MaxPool(pool));
        Ok(ValueId(self.nodes.len()))
    }

    /// Shape `[B, C, H, W]` of every value for an input of that shape; index 0 is the input.
    pub fn shapes(&self, input: [usize; 4]) -> Result<Vec<[usize; 4]>, GraphError> {
        let [batch, channels, height, width] = input;
        if channels != self.input_channels {
            return Err(GraphError::InputChannels {
                found: channels,
                expected: self.input_channels,
            });
        }
        let mut shapes = vec![input];
        for (node, step) in self.nodes.iter().enumerate() {
            let (from, kernel, stride, padding) = match step {
                Node::Conv(conv) => (conv.input, conv.kernel, conv.stride, conv.padding),
                Node::MaxPool(pool) => (pool.input, pool.kernel, pool.stride, pool.padding),
            };
            let [_, _, h, w] = shapes[from.0];
            let too_small = GraphError::TooSmall { node, height, width };
            let h = padding.output(h, kernel, stride).ok_or_else(|| too_small.clone())?;
            let w = padding.output(w, kernel, stride).ok_or(too_small)?;
            let shape = [batch, self.channels[node + 1], h, w];
            if let Node::Conv(Conv {
                residual: Some(residual),
                ..
            }) = step
            {
                for (what, axis) in [("height of the residual", 2), ("width of the residual", 3)] {
                    let (found, expected) = (shapes[residual.0][axis], shape[axis]);
                    if found != expected {
                        return Err(GraphError::Mismatch {
                            node,
                            what,
                            found,
                            expected,
                        });
                    }
                }
            }
            shapes.push(shape);
        }
        Ok(shapes)
    }

    /// Multiply-accumulates for one input of that shape.
    pub fn macs(&self, input: [usize; 4]) -> Result<u64, GraphError> {
        let shapes = self.shapes(input)?;
        let of = |(node, step): (usize, &Node)| match step {
            Node::Conv(conv) => {
                let outputs: usize = shapes[node + 1].iter().product();
                (outputs * conv.in_channels / conv.groups * conv.kernel * conv.kernel) as u64
            }
            Node::MaxPool(_) => 0,
        };
        Ok(self.nodes.iter().enumerate().map(of).sum())
    }

    fn known(&self, value: ValueId) -> Result<usize, GraphError> {
        let unknown = GraphError::UnknownValue {
            node: self.nodes.len(),
            value: value.0,
            available: self.channels.len(),
        };
        self.channels.get(value.0).copied().ok_or(unknown)
    }
}

fn equal(node: usize, what: &'static str, found: usize, expected: usize) -> Result<(), GraphError> {
    if found == expected {
        return Ok(());
    }
    Err(GraphError::Mismatch {
        node,
        what,
        found,
        expected,
    })
}
