//! Squared distances: the one that decides, and the matrix product that says where it need not be computed.
//!
//! ‖x − c‖² = ‖x‖² − 2 (x·c − ‖c‖²/2). The *closeness* in brackets comes out of a matrix product at hundreds of GFLOP/s, but
//! its rounding errors are those of the norms and not of the distance. So it only filters: whatever could be nearest
//! within [`tolerance`] is measured again by [`squared_distance`]. Results are therefore those of the plain loop over all
//! pairs, to the last bit, whatever instruction set computes the product. And since it only filters, it may round its factors to
//! bf16 where that is faster: a few more pairs are measured then.

use rayon::prelude::*;
use simplenet_kernels::engine::Precision;
use simplenet_kernels::gemm::GemmError;
use simplenet_kernels::isa::Isa;

use crate::sums::sum_lanes;

const LANES: usize = 16;

/// ‖a − b‖², in the crate's fixed order of summation.
pub(super) fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    sum_lanes([a, b], |[a, b]| (a - b) * (a - b))
}

/// ‖a‖².
pub(super) fn squared_norm(a: &[f32]) -> f32 {
    sum_lanes([a], |[a]| a * a)
}

/// How far ‖x‖² − 2·closeness, or ‖x‖² + ‖c‖² − 2·x·c, and [`squared_distance`] can lie apart for vectors whose squared norms sum
/// up to `norms`.
///
/// In units of 2⁻²⁴·(‖x‖² + ‖c‖²): the product contributes at most `dim`, because 2‖x‖‖c‖ ≤ ‖x‖² + ‖c‖²; the two norms and
/// the distance, summed in 16 lanes, at most `dim`/16 + 17 or 32 and twice that; if both were centred before, 4. The rest of the
/// allowance is for the few operations on the way.
///
/// Rounding both factors to bf16 changes a product of two numbers by less than (2·2⁻⁸ + 2⁻¹⁶) of it, and twice the sum of
/// these by less than (2⁻⁷ + 2⁻¹⁶)·(‖x‖² + ‖c‖²). What is below the smallest normal number loses digits, and instructions for bf16
/// take it for 0.
pub(super) fn tolerance(dim: usize, norms: f32, precision: Precision) -> f32 {
    let exact = (2 * dim + 96) as f32 * (f32::EPSILON / 2.0) * norms + 4.0 * dim as f32 * f32::MIN_POSITIVE;
    match precision {
        Precision::F32 => exact,
        Precision::Bf16 => exact + BF16 * norms,
    }
}

/// 2⁻⁷ + 2⁻¹⁶, and as much again as the second for the sum.
const BF16: f32 = 1.0 / 128.0 + 1.0 / 32768.0;

/// How the product is computed: in bf16 where there are instructions for it.
pub(super) fn fastest() -> Result<(Precision, Isa), GemmError> {
    let isa = Isa::detect()?;
    let precision = match isa >= Isa::Avx512Bf16 {
        true => Precision::Bf16,
        false => Precision::F32,
    };
    Ok((precision, isa))
}

/// The largest closeness `products[j] − half_norms[j]`. No value may be NaN.
pub(super) fn largest_closeness(products: &[f32], half_norms: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let (products, last_products) = products.as_chunks::<LANES>();
    let (half_norms, last_half_norms) = half_norms.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for (products, half_norms) in products.iter().zip(half_norms) {
        for (lane, largest) in lanes.iter_mut().enumerate() {
            *largest = larger(products[lane] - half_norms[lane], *largest);
        }
    }
    let last = last_products.iter().zip(last_half_norms);
    last.map(|(product, half_norm)| product - half_norm)
        .chain(lanes)
        .fold(f32::NEG_INFINITY, larger)
}

/// Subtracts the same from all rows.
pub(super) fn subtract(rows: &mut [f32], mean: &[f32]) {
    rows.par_chunks_exact_mut(mean.len()).with_min_len(64).for_each(|row| {
        row.iter_mut().zip(mean).for_each(|(x, mean)| *x -= mean);
    });
}
