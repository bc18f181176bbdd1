//! Winograd's minimal filtering F(2×2, 3×3) (Lavin and Gray 2016, arXiv:1509.09308): a 3×3 convolution with stride 1
//! computes four neighbouring outputs from 4×4 inputs with 16 multiplications per pair of channels instead of 36.
//!
//! The 4×4 inputs of all tiles are transformed (`Bᵀ d B`), which makes 16 matrices of `[tiles, channels]`; each is
//! multiplied by the filters' coefficients at the same position (`G g Gᵀ`, made once when the network is packed), with
//! the kernels of 1×1 convolutions ([`super::tile`]); the 16 products of a tile give its 2×2 outputs (`Aᵀ m A`).
//! All coefficients of both transforms of activations are 0, 1 and −1, so rounding errors grow little: about twice
//! those of the plain sum. Larger tiles would save more and lose digits. In bf16 the transformed inputs and the coefficients are
//! rounded, the products are not.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "a kernel body is unsafe as a whole: its contract is that of the struct it takes and `Lanes`"
)]

mod run;
mod task;

pub(super) use self::run::run;
pub(super) use self::task::{Tiling, Transformed};
use super::lanes::Lanes;
use super::pack::CHANNEL_ALIGNMENT;
use super::tile::TileFn;

/// Products of a tile.
pub(super) const POSITIONS: usize = 16;

/// Outputs along a side of a tile.
pub(super) const TILE: usize = 2;

/// The kernels of one instruction set.
pub(super) struct WinogradKernels<T: 'static> {
    pub(super) transform: unsafe fn(&TransformRow<T>),
    /// `[vectors - 1][rows - 1]`: those of a 1×1 convolution, with sums in f32.
    pub(super) products: &'static [&'static [TileFn<T, f32>]],
    pub(super) gather: unsafe fn(&GatherRow<T>),
}

/// `G g Gᵀ` of one 3×3 filter: `[POSITIONS]`.
pub(super) fn coefficients(filter: &[f32]) -> [f64; POSITIONS] {
    let side = |a: f64, b: f64, c: f64| [a, (a + b + c) / 2.0, (a - b + c) / 2.0, c];
    let at = |y: usize, x: usize| f64::from(filter[y * 3 + x]);
    let columns: [[f64; 4]; 3] = std::array::from_fn(|x| side(at(0, x), at(1, x), at(2, x)));
    let mut all = [0.0; POSITIONS];
    for (y, row) in all.chunks_exact_mut(4).enumerate() {
        row.copy_from_slice(&side(columns[0][y], columns[1][y], columns[2][y]));
    }
    all
}

/// Elements from position to position where each has `tiles` rows of `stride` elements: one vector more than that, so that the
/// positions of a tile do not fall onto the same sets of the L1 cache.
pub(super) fn position_stride(tiles: usize, stride: usize) -> usize {
    tiles * stride + CHANNEL_ALIGNMENT
}

/// The inputs of a row of tiles, to be transformed.
///
/// # Safety (of every function that takes one)
/// `channels` is a multiple of `Lanes::LANES`; four rows of `2 × tiles + 2` pixels can be read from `input` on; at each
/// position, `channels` elements can be written for every tile.
pub(super) struct TransformRow<T> {
    /// Where the window of the first tile begins.
    pub(super) input: *const T,
    /// Elements between the rows of the input.
    pub(super) input_row: usize,
    /// Elements between the pixels of the input.
    pub(super) input_pixel: usize,
    pub(super) channels: usize,
    pub(super) tiles: usize,
    /// The first tile of the row at position 0.
    pub(super) output: *mut T,
    /// Elements from tile to tile, and from position to position.
    pub(super) output_tile: usize,
    pub(super) output_position: usize,
}

