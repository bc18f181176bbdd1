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

mod view;

use rayon::prelude::*;
use thiserror::Error;

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
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
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
    + std::ops::AddAssign
{
}

impl Real for f32 {}
impl Real for f64 {}

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
    mut c: MatMut<'_, T>,
    accumulate: Accumulate,
) -> Result<(), GemmError> {
    let _ = isa;
    let (m, k, n) = (a.rows(), a.cols(), b.cols());
    if b.rows() != k || c.rows() != m || c.cols() != n {
        return Err(GemmError::Shape {
            a: [m, k],
            b: [b.rows(), n],
            c: [c.rows(), c.cols()],
        });
    }
    let out = Output {
        data: c.as_mut_ptr(),
        row_stride: c.row_stride(),
        col_stride: c.col_stride(),
    };
    (0..m).into_par_iter().for_each(|i| {
        let mut sums = vec![T::default(); n];
        for p in 0..k {
            let Some(&x) = a.get(i, p) else { return };
            for (j, sum) in sums.iter_mut().enumerate() {
                let Some(&y) = b.get(p, j) else { return };
                *sum += x * y;
            }
        }
        for (j, &sum) in sums.iter().enumerate() {
            // SAFETY: `MatMut` checked that (i, j) lies inside and apart from the others; one task has row i.
            unsafe {
                let place = out.place(i, j);
                *place = match accumulate {
                    Accumulate::Overwrite => sum,
                    Accumulate::Add => *place + sum,
                };
            }
        }
    });
    Ok(())
}

/// C, shared by the tasks; each writes elements that no other touches.
#[derive(Clone, Copy)]
struct Output<T> {
    data: *mut T,
    row_stride: usize,
    col_stride: usize,
}

// SAFETY: the tasks write disjoint elements, and the exclusive borrow behind `data` outlives them.
unsafe impl<T: Send> Send for Output<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Output<T> {}

impl<T> Output<T> {
    /// # Safety
    /// (row, col) lies inside the matrix.
    unsafe fn place(&self, row: usize, col: usize) -> *mut T {
        // SAFETY: inside, as the caller promises.
        unsafe { self.data.add(row * self.row_stride + col * self.col_stride) }
    }
}
