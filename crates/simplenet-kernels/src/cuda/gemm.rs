//! Matrix products by cuBLAS.

use std::ffi::c_void;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cublas::result::gemm_ex;
use candle_core::cuda_backend::cudarc::cublas::sys::{
    cublasComputeType_t, cublasGemmAlgo_t, cublasOperation_t, cudaDataType,
};
use candle_core::{Result, bail};
use half::bf16;

use self::sealed::KernelType;
use super::gpu::{Element, Gpu, Span, int};
use crate::gemm::Accumulate;

/// How products of f32 matrices are computed. Those of bf16 are exact, and all sums are f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Math {
    /// f32 throughout.
    F32,
    /// Factors rounded to TF32's 10 bits of mantissa, on the matrix units.
    Tf32,
}

/// A matrix in device memory, row-major, or the transpose of one.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    span: Span<'a, T>,
    rows: usize,
    columns: usize,
    transposed: bool,
}

/// A type of products' factors, which cuBLAS and the kernels here take: f32 or bf16, and no other.
pub trait Factor: Element + KernelType {}

impl Factor for f32 {}
impl Factor for bf16 {}

/// What only this crate knows of a [`Factor`], which closes the trait.
pub(super) mod sealed {
    use candle_core::cuda_backend::cudarc::cublas::sys::cudaDataType;

    pub trait KernelType {
        /// cuBLAS's name of it.
        const TYPE: cudaDataType;

        /// The name of the two that is of the kernel for this type.
        fn named(f32_kernel: &'static str, bf16_kernel: &'static str) -> &'static str;
    }
}

impl KernelType for f32 {
    const TYPE: cudaDataType = cudaDataType::CUDA_R_32F;

    fn named(f32_kernel: &'static str, _: &'static str) -> &'static str {
        f32_kernel
    }
}
impl KernelType for bf16 {
    const TYPE: cudaDataType = cudaDataType::CUDA_R_16BF;

    fn named(_: &'static str, bf16_kernel: &'static str) -> &'static str {
        bf16_kernel
    }
}

impl<'a, T: Factor> Matrix<'a, T> {
    /// `[rows, columns]`, row-major.
    ///
    /// # Errors
    /// Where the span has another number of values.
    pub fn new(span: Span<'a, T>, rows: usize, columns: usize) -> Result<Matrix<'a, T>> {
        let span = span.expect("a matrix", rows * columns)?;
        Ok(Matrix {
            span,
            rows,
            columns,
            transposed: false,
        })
    }

    /// The transpose; nothing moves.
    pub fn t(self) -> Matrix<'a, T> {
        Matrix {
            rows: self.columns,
            columns: self.rows,
            transposed: !self.transposed,
            ..self
        }
    }
}

/// `c = a b`, or `c += a b`; `c` is not transposed, and f32 where the factors are.
///
/// # Errors
/// Where the shapes or types do not fit, or cuBLAS fails.
pub fn gemm<A: Factor, C: Factor>(
    gpu: &Gpu,
    math: Math,
    a: Matrix<'_, A>,
    b: Matrix<'_, A>,
    c: Matrix<'_, C>,
    accumulate: Accumulate,
) -> Result<()> {
    if a.columns != b.rows || c.rows != a.rows || c.columns != b.columns || c.transposed {
        bail!(
            "a product of {}×{} and {}×{} does not fit {}×{}",
            a.rows,
            a.columns,
            b.rows,
            b.columns,
            c.rows,
            c.columns
        );
    }
    if A::TYPE == cudaDataType::CUDA_R_32F && C::TYPE != A::TYPE {
        bail!("a product of f32 factors goes to bf16\n\nhint: cuBLAS leaves it in f32; convert it afterwards");
    }
    // TF32 is a way to round f32 factors; cuBLAS does not know it with others.
    let compute = match math {
        Math::Tf32 if A::TYPE == cudaDataType::CUDA_R_32F => cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        Math::F32 | Math::Tf32 => cublasComputeType_t::CUBLAS_COMPUTE_32F,
    };
    let operation = |transposed| match transposed {
        true => cublasOperation_t::CUBLAS_OP_T,
        false => cublasOperation_t::CUBLAS_OP_N,
    };
    // The length of a stored row.
    let pitch = |transposed: bool, rows: usize, columns: usize| {
        int("a side of a matrix", if transposed { rows } else { columns })
    };
    let alpha = 1.0_f32;
    let beta = match accumulate {
        Accumulate::Overwrite => 0.0_f32,
        Accumulate::Add => 1.0_f32,
    };
    // cuBLAS counts by columns: a row-major c is its transpose there, and cᵀ = bᵀ aᵀ.
    // SAFETY: the spans have the sizes of their matrices, which fit one another.
    unsafe {
        gemm_ex(
            *gpu.candle().cublas_handle().handle(),
            operation(b.transposed),
            operation(a.transposed),
            int("columns", c.columns)?,
            int("rows", c.rows)?,
            int("depth", a.columns)?,
            (&raw const alpha).cast::<c_void>(),
            b.span.address() as *const c_void,
            A::TYPE,
            pitch(b.transposed, b.rows, b.columns)?,
            a.span.address() as *const c_void,
            A::TYPE,
            pitch(a.transposed, a.rows, a.columns)?,
            (&raw const beta).cast::<c_void>(),
            c.span.address() as *mut c_void,
            C::TYPE,
            int("columns", c.columns)?,
            compute,
            cublasGemmAlgo_t::CUBLAS_GEMM_DFALT,
        )
    }
    .w()
}
