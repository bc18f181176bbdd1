//! AMX tiles for dense convolutions. Everything else runs on the vectors of [`super::avx512_bf16`].
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "a kernel body is unsafe as a whole: its contract is that of `Panel`"
)]

use std::mem::MaybeUninit;

use half::bf16;

use super::avx512_bf16::{self, Avx512Bf16};
use super::kernels::Kernels;
use super::lanes::Lanes;
use super::panel::{Group, Panel, PanelKernel, STRIPS, Strip};
use crate::amx::{Factors, ROWS, Sums, TERMS, Tiles};

pub(super) static KERNELS: Kernels<bf16> = Kernels {
    panel: Some(PanelKernel {
        run: panel,
        terms: TERMS,
        pixels: ROWS,
        vectors: 2,
    }),
    ..avx512_bf16::KERNELS
};

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn panel(panel: &Panel<'_, bf16>) {
    let mut sums = [const { MaybeUninit::<Sums>::uninit() }; STRIPS];
    let rows = |strip: &Strip<bf16>| [strip[0].pixels, strip[1].pixels];
    let mut tiles = Tiles::new(rows(&panel.strips[0]));
    // Weights of two vectors for each term.
    let of_piece = TERMS * 2 * Avx512Bf16::LANES;
    // Whole cache lines; the loop fetches five per piece.
    let ahead_step = of_piece.div_ceil(panel.strips.len()).next_multiple_of(32).min(160);
    let mut begin = 0;
    while begin < panel.pieces.len() {
        let end = (begin + panel.pass).min(panel.pieces.len());
        let is_last = end == panel.pieces.len();
        for (index, strip) in panel.strips.iter().enumerate() {
            let passed = index * (end - begin) * ahead_step;
            let factors = Factors {
                left: [strip[0].input, strip[1].input],
                left_stride: panel.pixel_stride,
                pieces: &panel.pieces[begin..end],
                right: panel.weights.add(begin * of_piece),
                ahead: panel.ahead.wrapping_add(begin * of_piece + passed),
                ahead_step,
            };
            tiles.set_up(rows(strip));
            tiles.multiply(&factors, sums[index].as_mut_ptr(), begin > 0);
            // One strip late: meanwhile the products of this one are under way.
            if is_last && index > 0 {
                finish(panel, &panel.strips[index - 1], sums[index - 1].as_ptr());
            }
        }
        begin = end;
    }
    let last = panel.strips.len() - 1;
    finish(panel, &panel.strips[last], sums[last].as_ptr());
}

/// Bias, residual and activation.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn finish(panel: &Panel<'_, bf16>, strip: &Strip<bf16>, sums: *const Sums) {
    for (group, sums) in strip.iter().zip(&(*sums).0) {
        let sums = sums.as_ptr().cast::<f32>();
        if panel.vectors == 2 {
            finish_group::<2>(panel, group, sums);
        } else {
            finish_group::<1>(panel, group, sums);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn finish_group<const V: usize>(panel: &Panel<'_, bf16>, group: &Group<bf16>, sums: *const f32) {
    let (low, high) = (Avx512Bf16::splat(panel.low), Avx512Bf16::splat(panel.high));
    let mut bias = [low; V];
    for (vector, bias) in bias.iter_mut().enumerate() {
        *bias = Avx512Bf16::load(panel.bias.add(vector * Avx512Bf16::LANES));
    }
    let has_residual = !group.residual.is_null();
    for pixel in 0..group.pixels {
        for (vector, &bias) in bias.iter().enumerate() {
            let channel = vector * Avx512Bf16::LANES;
            let sum = Avx512Bf16::load(sums.add((vector * ROWS + pixel) * Avx512Bf16::LANES));
            let mut value = Avx512Bf16::add(sum, bias);
            if has_residual {
                let residual = group.residual.add(pixel * panel.residual_stride + channel);
                value = Avx512Bf16::add(value, Avx512Bf16::widen(residual));
            }
            let output = group.output.add(pixel * panel.output_stride + channel);
            Avx512Bf16::store(output, Avx512Bf16::clamp(value, low, high));
        }
    }
}
