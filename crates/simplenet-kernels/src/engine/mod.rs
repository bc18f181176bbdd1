//! The CPU convolution engine: runs a [`Graph`] on images.
//!
//! An [`Engine`] is a graph made ready for one instruction set: nodes that its outputs do not need are dropped and
//! weights are packed once. [`Engine::run`] takes a batch of images of any size and returns one [`FeatureMap`] per
//! output. [`reference::run`] computes the same with plain loops in f64; it is what the engine is tested against.
//!
//! ```
//! use simplenet_kernels::engine::{Engine, EngineConfig, Precision, reference};
//! use simplenet_kernels::graph::{Activation, Conv, Graph, Padding, ValueId};
//! use simplenet_kernels::isa::Isa;
//!
//! let mut graph = Graph::new(3);
//! let edges = graph.conv(Conv {
//!     input: ValueId::INPUT, weight: vec![0.1; 8 * 3 * 9], bias: vec![0.0; 8], in_channels: 3, out_channels: 8,
//!     kernel: 3, stride: 2, padding: Padding::Symmetric(1), groups: 1, residual: None, activation: Activation::Relu,
//! })?;
//! let engine = Engine::compile(&graph, &[edges], EngineConfig { precision: Precision::F32, isa: Isa::detect()? })?;
//! let (image, shape) = (vec![0.5; 3 * 5 * 7], [1, 3, 5, 7]);
//! let maps = engine.run(&image, shape)?;
//! assert_eq!((maps[0].n, maps[0].h, maps[0].w, maps[0].c), (1, 3, 4, 8));
//! let expected = reference::run(&graph, &[edges], &image, shape)?;
//! assert!(maps[0].data.iter().zip(&expected[0].data).all(|(fast, slow)| (fast - slow).abs() < 1e-5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it is fast
//!
//! - Activations are NHWC, channels rounded up to whole vectors, with the zeros that the next convolution needs around
//!   them already stored: inner loops have neither bounds tests nor remainders of channels (`plan.rs`, `pack.rs`).
//! - A strip of output pixels times a block of output channels stays in registers over the whole reduction; bias,
//!   residual and activation are applied before it is stored (`tile.rs`). On AMX that happens to one strip while the unit is at
//!   the next, and four rows of pixels share what they read (`panel.rs`).
//! - Neither neighbouring pixels nor the rows of a window fall onto the same few sets of the first cache (`pack.rs`, `plan.rs`).
//! - What is between the convolutions of an inverted residual block or a bottleneck, and does not fit the cache, is made and
//!   used a band of rows at a time (`bands.rs`), but for bottlenecks on AMX, which are no faster in bands.
//! - 3×3 convolutions with stride 1 take 16 multiplications where their definition has 36 (`winograd/`). Not with AMX, which is
//!   bound by memory.
//! - While a block of channels is in use the weights of the next one are fetched: a network's weights do not fit a core's
//!   cache, and one image uses each of them for too short a time to wait for it.
//! - Weights lie on huge pages (`buffer.rs`). Where they are larger than what they meet, two images of a thread share each pass
//!   over them (`run.rs`).
//! - As many images as threads, or a multiple, run side by side without waiting for each other; the rest is cut into tasks
//!   (`run.rs`), for threads that watch for the next step instead of sleeping (`team.rs`).
//!
//! Results are the same bytes for any number of threads and any batch an image is in: every output is one chain of
//! additions in a fixed order. They differ between instruction sets in the last bits.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
mod bands;
mod buffer;
mod depthwise;
mod kernels;
mod lanes;
mod pack;
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "only x86-64 has kernels that take panels")
)]
mod panel;
mod plan;
mod pool;
mod portable;
mod processor;
pub mod reference;
mod run;
mod task;
mod team;
mod tile;
mod winograd;

use std::ops::Range;

use half::bf16;
use thiserror::Error;

use self::kernels::Chosen;
use self::pack::Network;
use self::run::Kept;
pub(crate) use self::team::Team;
use crate::graph::{Graph, GraphError, ValueId};
use crate::isa::Isa;

/// What activations and weights are stored as. Sums are in f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 24 bits of significand.
    F32,
    /// 8 bits of significand: half the memory, and dense convolutions several times as fast on [`Isa::Amx`], up to twice on
    /// [`Isa::Avx512Bf16`]. Where no instruction multiplies bf16 it is emulated, at about the speed of f32 or less: weights and
    /// stored activations are rounded in the same way.
    Bf16,
}

