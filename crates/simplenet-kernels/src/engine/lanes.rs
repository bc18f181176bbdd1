//! What a kernel needs of an instruction set. The kernel bodies ([`super::tile`], [`super::depthwise`],
//! [`super::pool`]) are written once over [`Lanes`]; each instruction set implements it and compiles the bodies under
//! its own `#[target_feature]`, into which everything here is inlined.

use half::bf16;

use crate::rounding::{nearest_bf16, nearest_bf16_bits};

/// What activations and dense weights are stored as.
pub(super) trait Element: Copy + Send + Sync + 'static {
    const ZERO: Self;
    fn from_f32(value: f32) -> Self;
    /// Writes as many values as there are.
    ///
    /// # Safety
    /// There is room for them.
    unsafe fn widen(from: &[Self], to: *mut f32);
    /// Rounds every value to the nearest bf16, ties to even.
    fn round_to_bf16(values: &mut [Self]);
}

impl Element for f32 {
    const ZERO: f32 = 0.0;
    fn from_f32(value: f32) -> f32 {
        value
    }
    unsafe fn widen(from: &[f32], to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) }
    }
    fn round_to_bf16(values: &mut [f32]) {
        values.iter_mut().for_each(|value| *value = nearest_bf16(*value));
    }
}

impl Element for bf16 {
    const ZERO: bf16 = bf16::ZERO;
    fn from_f32(value: f32) -> bf16 {
        // On the bits, so that the compiler makes vectors of it.
        bf16::from_bits(nearest_bf16_bits(value))
    }
    unsafe fn widen(from: &[bf16], to: *mut f32) {
        for (index, from) in from.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { to.add(index).write(f32::from_bits(u32::from(from.to_bits()) << 16)) };
        }
    }
    fn round_to_bf16(_values: &mut [bf16]) {}
}

/// Vector arithmetic of one instruction set on one [`Element`].
///
/// # Safety
/// Every method may be called only where the processor has the instruction set; pointers must be valid for
/// [`LANES`](Lanes::LANES) items (`repeat`: for [`STEP`](Lanes::STEP) elements). No alignment is needed.
pub(super) trait Lanes {
    type Element: Element;
    /// `LANES` sums in f32.
    type Vector: Copy;
    /// `LANES` × `STEP` elements: one factor of [`dot`](Lanes::dot).
    type Operand: Copy;
    const LANES: usize;
    /// Terms of the reduction that one [`dot`](Lanes::dot) takes.
    const STEP: usize;

    unsafe fn splat(value: f32) -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    unsafe fn widen(from: *const Self::Element) -> Self::Vector;
    unsafe fn store(to: *mut Self::Element, value: Self::Vector);
    unsafe fn store_sums(to: *mut f32, value: Self::Vector);
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a - b`.
    unsafe fn subtract(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b + sum`.
    unsafe fn multiply_add(a: Self::Vector, b: Self::Vector, sum: Self::Vector) -> Self::Vector;
    /// Not a number stays not a number.
    unsafe fn clamp(value: Self::Vector, low: Self::Vector, high: Self::Vector) -> Self::Vector;
    /// Not a number, on either side, wins.
    unsafe fn maximum(a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// Fetches the cache line at any address, mapped or not, into the L2 cache.
    unsafe fn prefetch(from: *const Self::Element);
    /// `LANES` × `STEP` packed weights.
    unsafe fn weights(from: *const Self::Element) -> Self::Operand;
    /// The same `STEP` activations in every lane.
    unsafe fn repeat(from: *const Self::Element) -> Self::Operand;
    /// `sum` plus, in every lane, the dot product of `STEP` terms.
    unsafe fn dot(activations: Self::Operand, weights: Self::Operand, sum: Self::Vector) -> Self::Vector;
}
