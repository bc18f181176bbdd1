//! From a [`Graph`] to steps with packed weights: what does not depend on the size of an image.
//!
//! The weights of all steps lie in one buffer in the order of the steps: what is fetched while one ends are most often the first
//! weights of the next.
//!
//! Dense weights are cut into blocks of a few vectors of output channels, and within a block laid out in the order in
//! which the kernel reads them: `[kernel row, kernel column, input channel, output channel of the block]`. Where terms
//! are taken two at a time (bf16), pairs of neighbouring input channels stand together. For panels the reduction is cut into
//! pieces of a fixed length, and those stand first, each with its vectors one after the other:
//! `[piece of the input channels, kernel row, kernel column, vector of the block, input channel of the piece, ...]`.

use std::ops::Range;

use super::buffer::AlignedBuffer;
use super::kernels::{self, Kernels};
use super::lanes::Element;
use super::panel::{GROUPS, PanelKernel};
use super::tile::TileFn;
use super::winograd::{self, POSITIONS, WinogradKernels};
use crate::graph::{Activation, Conv, Graph, Node, Padding, ValueId};

/// Stored channels are a multiple of the widest vector, so that no kernel has a remainder of channels.
pub(super) const CHANNEL_ALIGNMENT: usize = 16;

/// One node, ready to run.
pub(super) struct Step<T: 'static> {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: Padding,
    pub(super) work: Work<T>,
}

impl<T> Step<T> {
    /// How many rows of output are best kept together: those that share rows of their windows in a kernel's strips.
    pub(super) fn stack(&self) -> usize {
        let shares_rows = self.kernel > 1 && self.stride == 1;
        match &self.work {
            Work::Dense(Dense {
                kernel: DenseKernel::Panel { .. },
                ..
            }) if shares_rows => GROUPS,
            _ => 1,
        }
    }
}

pub(super) enum Work<T: 'static> {
    Dense(Dense<T>),
    Winograd(Winograd<T>),
    Depthwise(Depthwise),
    MaxPool,
}

/// What follows the sums: bias, residual, and the activation as a clamp.
pub(super) struct Epilogue {
    /// Padded with zeros to the stored channels, and to whole pairs of vectors.
    pub(super) bias: Vec<f32>,
    pub(super) residual: Option<usize>,
    pub(super) low: f32,
    pub(super) high: f32,
}

pub(super) struct Dense<T: 'static> {
    pub(super) kernel: DenseKernel<T>,
    pub(super) blocks: Vec<Block>,
    /// Which of the network's.
    pub(super) weights: Range<usize>,
    pub(super) epilogue: Epilogue,
    /// Whether a row of the kernel is one contiguous piece of the reduction, because pixels lie without gaps.
    pub(super) merged_rows: bool,
}

pub(super) enum DenseKernel<T: 'static> {
    Tiles {
        /// `[vectors - 1][pixels - 1]`.
        tiles: &'static [&'static [TileFn<T>]],
        /// Steps in one contiguous run of the reduction.
        run: usize,
    },
    Panel {
        kernel: &'static PanelKernel<T>,
        /// Pieces in one contiguous run of the reduction.
        pieces: usize,
    },
}

impl<T> DenseKernel<T> {
    /// How many terms of a run stand together, where a run has `terms`. A panel's pieces are filled up with zero weights; the
    /// activations that meet those are whatever follows, and finite if the image is.
    fn piece(&self, terms: usize) -> usize {
        match self {
            DenseKernel::Tiles { .. } => terms,
            DenseKernel::Panel { kernel, .. } => kernel.terms,
        }
    }
}

/// What a dense convolution sums up: contiguous runs, the taps in each, and the terms.
struct Reduction {
    runs: usize,
    taps: usize,
    terms: usize,
}

/// A 3×3 convolution with stride 1 as [`super::winograd`] does it.
pub(super) struct Winograd<T: 'static> {
    pub(super) kernels: &'static WinogradKernels<T>,
    pub(super) blocks: Vec<Block>,
    /// Which of the network's: in each block `[POSITIONS, terms, width of the block]`, whole steps of terms together.
    pub(super) weights: Range<usize>,
    pub(super) epilogue: Epilogue,
    pub(super) in_channels: usize,
    /// Channels of the input up to a whole step of the reduction.
    pub(super) terms: usize,
}

/// A block of output channels.
pub(super) struct Block {
    pub(super) first_channel: usize,
    pub(super) vectors: usize,
    /// Where its weights begin, among all of the network's.
    pub(super) weights: usize,
}

