//! The inner loop of a dense convolution where the processor multiplies matrices: a block of output channels over several
//! strips of output pixels.
//!
//! A strip is two groups of up to 16 neighbouring pixels, of two rows where there are two: their windows then read the same rows
//! of the input. Its sums stay in the unit over the whole reduction, whose pieces that read the same pixels follow one another;
//! they leave through memory, and are finished while the unit is at the next strip.

/// Strips that are worked through together.
pub(super) const STRIPS: usize = 8;

/// Neighbouring output pixels.
pub(super) struct Group<T> {
    /// Where the first pixel's window begins.
    pub(super) input: *const T,
    pub(super) output: *mut T,
    /// Null where there is none. May be the output.
    pub(super) residual: *const T,
    /// At most [`PanelKernel::pixels`].
    pub(super) pixels: usize,
}

impl<T> Group<T> {
    pub(super) const EMPTY: Group<T> = Group {
        input: std::ptr::null(),
        output: std::ptr::null_mut(),
        residual: std::ptr::null(),
        pixels: 0,
    };
}

/// Two groups; the second may be empty.
pub(super) type Strip<T> = [Group<T>; 2];

/// Some strips times one block of output channels.
///
/// # Safety (of every function that takes one)
/// From the begin of each pixel's window on, `terms` elements can be read at each of `pieces`; `weights` holds that many
/// terms of a whole block; `bias` the block's channels; at each pixel, the block's channels can be written at the output and
/// read at the residual.
pub(super) struct Panel<'a, T> {
    /// One to [`STRIPS`].
    pub(super) strips: &'a [Strip<T>],
    /// Elements between the windows of neighbouring output pixels.
    pub(super) pixel_stride: usize,
    /// Where, relative to a window's begin, the pieces of the reduction begin.
    pub(super) pieces: &'a [usize],
    pub(super) weights: *const T,
    /// Weights that are needed next and are fetched into the L2 cache meanwhile: at every piece the first ones of the next
    /// `ahead_step` elements, which with six strips or more are all of them. Any address will do.
    pub(super) ahead: *const T,
    pub(super) ahead_step: usize,
    /// Whether outputs and residuals are fetched before they are needed: where they are too many to be in the L2 cache still.
    pub(super) fetch: bool,
    pub(super) bias: *const f32,
    /// Vectors of channels of this block.
    pub(super) vectors: usize,
    pub(super) output_stride: usize,
    pub(super) residual_stride: usize,
    /// The activation is a clamp to `low..=high`.
    pub(super) low: f32,
    pub(super) high: f32,
}

/// A kernel that takes a [`Panel`].
pub(super) struct PanelKernel<T: 'static> {
    pub(super) run: unsafe fn(&Panel<'_, T>),
    /// Terms of the reduction in a piece.
    pub(super) terms: usize,
    /// Pixels of a group, at most.
    pub(super) pixels: usize,
    /// Vectors of channels in a block. One that has fewer is packed with zeros.
    pub(super) vectors: usize,
}
