//! Matrix product on the CPU: `C = A B` or `C += A B`.
//!
//! [`MatRef`] and [`MatMut`] see a slice as a matrix with any strides, so a transpose costs nothing. [`gemm`] multiplies.
//! The bytes of the result do not depend on the number of threads: every element of C is summed by one thread, in
//! blocks of K whose size depends on K alone.
//!
//! [`gemm_in`] multiplies in a [`Precision`]: in bf16 the factors are rounded while they are packed (to the nearest, ties to
//! even), products and sums are f32, and so is C.
//!
//! ```
//! use simplenet_kernels::gemm::{Accumulate, MatMut, MatRef, gemm};
//!
//! let x = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0]; // [2, 3]
//! let weight = [1.0_f32, 0.0, 1.0, 0.0, 2.0, 0.0]; // [2, 3]: outputs by inputs, as a linear layer keeps it
//! let mut y = [0.0_f32; 4];
//! let a = MatRef::new(&x, 2, 3)?;
//! let b = MatRef::new(&weight, 2, 3)?.t();
//! gemm(a, b, MatMut::new(&mut y, 2, 2)?, Accumulate::Overwrite)?;
//! assert_eq!(y, [4.0, 4.0, 10.0, 10.0]);
//! # Ok::<(), simplenet_kernels::gemm::GemmError>(())
//! ```

#[cfg(target_arch = "x86_64")]
mod bf16;
mod blocked;
mod kernel;
mod pack;
mod view;

use thiserror::Error;

use self::blocked::On;
use self::kernel::{Chosen, Kernel, kernel_f32, kernel_f64};
use self::pack::{Buffer, Right, Side};
pub use self::view::{MatMut, MatRef};
use crate::engine::Precision;
use crate::isa::{Isa, IsaError};
use crate::rounding::nearest_bf16;

/// What becomes of the numbers that are in C already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accumulate {
    /// `C = A B`; what was there is not read.
    Overwrite,
    /// `C += A B`. AMX takes numbers below 2⁻¹²⁶ as zero, those of C too.
    Add,
}

/// Matrices that cannot be made or multiplied.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GemmError {
    /// The last element lies outside the slice.
    #[error("a {rows}x{cols} matrix with strides {row_stride} and {col_stride} does not fit {len} elements")]
    OutOfBounds {
        /// Length of the slice.
        len: usize,
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
        /// Elements from row to row.
        row_stride: usize,
        /// Elements from column to column.
        col_stride: usize,
    },
    /// Two elements of an output would share a place.
    #[error("elements of a {rows}x{cols} output with strides {row_stride} and {col_stride} overlap")]
    Overlap {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
        /// Elements from row to row.
        row_stride: usize,
        /// Elements from column to column.
        col_stride: usize,
    },
    /// Rows that a matrix does not have.
    #[error("rows {start}..{end} of a matrix with {rows} rows")]
    Range {
        /// First row asked for.
        start: usize,
        /// One after the last.
        end: usize,
        /// Rows that there are.
        rows: usize,
    },
    /// The shapes do not make a product.
    #[error("cannot multiply {a:?} by {b:?} into {c:?}\n\nhint: [m, k] by [k, n] into [m, n]")]
    Shape {
        /// Rows and columns of A.
        a: [usize; 2],
        /// Rows and columns of B.
        b: [usize; 2],
        /// Rows and columns of C.
        c: [usize; 2],
    },
    /// No instruction set to run on.
    #[error(transparent)]
    Isa(#[from] IsaError),
}

mod sealed {
    use super::kernel::Chosen;
    use crate::engine::Precision;
    use crate::isa::Isa;

    pub trait Sealed: Sized {
        /// The micro-kernel for this type.
        fn kernel(isa: Isa, precision: Precision) -> Chosen<Self>;
        /// `self * x + sum`, rounded once.
        fn fused(self, x: Self, sum: Self) -> Self;
        /// The nearest bf16, ties to even.
        fn rounded(self) -> Self;
        /// The nearest value of this type.
        fn nearest(value: f64) -> Self;
        /// Square root.
        fn root(self) -> Self;
    }
}

/// What matrices are made of: `f32` (fast) or `f64` (for strict parity).
pub trait Real:
    sealed::Sealed
    + Copy
    + Default
    + Send
    + Sync
    + 'static
    + std::fmt::Debug
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
{
}

