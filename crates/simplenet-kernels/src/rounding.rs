//! Rounding to bf16 in f32, where no instruction does it.

/// The nearest bf16, ties to even; not a number stays what it is. On the bits, so that the compiler makes vectors of it.
#[inline(always)]
pub(crate) fn nearest_bf16(value: f32) -> f32 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
    if value.is_nan() { value } else { f32::from_bits(nearest) }
}

/// The bits of the nearest bf16, ties to even; not a number stays one.
#[inline(always)]
pub(crate) fn nearest_bf16_bits(value: f32) -> u16 {
    // A number that is none may have nothing but zeros in the bits that are kept, as infinity has.
    let quiet = if value.is_nan() { 0x40 } else { 0 };
    (nearest_bf16(value).to_bits() >> 16) as u16 | quiet
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::{nearest_bf16, nearest_bf16_bits};

    #[test]
    fn rounding_is_that_of_the_half_crate() {
        let patterns = (0..=u32::MAX).step_by(65_521).chain([
            0x7f7f_ffff,
            0xff7f_ffff,
            0x3f80_8000,
            0x3f81_8000,
            1,
            0x7f80_0001,
            0xff80_0001,
        ]);
        for value in patterns.map(f32::from_bits) {
            let (found, expected) = (nearest_bf16(value), bf16::from_f32(value).to_f32());
            assert!(
                found == expected || value.is_nan() && found.is_nan(),
                "{value:e}: {found:e}, not {expected:e}"
            );
            assert_eq!(nearest_bf16_bits(value), bf16::from_f32(value).to_bits(), "{value:e}");
        }
    }
}