/// Weights in f32 whatever the activations are: they are few, and the kernel widens activations anyway.
pub(super) struct Depthwise {
    /// `[channel / lanes, kernel, kernel, lanes]`.
    pub(super) weights: Vec<f32>,
    pub(super) epilogue: Epilogue,
}

/// The part of a network that its outputs need.
pub(super) struct Network<T: 'static> {
    pub(super) kernels: &'static Kernels<T>,
    pub(super) steps: Vec<Step<T>>,
    /// Of all dense convolutions.
    pub(super) weights: AlignedBuffer<T>,
    /// Values to return.
    pub(super) outputs: Vec<usize>,
    /// Channels of every value.
    pub(super) channels: Vec<usize>,
    /// Elements from pixel to pixel of every value.
    pub(super) pixel_strides: Vec<usize>,
    /// Whether stored values are rounded to bf16 although they are kept in f32.
    pub(super) round: bool,
}

impl<T: Element> Network<T> {
    pub(super) fn new(graph: &Graph, outputs: &[ValueId], kernels: &'static Kernels<T>, round: bool) -> Network<T> {
        let needed = needed(graph, outputs);
        let values = graph.nodes().len() + 1;
        let channels: Vec<usize> = (0..values).map(|value| graph.channels(ValueId(value))).collect();
        let mut pixel_strides: Vec<usize> = channels.iter().map(|&channels| pixel_stride::<T>(channels)).collect();
        if image_stays_dense(graph, outputs, &needed, kernels.winograd.is_some()) {
            pixel_strides[0] = channels[0].next_multiple_of(kernels.step);
        }
        let mut pack = Packing {
            kernels,
            bf16: round || size_of::<T>() == 2,
            len: 0,
        };
        let mut steps = Vec::new();
        for (index, node) in graph.nodes().iter().enumerate().filter(|(index, _)| needed[index + 1]) {
            steps.push(match node {
                Node::Conv(conv) => Step {
                    input: conv.input.0,
                    output: index + 1,
                    kernel: conv.kernel,
                    stride: conv.stride,
                    padding: conv.padding,
                    work: pack.work(conv, pixel_strides[conv.input.0]),
                },
                Node::MaxPool(pool) => Step {
                    input: pool.input.0,
                    output: index + 1,
                    kernel: pool.kernel,
                    stride: pool.stride,
                    padding: pool.padding,
                    work: Work::MaxPool,
                },
            });
        }
        let mut weights = AlignedBuffer::zeroed(pack.len);
        for step in &steps {
            let Node::Conv(conv) = &graph.nodes()[step.output - 1] else {
                continue;
            };
            match &step.work {
                Work::Dense(dense) => pack.fill_dense(conv, dense, weights.as_mut_slice()),
                Work::Winograd(winograd) => pack.fill_winograd(conv, winograd, weights.as_mut_slice()),
                Work::Depthwise(_) | Work::MaxPool => {}
            }
        }
        Network {
            kernels,
            steps,
            weights,
            outputs: outputs.iter().map(|value| value.0).collect(),
            channels,
            pixel_strides,
            round,
        }
    }
}

/// Which values the outputs need, found backwards.
fn needed(graph: &Graph, outputs: &[ValueId]) -> Vec<bool> {
    let mut needed = vec![false; graph.nodes().len() + 1];
    needed[0] = true;
    for value in outputs {
        needed[value.0] = true;
    }
    for (index, node) in graph.nodes().iter().enumerate().rev() {
        if needed[index + 1] {
            let (input, residual) = reads(node);
            needed[input.0] = true;
            if let Some(residual) = residual {
                needed[residual.0] = true;
            }
        }
    }
    needed
}

fn reads(node: &Node) -> (ValueId, Option<ValueId>) {
    match node {
        Node::Conv(conv) => (conv.input, conv.residual),
        Node::MaxPool(pool) => (pool.input, None),
    }
}

/// Whether only plain dense convolutions read the image; the others read whole vectors of channels. Then its pixels are
/// stored without filling vectors, and a row of the stem's kernel is one contiguous piece (7 × 3 = 21 terms) instead of many
/// short ones.
fn image_stays_dense(graph: &Graph, outputs: &[ValueId], needed: &[bool], has_winograd: bool) -> bool {
    let is_dense = |conv: &Conv| conv.groups == 1 && !(has_winograd && suits_winograd(conv));
    let all_dense = graph.nodes().iter().enumerate().all(|(index, node)| match node {
        _ if !needed[index + 1] => true,
        Node::Conv(conv) => conv.residual != Some(ValueId::INPUT) && (conv.input != ValueId::INPUT || is_dense(conv)),
        Node::MaxPool(pool) => pool.input != ValueId::INPUT,
    });
    all_dense && !outputs.contains(&ValueId::INPUT)
}