impl sealed::Sealed for f32 {
    fn kernel(isa: Isa, precision: Precision) -> Chosen<f32> {
        match (precision, isa) {
            #[cfg(target_arch = "x86_64")]
            (Precision::Bf16, Isa::Avx512Bf16 | Isa::Amx) => Chosen::Bf16(bf16::kernel(isa)),
            (Precision::Bf16, _) => Chosen::Plain(kernel_f32(isa).rounding()),
            (Precision::F32, _) => Chosen::Plain(kernel_f32(isa)),
        }
    }

    #[inline(always)]
    fn fused(self, x: f32, sum: f32) -> f32 {
        self.mul_add(x, sum)
    }

    #[inline(always)]
    fn rounded(self) -> f32 {
        nearest_bf16(self)
    }

    #[inline(always)]
    fn nearest(value: f64) -> f32 {
        value as f32
    }

    #[inline(always)]
    fn root(self) -> f32 {
        self.sqrt()
    }
}

impl sealed::Sealed for f64 {
    fn kernel(isa: Isa, precision: Precision) -> Chosen<f64> {
        Chosen::Plain(match precision {
            Precision::F32 => kernel_f64(isa),
            Precision::Bf16 => kernel_f64(isa).rounding(),
        })
    }

    #[inline(always)]
    fn fused(self, x: f64, sum: f64) -> f64 {
        self.mul_add(x, sum)
    }

    #[inline(always)]
    fn rounded(self) -> f64 {
        half::bf16::from_f64(self).to_f64()
    }

    #[inline(always)]
    fn nearest(value: f64) -> f64 {
        value
    }

    #[inline(always)]
    fn root(self) -> f64 {
        self.sqrt()
    }
}

impl Real for f32 {}
impl Real for f64 {}

/// B `[k, n]`, laid out for the kernels once, for products with many A: the weight of a frozen layer.
#[derive(Debug)]
pub struct PackedB<T> {
    packed: Packed<T>,
}

#[derive(Debug)]
enum Packed<T> {
    Plain(Kernel<T>, Right<T>),
    Bf16(Kernel<T, half::bf16>, Right<half::bf16>),
}

impl<T: Real> PackedB<T> {
    /// Packs `b` as it is for the instruction set that [`Isa::detect`] finds.
    ///
    /// # Errors
    /// [`GemmError::Isa`] where `SIMPLENET_ISA` names a wrong one.
    pub fn new(b: MatRef<'_, T>) -> Result<Self, GemmError> {
        Self::with_isa(Precision::F32, Isa::detect()?, b)
    }

    /// Packs `b` for products in a precision, as [`gemm_in`] makes them.
    ///
    /// # Errors
    /// [`GemmError::Isa`] where `SIMPLENET_ISA` names a wrong one.
    pub fn in_precision(precision: Precision, b: MatRef<'_, T>) -> Result<Self, GemmError> {
        Self::with_isa(precision, Isa::detect()?, b)
    }

    /// Packs `b` for `isa`.
    ///
    /// # Errors
    /// [`GemmError::Isa`] where this processor lacks it.
    pub fn with_isa(precision: Precision, isa: Isa, b: MatRef<'_, T>) -> Result<Self, GemmError> {
        fn pack<T: Real, P: Send + Sync>(kernel: &Kernel<T, P>, b: &MatRef<'_, T>) -> Right<P> {
            let buffer = Buffer::new(Right::elements(b.rows(), b.cols(), kernel));
            let parallel = blocked::is_parallel(1, b.rows(), b.cols());
            Right::pack(b, kernel, buffer, parallel)
        }
        let packed = match T::kernel(runs_here(isa)?, precision) {
            Chosen::Plain(kernel) => Packed::Plain(kernel, pack(&kernel, &b)),
            Chosen::Bf16(kernel) => Packed::Bf16(kernel, pack(&kernel, &b)),
        };
        Ok(Self { packed })
    }

    /// K: the columns that A must have.
    pub fn rows(&self) -> usize {
        match &self.packed {
            Packed::Plain(_, right) => right.k,
            Packed::Bf16(_, right) => right.k,
        }
    }

    /// The columns of the product.
    pub fn cols(&self) -> usize {
        match &self.packed {
            Packed::Plain(_, right) => right.n,
            Packed::Bf16(_, right) => right.n,
        }
    }
}

/// `C = A B` or `C += A B`, for A `[m, k]`, B `[k, n]`, C `[m, n]`, with the instruction set that [`Isa::detect`] finds.
///
/// # Errors
/// [`GemmError::Shape`] where the shapes do not fit; [`GemmError::Isa`] where `SIMPLENET_ISA` names a wrong one.
pub fn gemm<T: Real>(
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    c: MatMut<'_, T>,
    accumulate: Accumulate,
) -> Result<(), GemmError> {
    gemm_with(Precision::F32, Isa::detect()?, a, b, c, accumulate)
}