/// Runs one row of tiles.
#[inline(always)]
pub(super) unsafe fn transform<L: Lanes>(row: &TransformRow<L::Element>) {
    for tile in 0..row.tiles {
        let window = row.input.add(tile * TILE * row.input_pixel);
        let output = row.output.add(tile * row.output_tile);
        for channel in (0..row.channels).step_by(L::LANES) {
            // By column, then by row.
            let mut half = [[L::splat(0.0); 4]; 4];
            for (x, half) in half.iter_mut().enumerate() {
                let at = |y: usize| L::widen(window.add(y * row.input_row + x * row.input_pixel + channel));
                *half = inputs::<L>(at(0), at(1), at(2), at(3));
            }
            for y in 0..4 {
                let [a, b, c, d] = half.map(|column| column[y]);
                let done = inputs::<L>(a, b, c, d);
                for (x, &value) in done.iter().enumerate() {
                    L::store(output.add((y * 4 + x) * row.output_position + channel), value);
                }
            }
        }
    }
}

/// One side of `Bᵀ d B`.
#[inline(always)]
unsafe fn inputs<L: Lanes>(a: L::Vector, b: L::Vector, c: L::Vector, d: L::Vector) -> [L::Vector; 4] {
    [L::subtract(a, c), L::add(b, c), L::subtract(c, b), L::subtract(b, d)]
}

/// The products of a row of tiles, to become outputs of one block of channels.
///
/// # Safety (of every function that takes one)
/// At each position, `vectors × Lanes::LANES` elements can be read for each of the `width / 2` tiles (rounded up), and as
/// many at `bias`; at each of the `height` (1 or 2) times `width` pixels, the block's channels can be written at
/// `output` and read at `residual` (unless null). `output` and `residual` may be the same.
pub(super) struct GatherRow<T> {
    /// The first tile of the row at position 0.
    pub(super) products: *const f32,
    /// Elements from tile to tile, and from position to position.
    pub(super) tile: usize,
    pub(super) position: usize,
    /// Of channels.
    pub(super) vectors: usize,
    pub(super) bias: *const f32,
    pub(super) output: *mut T,
    pub(super) output_row: usize,
    pub(super) output_pixel: usize,
    pub(super) residual: *const T,
    pub(super) residual_row: usize,
    pub(super) residual_pixel: usize,
    /// Pixels of the output that this row of tiles covers.
    pub(super) height: usize,
    pub(super) width: usize,
    /// The activation is a clamp to `low..=high`.
    pub(super) low: f32,
    pub(super) high: f32,
}

/// Runs one row of tiles.
#[inline(always)]
pub(super) unsafe fn gather<L: Lanes>(row: &GatherRow<L::Element>) {
    let (low, high) = (L::splat(row.low), L::splat(row.high));
    for tile in 0..row.width.div_ceil(TILE) {
        let columns = TILE.min(row.width - tile * TILE);
        for vector in 0..row.vectors {
            let channel = vector * L::LANES;
            let products = row.products.add(tile * row.tile + channel);
            let mut half = [[L::splat(0.0); TILE]; 4];
            for (x, half) in half.iter_mut().enumerate() {
                let at = |y: usize| L::load(products.add((y * 4 + x) * row.position));
                *half = outputs::<L>(at(0), at(1), at(2), at(3));
            }
            let bias = L::load(row.bias.add(channel));
            for y in 0..row.height {
                let [a, b, c, d] = half.map(|column| column[y]);
                let done = outputs::<L>(a, b, c, d);
                for (x, &sum) in done.iter().enumerate().take(columns) {
                    let pixel = tile * TILE + x;
                    let mut value = L::add(sum, bias);
                    if !row.residual.is_null() {
                        let residual = (row.residual).add(y * row.residual_row + pixel * row.residual_pixel + channel);
                        value = L::add(value, L::widen(residual));
                    }
                    let output = row.output.add(y * row.output_row + pixel * row.output_pixel + channel);
                    L::store(output, L::clamp(value, low, high));
                }
            }
        }
    }
}

/// One side of `Aᵀ m A`.
#[inline(always)]
unsafe fn outputs<L: Lanes>(a: L::Vector, b: L::Vector, c: L::Vector, d: L::Vector) -> [L::Vector; TILE] {
    [L::add(L::add(a, b), c), L::subtract(L::subtract(b, c), d)]
}
