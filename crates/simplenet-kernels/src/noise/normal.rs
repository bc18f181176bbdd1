//! Standard normals, 64 at a time.
//!
//! Everything is a loop over arrays of 16: the compiler makes vector code of it, once for each instruction set. No
//! operation is fused and none is approximate, so all of them give the same bits.

use std::array;

use super::NoiseKey;
use super::philox::{halves, philox_lanes};
use crate::isa::Isa;
use crate::vectors::on_vectors;

/// Blocks of the generator that are worked on together.
const LANES: usize = 16;

/// Normals that they make.
const GROUP: usize = 4 * LANES;

type Lanes = [f32; LANES];

/// `out[i] = source[i] + sigma * normal(key, first + i)`, without `source` where there is none. The caller has checked
/// that this processor has `isa` and that the lengths agree.
pub(super) fn fill(isa: Isa, out: &mut [f32], source: Option<&[f32]>, key: NoiseKey, first: u64, sigma: f32) {
    on_vectors(
        isa,
        #[inline(always)]
        || fill_lanes(out, source, key, first, sigma),
    );
}

#[inline(always)]
fn fill_lanes(out: &mut [f32], source: Option<&[f32]>, key: NoiseKey, first: u64, sigma: f32) {
    let mut done = 0;
    while done < out.len() {
        let element = first.wrapping_add(done as u64);
        let normals = group(key, element / GROUP as u64);
        let skipped = (element % GROUP as u64) as usize;
        let count = (GROUP - skipped).min(out.len() - done);
        let target = &mut out[done..done + count];
        let normals = &normals.as_flattened()[skipped..skipped + count];
        match source {
            None => {
                for (place, &normal) in target.iter_mut().zip(normals) {
                    *place = sigma * normal;
                }
            }
            Some(source) => {
                let pairs = source[done..done + count].iter().zip(normals);
                for (place, (&value, &normal)) in target.iter_mut().zip(pairs) {
                    *place = value + sigma * normal;
                }
            }
        }
        done += count;
    }
}

/// Normals `64 index .. 64 index + 64`.
#[inline(always)]
fn group(key: NoiseKey, index: u64) -> [Lanes; 4] {
    // 16 times the index never carries from the lanes into the index.
    let blocks: [[u32; 2]; LANES] = array::from_fn(|lane| halves(index.wrapping_mul(LANES as u64) | lane as u64));
    let [stream_low, stream_high] = key.stream_words().map(|word| [word; LANES]);
    let counter = [
        blocks.map(|[low, _]| low),
        blocks.map(|[_, high]| high),
        stream_low,
        stream_high,
    ];
    let [w0, w1, w2, w3] = philox_lanes(counter, key.key_words());
    let (n0, n1) = box_muller(w0, w1);
    let (n2, n3) = box_muller(w2, w3);
    [n0, n1, n2, n3]
}

#[inline(always)]
fn box_muller(first: [u32; LANES], second: [u32; LANES]) -> (Lanes, Lanes) {
    let (mut cosines, mut sines) = ([0.0; LANES], [0.0; LANES]);
    for lane in 0..LANES {
        let uniform = (first[lane] as f32 + 0.5) * (1.0 / 4_294_967_296.0);
        let radius = (-2.0 * ln(uniform)).sqrt();
        let (cosine, sine) = cos_sin(second[lane]);
        cosines[lane] = radius * cosine;
        sines[lane] = radius * sine;
    }
    (cosines, sines)
}

/// Natural logarithm of a normal number in (0, 1], within 2 units in the last place (the polynomial of Cephes' `logf`).
#[inline(always)]
fn ln(x: f32) -> f32 {
    // x = mantissa * 2^exponent with the mantissa in [sqrt(1/2), sqrt(2)).
    const SQRT_HALF: u32 = 0x3F35_04F3;
    const ONE: u32 = 0x3F80_0000;
    let bits = x.to_bits().wrapping_add(ONE - SQRT_HALF);
    let exponent = ((bits >> 23) as i32 - 127) as f32;
    let y = f32::from_bits((bits & 0x007F_FFFF) + SQRT_HALF) - 1.0;
    let square = y * y;
    let mut sum = 7.037_683_6e-2_f32;
    sum = sum * y - 1.151_461e-1;
    sum = sum * y + 1.167_699_9e-1;
    sum = sum * y - 1.242_014_1e-1;
    sum = sum * y + 1.424_932_3e-1;
    sum = sum * y - 1.666_805_7e-1;
    sum = sum * y + 2.000_071_5e-1;
    sum = sum * y - 2.499_999_4e-1;
    sum = sum * y + 3.333_333e-1;
    // ln 2 in two parts, the first exact in products with an exponent.
    let tail = y * square * sum - 2.121_944_4e-4 * exponent - 0.5 * square;
    y + tail + 0.693_359_4 * exponent
}

/// Cosine and sine of `turn / 2^32` of a full turn, within 2 units in the last place (the polynomials of Cephes' `sinf`
/// and `cosf`). The quadrant is taken from the bits, so nothing is lost in reducing the angle.
#[inline(always)]
fn cos_sin(turn: u32) -> (f32, f32) {
    const EIGHTH: u32 = 1 << 29;
    // Quadrants centred on the axes: the angle within one lies in [-pi/4, pi/4).
    let turned = turn.wrapping_add(EIGHTH);
    let quadrant = turned >> 30;
    let within = (turned & (2 * EIGHTH - 1)) as i32 - EIGHTH as i32;
    let angle = within as f32 * (std::f32::consts::FRAC_PI_4 / EIGHTH as f32);
    let square = angle * angle;
    let mut sine = -1.951_529_6e-4_f32;
    sine = sine * square + 8.332_161e-3;
    sine = sine * square - 1.666_665_5e-1;
    sine = sine * square * angle + angle;
    let mut cosine = 2.443_315_7e-5_f32;
    cosine = cosine * square - 1.388_731_6e-3;
    cosine = cosine * square + 4.166_664_6e-2;
    cosine = cosine * square * square - 0.5 * square + 1.0;
    let odd = quadrant & 1 == 1;
    let (across, up) = if odd { (sine, cosine) } else { (cosine, sine) };
    // Signs: cosine is negative in quadrants 1 and 2, sine in 2 and 3.
    let cosine = f32::from_bits(across.to_bits() ^ (((quadrant + 1) & 2) << 30));
    let sine = f32::from_bits(up.to_bits() ^ ((quadrant & 2) << 30));
    (cosine, sine)
}