/// [`gemm`] of factors in a precision: as they are ([`Precision::F32`], whatever `T` is), or rounded to bf16. Sums are `T`
/// either way. On [`Isa::Amx`] bf16 is several times as fast as f32; where no instruction multiplies bf16, the rounding is
/// emulated, at about the speed of f32.
///
/// # Errors
/// As [`gemm`].
pub fn gemm_in<T: Real>(
    precision: Precision,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    c: MatMut<'_, T>,
    accumulate: Accumulate,
) -> Result<(), GemmError> {
    gemm_with(precision, Isa::detect()?, a, b, c, accumulate)
}

/// [`gemm_in`] with the instruction set named.
///
/// # Errors
/// As [`gemm`]; [`GemmError::Isa`] where this processor lacks `isa`.
pub fn gemm_with<T: Real>(
    precision: Precision,
    isa: Isa,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    c: MatMut<'_, T>,
    accumulate: Accumulate,
) -> Result<(), GemmError> {
    let chosen = T::kernel(runs_here(isa)?, precision);
    check_shapes(&a, [b.rows(), b.cols()], &c)?;
    // The kernels write rows of C; a C whose columns are contiguous is the transpose of one that they write.
    let (a, b, c) = if c.col_stride() != 1 && c.row_stride() == 1 {
        (b.t(), a.t(), c.t())
    } else {
        (a, b, c)
    };
    match chosen {
        Chosen::Plain(kernel) => pack_and_multiply(&kernel, a, b, c, accumulate),
        Chosen::Bf16(kernel) => pack_and_multiply(&kernel, a, b, c, accumulate),
    }
    Ok(())
}

fn pack_and_multiply<T: Real, P: Send + Sync>(
    kernel: &Kernel<T, P>,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    c: MatMut<'_, T>,
    accumulate: Accumulate,
) {
    let buffer = Buffer::borrow(Side::Right, Right::elements(b.rows(), b.cols(), kernel));
    let parallel = blocked::is_parallel(a.rows(), b.rows(), b.cols());
    let right = Right::pack(&b, kernel, buffer, parallel);
    blocked::multiply(On::Pool, kernel, a, &right, c, accumulate);
    right.buffer.keep(Side::Right);
}

/// [`gemm`] with a B that was packed before, in its precision. The bytes are those of [`gemm_with`] with the same precision
/// and instruction set.
///
/// # Errors
/// [`GemmError::Shape`] where the shapes do not fit.
pub fn gemm_packed<T: Real>(
    a: MatRef<'_, T>,
    b: &PackedB<T>,
    c: MatMut<'_, T>,
    accumulate: Accumulate,
) -> Result<(), GemmError> {
    multiply_packed(On::Pool, a, b, c, accumulate)
}

/// [`gemm_packed`] on the thread that calls, for those that are many themselves.
///
/// # Errors
/// As [`gemm_packed`].
pub fn gemm_packed_alone<T: Real>(
    a: MatRef<'_, T>,
    b: &PackedB<T>,
    c: MatMut<'_, T>,
    accumulate: Accumulate,
) -> Result<(), GemmError> {
    multiply_packed(On::Caller, a, b, c, accumulate)
}

fn multiply_packed<T: Real>(
    on: On,
    a: MatRef<'_, T>,
    b: &PackedB<T>,
    c: MatMut<'_, T>,
    accumulate: Accumulate,
) -> Result<(), GemmError> {
    check_shapes(&a, [b.rows(), b.cols()], &c)?;
    match &b.packed {
        Packed::Plain(kernel, right) => blocked::multiply(on, kernel, a, right, c, accumulate),
        Packed::Bf16(kernel, right) => blocked::multiply(on, kernel, a, right, c, accumulate),
    }
    Ok(())
}

/// `isa`, where this processor has it: the kernels may then be called.
fn runs_here(isa: Isa) -> Result<Isa, IsaError> {
    let supported = Isa::supported();
    if supported.contains(&isa) {
        return Ok(isa);
    }
    Err(IsaError::Unsupported {
        asked: isa,
        best: supported.last().copied().unwrap_or(Isa::Portable),
    })
}

fn check_shapes<T>(a: &MatRef<'_, T>, b: [usize; 2], c: &MatMut<'_, T>) -> Result<(), GemmError> {
    if a.cols() == b[0] && c.rows() == a.rows() && c.cols() == b[1] {
        return Ok(());
    }
    Err(GemmError::Shape {
        a: [a.rows(), a.cols()],
        b,
        c: [c.rows(), c.cols()],
    })
}
