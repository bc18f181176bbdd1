//! Sums whose order depends on the data's shape alone, so that their bytes do not depend on the number of threads.

use rayon::prelude::*;

use crate::scalar::Scalar;

/// Rows per partial sum: a task's worth of work, and few enough that f32 adds them up without harm.
pub(crate) const ROWS_PER_PARTIAL: usize = 64;

/// Sums held side by side, so that the processor's vector units add them at once.
const LANES: usize = 16;

/// Columns that one task merges.
const COLUMNS_PER_TASK: usize = 64;

/// The sum of `term` over columns of equal length, value by value, in [`LANES`] interleaved parts.
#[inline(always)]
pub(crate) fn sum_lanes<T: Scalar, const N: usize>(columns: [&[T]; N], term: impl Fn([T; N]) -> T) -> T {
    let parts = columns.map(|column| column.as_chunks::<LANES>());
    let mut lanes = [T::ZERO; LANES];
    for block in 0..parts[0].0.len() {
        let blocks = parts.map(|(blocks, _)| &blocks[block]);
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(blocks.map(|block| block[lane]));
        }
    }
    let mut total = T::ZERO;
    for index in 0..parts[0].1.len() {
        total += term(parts.map(|(_, rest)| rest[index]));
    }
    for sum in lanes {
        total += sum;
    }
    total
}

/// Adds up partial sums `[partials, width]` column by column, in order, in f64, into `totals` of `width`.
pub(crate) fn merge<T: Scalar>(partials: &[T], totals: &mut [f64]) {
    let width = totals.len();
    let tasks = totals.par_chunks_mut(COLUMNS_PER_TASK).enumerate();
    tasks.for_each(|(task, totals)| {
        totals.fill(0.0);
        let first = task * COLUMNS_PER_TASK;
        for partial in partials.chunks_exact(width) {
            for (total, &value) in totals.iter_mut().zip(&partial[first..]) {
                *total += value.to_f64();
            }
        }
    });
}

/// How many partial sums `rows` rows make.
pub(crate) fn partial_count(rows: usize) -> usize {
    rows.div_ceil(ROWS_PER_PARTIAL)
}