/// Channels rounded up to whole vectors; where that makes neighbouring pixels fall onto the same few sets of the L1
/// cache (a stride of a multiple of 512 bytes), one cache line more.
pub(super) fn pixel_stride<T>(channels: usize) -> usize {
    let stride = channels.next_multiple_of(CHANNEL_ALIGNMENT);
    if (stride * size_of::<T>()).is_multiple_of(512) {
        stride + 64 / size_of::<T>()
    } else {
        stride
    }
}

fn suits_winograd(conv: &Conv) -> bool {
    // With fewer channels the transforms would cost more than they save.
    const CHANNELS: usize = 32;
    (conv.kernel, conv.stride, conv.groups) == (3, 1, 1) && conv.in_channels.min(conv.out_channels) >= CHANNELS
}

struct Packing<T: 'static> {
    kernels: &'static Kernels<T>,
    /// Whether weights are rounded to bf16, whatever they are stored as.
    bf16: bool,
    /// Of the weights of the steps so far.
    len: usize,
}

impl<T: Element> Packing<T> {
    fn work(&mut self, conv: &Conv, pixel_stride: usize) -> Work<T> {
        if conv.groups != 1 {
            return Work::Depthwise(self.depthwise(conv));
        }
        match &self.kernels.winograd {
            Some(kernels) if suits_winograd(conv) => Work::Winograd(self.winograd(conv, kernels)),
            _ => Work::Dense(self.dense(conv, pixel_stride)),
        }
    }

    fn winograd(&mut self, conv: &Conv, kernels: &'static WinogradKernels<T>) -> Winograd<T> {
        let vectors = conv.out_channels.next_multiple_of(CHANNEL_ALIGNMENT) / self.kernels.lanes;
        let terms = conv.in_channels.next_multiple_of(self.kernels.step);
        let for_each_channel = POSITIONS * terms;
        Winograd {
            kernels,
            blocks: self.blocks(vectors, kernels.products.len(), for_each_channel),
            weights: self.reserve(for_each_channel * vectors * self.kernels.lanes),
            epilogue: epilogue(conv),
            in_channels: conv.in_channels,
            terms,
        }
    }

    fn fill_winograd(&self, conv: &Conv, winograd: &Winograd<T>, weights: &mut [T]) {
        let (in_channels, step) = (conv.in_channels, self.kernels.step);
        for block in &winograd.blocks {
            let width = block.vectors * self.kernels.lanes;
            let packed = &mut weights[block.weights..];
            for channel in block.first_channel..(block.first_channel + width).min(conv.out_channels) {
                let filters = conv.weight[channel * in_channels * 9..].chunks_exact(9);
                for (from, filter) in filters.take(in_channels).enumerate() {
                    // What is stored in bf16 is rounded where it is stored, once; bf16 is emulated by rounding the filter.
                    let emulated: [f32; 9] = std::array::from_fn(|tap| self.rounded(filter[tap]));
                    let filter = if size_of::<T>() == 2 { filter } else { &emulated };
                    for (position, &value) in winograd::coefficients(filter).iter().enumerate() {
                        let term = position * winograd.terms + from;
                        let at = (term / step * width + channel - block.first_channel) * step + term % step;
                        packed[at] = T::from_f32(value as f32);
                    }
                }
            }
        }
    }

    /// Room for the weights of the next step, from a cache line on.
    fn reserve(&mut self, len: usize) -> Range<usize> {
        let begin = self.len;
        self.len += len.next_multiple_of(64 / size_of::<T>());
        begin..begin + len
    }

    /// Cuts `vectors` of output channels, for each lane of which `weights` elements are packed next.
    fn blocks(&self, vectors: usize, widest: usize, weights: usize) -> Vec<Block> {
        let mut first = 0;
        let block = |vectors| {
            let first_channel = first * self.kernels.lanes;
            first += vectors;
            Block {
                first_channel,
                vectors,
                weights: self.len + first_channel * weights,
            }
        };
        kernels::blocks(vectors, widest).into_iter().map(block).collect()
    }

