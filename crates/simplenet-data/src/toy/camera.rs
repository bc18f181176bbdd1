//! From light to bytes: lens, exposure, sensor noise, tone curve.

use image::RgbImage;

use super::photograph::SIDE;
use super::random::Random;

/// Exposure, colour balance, lens and sensor of one photograph.
#[derive(Clone, Debug)]
pub(super) struct Camera {
    balance: [f32; 3],
    vignette: f32,
    softness: f32,
    noise: Random,
}

impl Camera {
    pub(super) fn vary(random: &mut Random) -> Self {
        let exposure = random.between(0.93, 1.07);
        let warmth = random.around(0.025);
        Self {
            balance: [exposure * (1.0 + warmth), exposure, exposure * (1.0 - warmth)],
            vignette: random.between(0.10, 0.20),
            softness: random.between(0.05, 0.13),
            noise: random.stream("sensor"),
        }
    }

    /// `film` as `SIDE` by `SIDE` bytes of sRGB.
    pub(super) fn develop(&self, film: &[[f32; 3]]) -> RgbImage {
        let mut blurred = film.to_vec();
        for _ in 0..2 {
            blurred = soften(&blurred, self.softness, SIDE, 1);
            blurred = soften(&blurred, self.softness, 1, SIDE);
        }
        let mut noise = self.noise.clone();
        let middle = 0.5 * SIDE as f32;
        RgbImage::from_fn(SIDE as u32, SIDE as u32, |column, row| {
            let [x, y] = [column as f32 + 0.5 - middle, row as f32 + 0.5 - middle];
            let corner = (x * x + y * y) / (2.0 * middle * middle);
            let shading = 1.0 - self.vignette * corner;
            let light = blurred[row as usize * SIDE + column as usize];
            let mut bytes = [0; 3];
            for channel in 0..3 {
                let signal = light[channel] * self.balance[channel] * shading;
                // Shot noise grows with the square root of the light; the constant is the noise of the read-out.
                let grain = (1.2e-4 * signal + 2.0e-6).sqrt();
                bytes[channel] = srgb_byte(shoulder(signal + grain * noise.normal()));
            }
            image::Rgb(bytes)
        })
    }
}

/// Three taps with weights `side`, `1 - 2 * side`, `side` along one axis.
fn soften(film: &[[f32; 3]], side: f32, line_stride: usize, step: usize) -> Vec<[f32; 3]> {
    let mut softened = vec![[0.0; 3]; film.len()];
    for line in 0..SIDE {
        let at = |position: usize| line * line_stride + position * step;
        for position in 0..SIDE {
            let [before, after] = [
                film[at(position.saturating_sub(1))],
                film[at((position + 1).min(SIDE - 1))],
            ];
            let here = film[at(position)];
            softened[at(position)] =
                std::array::from_fn(|c| (1.0 - 2.0 * side) * here[c] + side * (before[c] + after[c]));
        }
    }
    softened
}

/// Compresses highlights above 0.8 towards 1 instead of clipping them.
fn shoulder(signal: f32) -> f32 {
    const KNEE: f32 = 0.8;
    if signal <= KNEE {
        return signal;
    }
    let over = (signal - KNEE) / (1.0 - KNEE);
    KNEE + (1.0 - KNEE) * over / (1.0 + over)
}

/// The sRGB transfer curve from square roots alone (a fit within half a level of the exact curve above 1 % of white).
fn srgb_byte(linear: f32) -> u8 {
    let one = linear.clamp(0.0, 1.0).sqrt();
    let two = one.sqrt();
    let three = two.sqrt();
    let encoded = 0.585_122_4 * one + 0.783_140_36 * two - 0.368_262_74 * three;
    (encoded.clamp(0.0, 1.0) * 255.0 + 0.5) as u8
}
