//! Where each trainable tensor lies in a head's one vector of parameters.
//!
//! One vector, because then gradients and both moments of Adam are vectors of the same layout, an optimiser step is one
//! sweep, and the adaptor's part and the discriminator's part are two slices of it.

use std::ops::Range;

use crate::config::HeadConfig;

/// A tensor's name, shape and place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) place: Range<usize>,
    pub(crate) start: Start,
}

/// How a tensor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// A linear layer's weight, `[outputs, inputs]`: Xavier normal.
    Weight,
    /// A linear layer's bias: uniform within ±1/√inputs, PyTorch's default.
    Bias { inputs: usize },
    /// A constant.
    Constant(u8),
}

/// A fully connected layer of the adaptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Linear {
    pub(crate) weight: Range<usize>,
    pub(crate) bias: Option<Range<usize>>,
}

/// All of it. Adaptor first, then the discriminator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) entries: Vec<Entry>,
    pub(crate) adaptor: Vec<Linear>,
    pub(crate) fc1_weight: Range<usize>,
    pub(crate) fc1_bias: Range<usize>,
    pub(crate) bn_weight: Range<usize>,
    pub(crate) bn_bias: Range<usize>,
    pub(crate) fc2_weight: Range<usize>,
}

impl Layout {
    pub(crate) fn new(config: &HeadConfig) -> Layout {
        let HeadConfig { dim, hidden, adaptor } = *config;
        let mut entries = Vec::new();
        let mut add = |name: String, shape: &[usize], start: Start| {
            let from = entries.last().map_or(0, |last: &Entry| last.place.end);
            let place = from..from + shape.iter().product::<usize>();
            let shape = shape.to_vec();
            entries.push(Entry {
                name,
                shape,
                place: place.clone(),
                start,
            });
            place
        };
        let mut layers = Vec::new();
        for layer in 0..adaptor.layers() {
            let weight = add(format!("adaptor.{layer}.weight"), &[dim, dim], Start::Weight);
            let bias = adaptor
                .has_bias()
                .then(|| add(format!("adaptor.{layer}.bias"), &[dim], Start::Bias { inputs: dim }));
            layers.push(Linear { weight, bias });
        }
        let fc1_weight = add("disc.fc1.weight".into(), &[hidden, dim], Start::Weight);
        let fc1_bias = add("disc.fc1.bias".into(), &[hidden], Start::Bias { inputs: dim });
        let bn_weight = add("disc.bn.weight".into(), &[hidden], Start::Constant(1));
        let bn_bias = add("disc.bn.bias".into(), &[hidden], Start::Constant(0));
        let fc2_weight = add("disc.fc2.weight".into(), &[1, hidden], Start::Weight);
        Layout {
            entries,
            adaptor: layers,
            fc1_weight,
            fc1_bias,
            bn_weight,
            bn_bias,
            fc2_weight,
        }
    }

    /// Number of trainable values.
    pub(crate) fn len(&self) -> usize {
        self.fc2_weight.end
    }

    /// Number of those that are the adaptor's; they come first.
    pub(crate) fn adaptor_len(&self) -> usize {
        self.fc1_weight.start
    }
}
