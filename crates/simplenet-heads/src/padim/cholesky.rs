//! The Cholesky factor of a covariance, and what it is for: Mahalanobis distances without an inverse.

use simplenet_kernels::gemm::{Accumulate, MatMut, MatRef, gemm};

use crate::error::Result;

/// Columns that are factorised together; the rest of the matrix learns of them in one matrix product.
const PANEL: usize = 48;

/// Copies that a factorisation needs; kept from one matrix to the next.
#[derive(Debug, Default)]
pub(super) struct Room {
    triangle: Vec<f64>,
    panel: Vec<f64>,
    negated: Vec<f64>,
}

/// Elements of a packed triangle of side `n`.
pub(super) fn packed_len(n: usize) -> usize {
    n * (n + 1) / 2
}

/// Replaces the lower triangle of the symmetric matrix `[n, n]` by its Cholesky factor L (A = L Lᵀ). `false` where A is not
/// positive definite. What is above the diagonal becomes anything.
pub(super) fn factorize(matrix: &mut [f64], n: usize, room: &mut Room) -> Result<bool> {
    for start in (0..n).step_by(PANEL) {
        let end = (start + PANEL).min(n);
        if !factorize_panel(matrix, n, start, end, &mut room.triangle) {
            return Ok(false);
        }
        let (rest, width) = (n - end, end - start);
        if rest == 0 {
            break;
        }
        room.panel.clear();
        for row in matrix.chunks_exact(n).skip(end) {
            room.panel.extend_from_slice(&row[start..end]);
        }
        room.negated.clear();
        room.negated.extend(room.panel.iter().map(|x| -x));
        // A22 −= L21 L21ᵀ
        let left = MatRef::new(&room.negated, rest, width)?;
        let right = MatRef::new(&room.panel, rest, width)?.t();
        let out = MatMut::with_strides(&mut matrix[end * n + end..], rest, rest, n, 1)?;
        gemm(left, right, out, Accumulate::Add)?;
    }
    Ok(true)
}

/// Columns `start..end` of L, from row `start` down; what the columns to their left take off is gone already.
///
/// Every row is a forward substitution in the triangle at the top of the panel, whose transpose grows meanwhile: as in
/// [`squared_length_solved`], nothing is summed across.
fn factorize_panel(matrix: &mut [f64], n: usize, start: usize, end: usize, triangle: &mut Vec<f64>) -> bool {
    let width = end - start;
    triangle.clear();
    triangle.resize(width * width, 0.0);
    for (place, row) in matrix.chunks_exact_mut(n).skip(start).enumerate() {
        let row = &mut row[start..end];
        for column in 0..place.min(width) {
            let value = row[column] / triangle[column * width + column];
            row[column] = value;
            if place < width {
                triangle[column * width + place] = value;
            }
            let factors = &triangle[column * width + column + 1..(column + 1) * width];
            let after = row[column + 1..].iter_mut();
            after.zip(factors).for_each(|(x, factor)| *x -= value * factor);
        }
        if place < width {
            let square = row[place];
            if square.is_nan() || square <= 0.0 {
                return false;
            }
            row[place] = square.sqrt();
            triangle[place * width + place] = row[place];
        }
    }
    true
}

/// The transpose of the lower triangle of `[n, n]`, packed row by row: row j holds L[j..n, j].
pub(super) fn pack(matrix: &[f64], n: usize, packed: &mut [f32]) {
    let mut rest = packed;
    for column in 0..n {
        let (row, after) = rest.split_at_mut(n - column);
        for (place, i) in row.iter_mut().zip(column..n) {
            *place = matrix[i * n + column] as f32;
        }
        rest = after;
    }
}

/// ‖L⁻¹ x‖² by forward substitution, for a factor as [`pack`] leaves it. `x` becomes L⁻¹ x.
///
/// Goes by columns of L: every value found is taken off all below it at once, so nothing is summed across.
pub(super) fn squared_length_solved(packed: &[f32], x: &mut [f32]) -> f32 {
    let (mut packed, mut rest) = (packed, x);
    let mut sum = 0.0;
    while let Some((first, below)) = rest.split_first_mut() {
        let (column, after) = packed.split_at(below.len() + 1);
        let value = *first / column[0];
        *first = value;
        sum += value * value;
        below
            .iter_mut()
            .zip(&column[1..])
            .for_each(|(x, factor)| *x -= value * factor);
        (packed, rest) = (after, below);
    }
    sum
}
