//! Weights in the orders in which the kernels read them.

use crate::graph::{Conv, Node, Padding, ValueId};

/// Bytes of channels that a convolution on matrix units works through tap by tap before the next ones.
const CHANNEL_BLOCK: usize = 128;
/// Channels of a pixel in a pair of pixels, and of the pair.
const PIXEL: usize = 4;
pub(super) const PAIR: usize = 2 * PIXEL;

/// Channels as they are stored.
pub(super) fn padded(channels: usize) -> usize {
    channels.next_multiple_of(8)
}

/// Filters of a dense convolution, `[outputs, inputs, taps]`.
pub(super) struct Filters {
    weight: Vec<f32>,
    inputs: usize,
    taps: usize,
}

impl Filters {
    pub(super) fn new(conv: &Conv) -> Filters {
        Filters {
            weight: conv.weight.clone(),
            inputs: conv.in_channels,
            taps: conv.kernel * conv.kernel,
        }
    }

    /// As `conv_f32` reads them: `[outputs, taps, inputs]`.
    pub(super) fn by_taps(&self) -> Vec<f32> {
        let inputs = padded(self.inputs);
        self.arranged(|value| value, |tap, channel| tap * inputs + channel)
    }

    /// As `conv_products` reads them, rounded by `convert`: `[outputs, blocks of channels, taps, channels of a block]`.
    pub(super) fn by_blocks<T: Copy + Default>(&self, convert: fn(f32) -> T) -> Vec<T> {
        let (inputs, block) = (padded(self.inputs), CHANNEL_BLOCK / size_of::<T>());
        let block = if inputs.is_multiple_of(block) { block } else { inputs };
        self.arranged(convert, |tap, channel| {
            (channel / block * self.taps + tap) * block + channel % block
        })
    }

    /// Values in another order, with zeros for the channels of padding: `place(tap, channel)` is where one goes in its filter.
    fn arranged<T: Copy + Default>(&self, convert: fn(f32) -> T, place: impl Fn(usize, usize) -> usize) -> Vec<T> {
        let (inputs, taps) = (self.inputs, self.taps);
        let outputs = self.weight.len() / (inputs * taps);
        let length = padded(inputs) * taps;
        let mut arranged = vec![T::default(); padded(outputs) * length];
        let filters = self.weight.chunks_exact(inputs * taps);
        for (to, from) in arranged.chunks_exact_mut(length).zip(filters) {
            for (channel, cells) in from.chunks_exact(taps).enumerate() {
                for (tap, &value) in cells.iter().enumerate() {
                    to[place(tap, channel)] = convert(value);
                }
            }
        }
        arranged
    }
}

/// Filters of a depthwise convolution: `[taps, channels]`.
pub(super) fn depthwise(conv: &Conv) -> Vec<f32> {
    let (taps, channels) = (conv.kernel * conv.kernel, padded(conv.out_channels));
    let mut weight = vec![0.0; taps * channels];
    for (channel, cells) in conv.weight.chunks_exact(taps).enumerate() {
        for (tap, &value) in cells.iter().enumerate() {
            weight[tap * channels + channel] = value;
        }
    }
    weight
}

/// A convolution of stride 2 over an image of few channels, as one of column stride 1 over pairs of pixels, which reads
/// half as many zeros.
///
/// Output column x reads columns 2x − p to 2x − p + kernel − 1, which lie in the pairs from x − ⌈p/2⌉ on; where p is odd, the
/// first pair begins one column early, with a zero weight.
pub(super) struct PairedConv {
    pub(super) filters: Filters,
    /// Pairs under the kernel.
    pub(super) columns: usize,
    pub(super) pad_left: usize,
}

impl PairedConv {
    /// Of a convolution that [`paired_node`] has chosen.
    pub(super) fn new(conv: &Conv) -> PairedConv {
        let (padding, _) = conv.padding.before_after(0, conv.kernel, conv.stride);
        let (kernel, early) = (conv.kernel, padding % 2);
        let columns = (kernel + early).div_ceil(2);
        let mut weight = vec![0.0; conv.out_channels * PAIR * kernel * columns];
        for (filter, values) in conv.weight.chunks_exact(conv.in_channels * kernel * kernel).enumerate() {
            for (at, &value) in values.iter().enumerate() {
                let (channel, row, column) = (at / (kernel * kernel), at / kernel % kernel, at % kernel + early);
                let channel = column % 2 * PIXEL + channel;
                weight[((filter * PAIR + channel) * kernel + row) * columns + column / 2] = value;
            }
        }
        PairedConv {
            filters: Filters {
                weight,
                inputs: PAIR,
                taps: kernel * columns,
            },
            columns,
            pad_left: padding.div_ceil(2),
        }
    }
}

/// The node that alone reads the image and can read it in pairs.
pub(super) fn paired_node(nodes: &[Node], outputs: &[ValueId]) -> Option<usize> {
    let reads_image = |node: &Node| match node {
        Node::Conv(conv) => conv.input == ValueId::INPUT || conv.residual == Some(ValueId::INPUT),
        Node::MaxPool(pool) => pool.input == ValueId::INPUT,
    };
    let mut readers = (0..nodes.len()).filter(|&index| reads_image(&nodes[index]));
    let (Some(index), None) = (readers.next(), readers.next()) else {
        return None;
    };
    let Node::Conv(conv) = &nodes[index] else { return None };
    let fits = conv.groups == 1
        && conv.residual.is_none()
        && conv.stride == 2
        && conv.in_channels <= PIXEL
        && matches!(conv.padding, Padding::Symmetric(_));
    (fits && !outputs.contains(&ValueId::INPUT)).then_some(index)
}
