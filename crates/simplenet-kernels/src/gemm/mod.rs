//! Matrix product on the CPU: `C = A B` or `C += A B`.
//!
//! [`MatRef`] and [`MatMut`] see a slice as a matrix with any strides, so a transpose costs nothing. [`gemm`] multiplies.
//! The bytes of the result do not depend on the number of threads: every element of C is summed by one thread, in
//! blocks of K whose size depends on K alone.
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

mod blocked;
mod kernel;
mod pack;
mod view;

use thiserror::Error;

use self::kernel::{Kernel, kernel_f32, kernel_f64};
use self::pack::{Buffer, Right, Side};
pub use self::view::{MatMut, MatRef};
use crate::isa::{Isa, IsaError};

/// What becomes of the numbers that are in C already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accumulate {
    /// `C = A B`; what was there is not read.
    Overwrite,
    /// `C += A B`.
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
    use super::kernel::Kernel;
    use crate::isa::Isa;

    pub trait Sealed: Sized {
        /// The micro-kernel for this type.
        fn kernel(isa: Isa) -> Kernel<Self>;
        /// `self * x + sum`, rounded once.
        fn fused(self, x: Self, sum: Self) -> Self;
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
    + std::ops::Mul<Output = Self>
{
}

impl sealed::Sealed for f32 {
    fn kernel(isa: Isa) -> Kernel<f32> {
        kernel_f32(isa)
    }

    #[inline(always)]
    fn fused(self, x: f32, sum: f32) -> f32 {
        self.mul_add(x, sum)
    }
}

impl sealed::Sealed for f64 {
    fn kernel(isa: Isa) -> Kernel<f64> {
        kernel_f64(isa)
    }

    #[inline(always)]
    fn fused(self, x: f64, sum: f64) -> f64 {
        self.mul_add(x, sum)
    }
}

impl Real for f32 {}
impl Real for f64 {}

/// B `[k, n]`, laid out for the kernels once, for products with many A: the weight of a frozen layer.
#[derive(Debug)]
pub struct PackedB<T> {
    right: Right<T>,
    kernel: Kernel<T>,
}

impl<T: Real> PackedB<T> {
    /// Packs `b` for the instruction set that [`Isa::detect`] finds.
    ///
    /// # Errors
    /// [`GemmError::Isa`] where `SIMPLENET_ISA` names a wrong one.
    pub fn new(b: MatRef<'_, T>) -> Result<Self, GemmError> {
        Self::with_isa(Isa::detect()?, b)
    }

    /// Packs `b` for `isa`.
    ///
    /// # Errors
    /// [`GemmError::Isa`] where this processor lacks it.
    pub fn with_isa(isa: Isa, b: MatRef<'_, T>) -> Result<Self, GemmError> {
        let kernel = T::kernel(runs_here(isa)?);
        let buffer = Buffer::new(Right::elements(b.rows(), b.cols(), &kernel));
        let parallel = blocked::is_parallel(1, b.rows(), b.cols());
        Ok(Self {
            right: Right::pack(&b, &kernel, buffer, parallel),
            kernel,
        })
    }

    /// K: the columns that A must have.
    pub fn rows(&self) -> usize {
        self.right.k
    }

    /// The columns of the product.
    pub fn cols(&self) -> usize {
        self.right.n
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
    gemm_with(Isa::detect()?, a, b, c, accumulate)
}

/// [`gemm`] with the instruction set named.
///
/// # Errors
/// As [`gemm`]; [`GemmError::Isa`] where this processor lacks `isa`.
pub fn gemm_with<T: Real>(
    isa: Isa,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    c: MatMut<'_, T>,
    accumulate: Accumulate,
) -> Result<(), GemmError> {
    let kernel = T::kernel(runs_here(isa)?);
    check_shapes(&a, [b.rows(), b.cols()], &c)?;
    // The kernels write rows of C; a C whose columns are contiguous is the transpose of one that they write.
    let (a, b, c) = if c.col_stride() != 1 && c.row_stride() == 1 {
        (b.t(), a.t(), c.t())
    } else {
        (a, b, c)
    };
    let buffer = Buffer::borrow(Side::Right, Right::elements(b.rows(), b.cols(), &kernel));
    let parallel = blocked::is_parallel(a.rows(), b.rows(), b.cols());
    let right = Right::pack(&b, &kernel, buffer, parallel);
    blocked::multiply(&kernel, a, &right, c, accumulate);
    right.buffer.keep(Side::Right);
    Ok(())
}

/// [`gemm`] with a B that was packed before. The bytes are those of [`gemm_with`] with the same instruction set.
///
/// # Errors
/// [`GemmError::Shape`] where the shapes do not fit.
pub fn gemm_packed<T: Real>(
    a: MatRef<'_, T>,
    b: &PackedB<T>,
    c: MatMut<'_, T>,
    accumulate: Accumulate,
) -> Result<(), GemmError> {
    check_shapes(&a, [b.rows(), b.cols()], &c)?;
    blocked::multiply(&b.kernel, a, &b.right, c, accumulate);
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
