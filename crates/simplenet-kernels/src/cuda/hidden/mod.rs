//! A discriminator's hidden layer in training on the GPU, between the matrix products: batch norm over normal and noised rows
//! together, LeakyReLU, the row product with the last layer, the loss, the way back, and Adam.
//!
//! The pre-activations are `z` `[rows, hidden]` of the normal features and `e`, what the noise adds to it. Three sweeps over
//! them do everything, as on the CPU; nothing of a step goes to the host.
//!
//! Beside the sweeps: what a two-layer adaptor adds to a step, Adam, the head folded for scoring, and the moments of features.

mod adam;
mod adaptor;
mod moments;
mod scoring;
mod sweeps;

pub use self::adam::{Adam, AdamRule};
pub use self::adaptor::{inner_back, inner_forward, inner_partials};
pub use self::moments::{all_finite, channel_sums};
pub(super) use self::moments::{channel_partials, rows_per_block};
pub use self::scoring::{fold_batch_norm, fold_bias, score_rows};
pub use self::sweeps::{Counters, Loss, LossKind, Parameters, Sweeps, TOTALS};
use super::gpu::Grid;

/// Rows whose sums one block makes.
const ROWS_PER_PARTIAL: usize = 16;
pub(super) const UNITS_PER_BLOCK: usize = 128;
const MERGE_COLUMNS: usize = 32;
const MERGE_ROWS: usize = 8;

/// Blocks for the kernels that `merge` partial sums of so many columns.
pub(super) fn merge_grid(columns: usize) -> Grid {
    Grid {
        blocks: [columns.div_ceil(MERGE_COLUMNS), 1, 1],
        threads: [MERGE_COLUMNS, MERGE_ROWS],
        shared: 0,
    }
}