    fn dense(&mut self, conv: &Conv, pixel_stride: usize) -> Dense<T> {
        let (lanes, step) = (self.kernels.lanes, self.kernels.step);
        let panel = self.kernels.panel.as_ref();
        // Filled up with zero weights to whole steps; the activations that meet them are stored zeros.
        let stored_channels = conv.in_channels.next_multiple_of(step);
        // Where pixels fill the pieces of a panel by themselves, single taps leave more to choose in their order.
        let fills_pieces = panel.is_some_and(|panel| stored_channels.is_multiple_of(panel.terms));
        let merged_rows = pixel_stride == stored_channels && !fills_pieces;
        let Reduction { runs, terms, .. } = self.reduction(conv, merged_rows);
        let vectors = conv.out_channels.next_multiple_of(CHANNEL_ALIGNMENT) / lanes;
        let (kernel, widest, full) = match panel {
            Some(panel) => {
                let pieces = terms.div_ceil(panel.terms);
                let kernel = DenseKernel::Panel { kernel: panel, pieces };
                (kernel, panel.vectors, panel.vectors)
            }
            None => {
                let (tiles, run) = (self.kernels.dense, terms / step);
                (DenseKernel::Tiles { tiles, run }, tiles.len(), 1)
            }
        };
        let for_each_channel = runs * terms.next_multiple_of(kernel.piece(terms));
        Dense {
            blocks: self.blocks(vectors, widest, for_each_channel),
            weights: self.reserve(for_each_channel * vectors.next_multiple_of(full) * lanes),
            kernel,
            epilogue: epilogue(conv),
            merged_rows,
        }
    }

    fn fill_dense(&self, conv: &Conv, dense: &Dense<T>, weights: &mut [T]) {
        let (lanes, step, taps_of_all) = (self.kernels.lanes, self.kernels.step, conv.kernel * conv.kernel);
        let Reduction { runs, taps, terms } = self.reduction(conv, dense.merged_rows);
        let (stored_channels, piece) = (terms / taps, dense.kernel.piece(terms));
        // Of a panel each vector has the terms of a piece together, else the whole block.
        let (full, together) = match &dense.kernel {
            DenseKernel::Panel { kernel, .. } => (kernel.vectors, Some(lanes)),
            DenseKernel::Tiles { .. } => (1, None),
        };
        for block in &dense.blocks {
            let first_channel = block.first_channel;
            let width = block.vectors.next_multiple_of(full) * lanes;
            let together = together.unwrap_or(width);
            for channel in first_channel..(first_channel + width).min(conv.out_channels) {
                let filter = &conv.weight[channel * conv.in_channels * taps_of_all..];
                for tap in 0..taps_of_all {
                    for from in 0..conv.in_channels {
                        let (run, term) = (tap / taps, tap % taps * stored_channels + from);
                        // Pieces first and runs second: neighbouring taps read the same pixels.
                        let pieces_before = term / piece * runs + run;
                        let channel = channel - first_channel;
                        let vectors_before = pieces_before * (width / together) + channel / together;
                        let pairs_before = vectors_before * piece / step + term % piece / step;
                        let at = (pairs_before * together + channel % together) * step + term % step;
                        weights[block.weights + at] = T::from_f32(self.rounded(filter[from * taps_of_all + tap]));
                    }
                }
            }
        }
    }

    fn reduction(&self, conv: &Conv, merged_rows: bool) -> Reduction {
        let (runs, taps) = match merged_rows {
            true => (conv.kernel, conv.kernel),
            false => (conv.kernel * conv.kernel, 1),
        };
        let terms = taps * conv.in_channels.next_multiple_of(self.kernels.step);
        Reduction { runs, taps, terms }
    }

    fn depthwise(&self, conv: &Conv) -> Depthwise {
        let (lanes, taps) = (self.kernels.lanes, conv.kernel * conv.kernel);
        let mut weights = vec![0.0; conv.out_channels.next_multiple_of(CHANNEL_ALIGNMENT) * taps];
        for channel in 0..conv.out_channels {
            for tap in 0..taps {
                let at = (channel / lanes * taps + tap) * lanes + channel % lanes;
                weights[at] = self.rounded(conv.weight[channel * taps + tap]);
            }
        }
        Depthwise {
            weights,
            epilogue: epilogue(conv),
        }
    }

    fn rounded(&self, weight: f32) -> f32 {
        match self.bf16 {
            true => half::bf16::from_f32(weight).to_f32(),
            false => weight,
        }
    }
}

fn epilogue(conv: &Conv) -> Epilogue {
    let mut bias = conv.bias.clone();
    bias.resize(conv.out_channels.next_multiple_of(2 * CHANNEL_ALIGNMENT), 0.0);
    let (low, high) = match conv.activation {
        Activation::Linear => (f32::NEG_INFINITY, f32::INFINITY),
        Activation::Relu => (0.0, f32::INFINITY),
        Activation::Relu6 => (0.0, 6.0),
    };
    Epilogue {
        bias,
        residual: conv.residual.map(|value| value.0),
        low,
        high,
    }
}