/// How an [`Engine`] computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EngineConfig {
    /// Of activations and weights.
    pub precision: Precision,
    /// Whose kernels are used.
    pub isa: Isa,
}

/// Why an engine could not be compiled or run.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineError {
    /// The images do not fit the network.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// An output that the graph does not have.
    #[error("value {value} is asked for, but the graph has only {available} values")]
    UnknownOutput {
        /// As asked.
        value: usize,
        /// How many there are, the image included.
        available: usize,
    },
    /// This processor cannot run the instructions.
    #[error("the engine is to use {isa}, which this processor does not have\n\nhint: Isa::detect() finds the best one")]
    UnsupportedIsa {
        /// As asked.
        isa: Isa,
    },
    /// The pixels do not fill the shape.
    #[error("the images have {found} values, but the shape {shape:?} needs {expected}")]
    ImageLength {
        /// As given.
        found: usize,
        /// As needed.
        expected: usize,
        /// `[N, C, H, W]`.
        shape: [usize; 4],
    },
}

/// A value of a network for a batch of images.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureMap {
    /// Images.
    pub n: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// `[n, h, w, c]`, row-major.
    pub data: Vec<f32>,
}

/// A network ready to run. Threads may share it and run it at the same time.
pub struct Engine {
    config: EngineConfig,
    channels: usize,
    program: Program,
}

enum Program {
    F32(Network<f32>, Kept<f32>),
    Bf16(Network<bf16>, Kept<bf16>),
}

impl Engine {
    /// Drops what `outputs` do not need and packs the weights.
    ///
    /// # Errors
    /// [`EngineError::UnknownOutput`], [`EngineError::UnsupportedIsa`].
    pub fn compile(graph: &Graph, outputs: &[ValueId], config: EngineConfig) -> Result<Engine, EngineError> {
        let available = graph.nodes().len() + 1;
        if let Some(&ValueId(value)) = outputs.iter().find(|output| output.0 >= available) {
            return Err(EngineError::UnknownOutput { value, available });
        }
        if !Isa::supported().contains(&config.isa) {
            return Err(EngineError::UnsupportedIsa { isa: config.isa });
        }
        let program = match Chosen::new(config.precision, config.isa) {
            Chosen::F32 { kernels, round } => {
                Program::F32(Network::new(graph, outputs, kernels, round), Kept::default())
            }
            Chosen::Bf16(kernels) => Program::Bf16(Network::new(graph, outputs, kernels, false), Kept::default()),
        };
        Ok(Engine {
            config,
            channels: graph.channels(ValueId::INPUT),
            program,
        })
    }

    /// As given to [`compile`](Engine::compile).
    pub fn config(&self) -> EngineConfig {
        self.config
    }

    /// Runs a batch of images of `shape` `[N, C, H, W]` on as many threads as rayon's current pool has, this one among them;
    /// one map per output, in the order given to [`compile`](Engine::compile).
    ///
    /// # Errors
    /// [`EngineError::ImageLength`]; [`EngineError::Graph`] where the channels are others than the network's or the
    /// images are too small for it.
    pub fn run(&self, images: &[f32], shape: [usize; 4]) -> Result<Vec<FeatureMap>, EngineError> {
        check_images(self.channels, images, shape)?;
        let maps = match &self.program {
            Program::F32(network, kept) => run::run(network, kept, images, shape)?,
            Program::Bf16(network, kept) => run::run(network, kept, images, shape)?,
        };
        Ok(maps)
    }
}

fn check_images(channels: usize, images: &[f32], shape: [usize; 4]) -> Result<(), EngineError> {
    if shape[1] != channels {
        return Err(EngineError::Graph(GraphError::InputChannels {
            found: shape[1],
            expected: channels,
        }));
    }
    let product = shape
        .iter()
        .try_fold(1usize, |product, &side| product.checked_mul(side));
    match product {
        Some(expected) if expected == images.len() => Ok(()),
        product => Err(EngineError::ImageLength {
            found: images.len(),
            expected: product.unwrap_or(usize::MAX),
            shape,
        }),
    }
}

/// Part `index` of `0..length` cut into `parts` nearly equal ones.
fn part(length: usize, parts: usize, index: usize) -> Range<usize> {
    length * index / parts..length * (index + 1) / parts
}
