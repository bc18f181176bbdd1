//! Everything that can go wrong here.

use std::ops::Range;
use std::path::PathBuf;

use thiserror::Error;

/// The result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between patches and scores.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A number in a configuration makes no sense.
    #[error("`{field}` is {value}, but it must be {expected}")]
    Config {
        /// The field, as a configuration file writes it.
        field: String,
        /// What it was set to.
        value: f64,
        /// What would be accepted.
        expected: &'static str,
    },

    /// Values do not divide into rows, or not into the right number of them.
    #[error("{what} has {found} values, expected {expected}")]
    Shape {
        /// Which argument.
        what: String,
        /// How many values it has.
        found: usize,
        /// What was expected, in words.
        expected: String,
    },

    /// Two parts that must agree on the number of channels do not.
    #[error("{left} has {left_dim} channels, but {right} has {right_dim} channels")]
    Dim {
        /// One part.
        left: &'static str,
        /// Its channels.
        left_dim: usize,
        /// The other part.
        right: &'static str,
        /// Its channels.
        right_dim: usize,
    },

    /// Layers whose columns are not the head's.
    #[error("the layers are to have columns {columns:?}, which do not make up the {dim} channels of the head")]
    Columns {
        /// As asked.
        columns: Vec<Range<usize>>,
        /// Channels of the head.
        dim: usize,
    },

    /// Layers are others than those that a scorer was made for.
    #[error("the layers have columns {found:?}, but the scorer was made for {expected:?}")]
    Layers {
        /// As given.
        found: Vec<Range<usize>>,
        /// As asked when the scorer was made.
        expected: Vec<Range<usize>>,
    },

    /// Layers that cannot be joined.
    #[error(transparent)]
    Patch(#[from] simplenet_kernels::patch::PatchError),

    /// A GPU failed, or is not there.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Device(#[from] simplenet_kernels::cuda::DeviceError),

    /// A bank does not fit a GPU.
    #[cfg(feature = "cuda")]
    #[error(
        "the feature bank needs {needed} bytes, and the GPU has {free} free\n\nhint: use `--device cpu`, smaller images or fewer of them"
    )]
    DeviceMemory {
        /// Bytes of the bank.
        needed: usize,
        /// Bytes free on the GPU.
        free: usize,
    },

    /// A head has another configuration than the training, or the copy on a GPU, that it is given to.
    #[error(
        "the head is {found:?}, and {expected:?} is what this was made for\n\nhint: use the head that it was made with, or one of its configuration"
    )]
    OtherHead {
        /// Configuration of the head.
        found: crate::config::HeadConfig,
        /// Configuration that was asked for.
        expected: crate::config::HeadConfig,
    },

    /// A head and a bank on different GPUs, or on different streams of one.
    #[cfg(feature = "cuda")]
    #[error(
        "the head and the feature bank are not of one GPU and stream, so nothing orders what is done with them\n\nhint: upload both with the same `Gpu`, or copies of it"
    )]
    OtherGpu,

    /// An epoch's order is not one of the bank's images.
    #[cfg(feature = "cuda")]
    #[error(
        "the order of an epoch over {images} images {fault}\n\nhint: an order names every image once, counted from 0"
    )]
    Order {
        /// Images of the bank.
        images: usize,
        /// What is wrong with the order.
        fault: String,
    },

    /// A step that an epoch has no images for.
    #[cfg(feature = "cuda")]
    #[error(
        "a step on {images} images, where {left} of the epoch's order are left and a step takes 1 to {most}\n\nhint: begin the next epoch with an order of its own"
    )]
    NoSuchStep {
        /// Images of the step.
        images: usize,
        /// Images of the order that no step has seen.
        left: usize,
        /// Images that there is room for in a step.
        most: usize,
    },

    /// A feature is not a number.
    #[error(
        "the features of image {image} hold {value} (patch {row}, channel {channel})\n\nhint: the image or the backbone's weights are damaged"
    )]
    FeatureNotFinite {
        /// Index of the image in the bank, from 0.
        image: usize,
        /// Index of the patch in the image.
        row: usize,
        /// Index of the channel.
        channel: usize,
        /// NaN or an infinity.
        value: f32,
    },

    /// A bank without images.
    #[error("the feature bank holds no image")]
    EmptyBank,

    /// The temporary file of a large bank could not be written.
    #[error(
        "cannot keep {bytes} bytes of features in {}\n\nhint: free disk space, choose another folder for temporary files or allow more memory", dir.display()
    )]
    Spill {
        /// The folder of the temporary file.
        dir: PathBuf,
        /// How large the file was to become with this write.
        bytes: u64,
        /// What the system said.
        source: std::io::Error,
    },

    /// The loss became NaN or infinite.
    #[error(
        "the loss became {loss} in epoch {epoch}, step {step}\n\nhint: lower the learning rate, or look at the scale of the features"
    )]
    LossNotFinite {
        /// Epoch, from 1.
        epoch: usize,
        /// Step since the start of training, from 0.
        step: u64,
        /// NaN or an infinity.
        loss: f64,
    },

    /// The bytes are not a safetensors file.
    #[error("not a readable safetensors file")]
    Safetensors(#[from] safetensors::SafeTensorError),

    /// The tensors of a file are not those of a head.
    #[error("the file holds no usable head: {0}")]
    NotAHead(String),

    /// A score is NaN or infinite, so its row was, or the head is damaged.
    #[error("the score of row {row} is not a number\n\nhint: its features are damaged, or the head is")]
    ScoreNotFinite {
        /// Index of the row among those that were scored together.
        row: usize,
    },

    /// The matrix kernels cannot run.
    #[error(transparent)]
    Gemm(#[from] simplenet_kernels::gemm::GemmError),
}
