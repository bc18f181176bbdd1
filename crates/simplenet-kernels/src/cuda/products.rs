//! In what products are computed on a GPU.

use super::gemm::Math;
use crate::engine::Precision;

/// The arithmetic of convolutions and matrix products; their sums are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Products {
    /// f32 throughout, for parity.
    F32,
    /// f32 in memory, factors rounded to TF32 (11 bits of significand) for the matrix units.
    Tf32,
    /// Factors in bf16 (8 bits of significand).
    Bf16,
}

impl Products {
    /// How products of f32 factors are computed under it: TF32 where speed is wanted.
    pub fn math(self) -> Math {
        match self {
            Products::F32 => Math::F32,
            Products::Tf32 | Products::Bf16 => Math::Tf32,
        }
    }

    /// That of three values which is for it.
    pub(super) fn choose<T>(self, f32: T, tf32: T, bf16: T) -> T {
        match self {
            Products::F32 => f32,
            Products::Tf32 => tf32,
            Products::Bf16 => bf16,
        }
    }
}

impl From<Precision> for Products {
    fn from(precision: Precision) -> Products {
        match precision {
            Precision::F32 => Products::F32,
            Precision::Bf16 => Products::Bf16,
        }
    }
}

/// The nearest value of TF32, of two equally near ones that further from zero; every NaN becomes that of the device.
///
/// `to_tf32` of `kernels/common.cuh`, which says why.
pub fn to_tf32(value: f32) -> f32 {
    if value.is_nan() {
        return f32::from_bits(0x7fff_ffff);
    }
    // The largest exponent is that of infinity, so the sum does not overflow.
    f32::from_bits((value.to_bits() + 0x1000) & 0xffff_e000)
}

#[cfg(test)]
mod tests {
    use super::to_tf32;

    #[test]
    fn tf32_is_the_nearest_value_of_11_bits() {
        let ulp = 2.0_f32.powi(-10);
        let cases = [
            (1.0, 1.0),
            (1.0 + 0.499 * ulp, 1.0),
            (1.0 + 0.5 * ulp, 1.0 + ulp),
            (-1.0 - 0.5 * ulp, -1.0 - ulp),
            (1.0 + 1.5 * ulp, 1.0 + 2.0 * ulp),
            (2.0 - 0.4 * ulp, 2.0),
            (0.0, 0.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
            (f32::from_bits(0x0fff), 0.0),
            (f32::from_bits(0x1000), f32::from_bits(0x2000)),
        ];
        for (value, expected) in cases {
            assert_eq!(to_tf32(value).to_bits(), expected.to_bits(), "{value:e}");
        }
        assert_eq!(to_tf32(-0.0).to_bits(), (-0.0_f32).to_bits());
        for bits in [0x7f80_0001, 0x7fc0_0000, 0x7fff_ffff, 0xffff_ffff] {
            assert!(to_tf32(f32::from_bits(bits)).is_nan(), "{bits:x}");
        }
    }
}
