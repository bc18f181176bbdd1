//! AMX tiles for dense convolutions. Everything else runs on the vectors of [`super::avx512_bf16`].
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "a kernel body is unsafe as a whole: its contract is that of `Panel`"
)]

use std::arch::x86_64::*;
use std::mem::{MaybeUninit, transmute};
use std::ops::Range;

use half::bf16;

use super::avx512_bf16::{self, Avx512Bf16};
use super::kernels::Kernels;
use super::lanes::Lanes;
use super::panel::{Group, Panel, PanelKernel, Strip};
use crate::amx::{self, Factors, ROWS, SumsAt, TERMS};

pub(super) static KERNELS: Kernels<bf16> = Kernels {
    panel: Some(PanelKernel {
        run: panel,
        terms: TERMS,
        pixels: ROWS,
        vectors: 2,
    }),
    // Tiles wait for memory and not for products, and of memory it would take more.
    winograd: None,
    ..avx512_bf16::KERNELS
};

const LANES: usize = Avx512Bf16::LANES;

/// Channels of a block.
const BLOCK: usize = 2 * LANES;

/// Of a strip: for each pixel of both groups, one for each channel of the block.
type Sums = AlignedArray<{ 2 * ROWS * BLOCK }>;

#[repr(C, align(64))]
struct AlignedArray<const N: usize>([f32; N]);

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn panel(panel: &Panel<'_, bf16>) {
    let mut sums = [const { MaybeUninit::<Sums>::uninit() }; 2];
    let sums: [*mut f32; 2] = sums.each_mut().map(|sums| sums.as_mut_ptr().cast());
    let mut configured = [0; 2];
    let mut ahead = panel.ahead;
    for (index, strip) in panel.strips.iter().enumerate() {
        let rows = [strip[0].pixels, strip[1].pixels];
        if rows != configured {
            amx::configure(rows);
            configured = rows;
        }
        let before = index
            .checked_sub(1)
            .map(|before| (&panel.strips[before], sums[before % 2].cast_const()));
        if rows[1] > 0 {
            multiply::<2>(panel, strip, ahead, sums[index % 2], before);
        } else {
            multiply::<1>(panel, strip, ahead, sums[index % 2], before);
        }
        ahead = ahead.wrapping_add(panel.pieces.len() * panel.ahead_step);
    }
    amx::release();
    let last = panel.strips.len() - 1;
    finish(panel, &panel.strips[last], sums[last % 2], 0..ROWS);
}

/// Puts the sums of `strip` into `sums`, and finishes the strip `before` meanwhile: a few pixels for every piece, so that
/// vectors and tiles are at work side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn multiply<const GROUPS: usize>(
    panel: &Panel<'_, bf16>,
    strip: &Strip<bf16>,
    mut ahead: *const bf16,
    sums: *mut f32,
    before: Option<(&Strip<bf16>, *const f32)>,
) {
    amx::zero::<GROUPS>();
    let mut right = panel.weights;
    let of_each = ROWS.div_ceil(panel.pieces.len());
    let mut pixel = 0;
    for &piece in panel.pieces {
        let factors = Factors {
            left: [strip[0].input.wrapping_add(piece), strip[1].input.wrapping_add(piece)],
            left_pitch: panel.pixel_stride,
            right,
        };
        amx::multiply_add::<GROUPS>(&factors, ahead);
        right = right.add(TERMS * BLOCK);
        ahead = ahead.wrapping_add(panel.ahead_step);
        if pixel < ROWS {
            let pixels = pixel..(pixel + of_each).min(ROWS);
            pixel = pixels.end;
            if panel.fetch {
                fetch(panel, strip, pixels.clone());
            }
            if let Some((strip, sums)) = before {
                finish(panel, strip, sums, pixels);
            }
        }
    }
    amx::store::<GROUPS>(SumsAt { at: sums, pitch: BLOCK });
}

/// Fetches what [`finish`] will write and add.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn fetch(panel: &Panel<'_, bf16>, strip: &Strip<bf16>, pixels: Range<usize>) {
    for group in strip {
        for pixel in pixels.start..pixels.end.min(group.pixels) {
            _mm_prefetch::<_MM_HINT_ET0>(group.output.wrapping_add(pixel * panel.output_stride).cast());
            if !group.residual.is_null() {
                _mm_prefetch::<_MM_HINT_T0>(group.residual.wrapping_add(pixel * panel.residual_stride).cast());
            }
        }
    }
}

/// Bias, residual and activation of these pixels of both groups.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn finish(panel: &Panel<'_, bf16>, strip: &Strip<bf16>, sums: *const f32, pixels: Range<usize>) {
    for (index, group) in strip.iter().enumerate() {
        let sums = sums.add(index * ROWS * BLOCK);
        let pixels = pixels.start..pixels.end.min(group.pixels);
        if panel.vectors == 2 {
            finish_group::<2>(panel, group, sums, pixels);
        } else {
            finish_group::<1>(panel, group, sums, pixels);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn finish_group<const V: usize>(
    panel: &Panel<'_, bf16>,
    group: &Group<bf16>,
    sums: *const f32,
    pixels: Range<usize>,
) {
    let (low, high) = (Avx512Bf16::splat(panel.low), Avx512Bf16::splat(panel.high));
    let has_residual = !group.residual.is_null();
    for pixel in pixels {
        let mut values = [low; V];
        for (vector, value) in values.iter_mut().enumerate() {
            let bias = Avx512Bf16::load(panel.bias.add(vector * LANES));
            *value = Avx512Bf16::add(Avx512Bf16::load(sums.add(pixel * BLOCK + vector * LANES)), bias);
            if has_residual {
                let residual = group.residual.add(pixel * panel.residual_stride + vector * LANES);
                *value = Avx512Bf16::add(*value, Avx512Bf16::widen(residual));
            }
            *value = Avx512Bf16::clamp(*value, low, high);
        }
        let output = group.output.add(pixel * panel.output_stride);
        if V == 2 {
            let both = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(values[1], values[0]));
            _mm512_storeu_si512(output.cast(), both);
        } else {
            Avx512Bf16::store(output, values[0]);
        }
    }
}
