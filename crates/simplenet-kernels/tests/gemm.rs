//! The matrix product against a triple loop in f64, for every instruction set of this processor.

use proptest::prelude::*;
use simplenet_kernels::gemm::{Accumulate, GemmError, MatMut, MatRef, PackedB, gemm, gemm_packed, gemm_with};
use simplenet_kernels::isa::Isa;

/// A matrix in memory: how its elements lie, and the slice they lie in.
#[derive(Debug, Clone)]
struct Stored {
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
    data: Vec<f32>,
}

impl Stored {
    /// `gaps`: elements left out after each element and after each row (or column, where `by_columns`).
    fn new(rows: usize, cols: usize, by_columns: bool, gaps: (usize, usize), seed: u64) -> Self {
        let inner = gaps.0 + 1;
        let outer = inner * if by_columns { rows } else { cols }.max(1) + gaps.1;
        let (row_stride, col_stride) = if by_columns { (inner, outer) } else { (outer, inner) };
        let len = rows.max(1) * row_stride + cols.max(1) * col_stride;
        Self {
            rows,
            cols,
            row_stride,
            col_stride,
            data: numbers(len, seed),
        }
    }

    fn view(&self) -> MatRef<'_, f32> {
        MatRef::with_strides(&self.data, self.rows, self.cols, self.row_stride, self.col_stride).unwrap()
    }

    fn view_mut(&mut self) -> MatMut<'_, f32> {
        MatMut::with_strides(&mut self.data, self.rows, self.cols, self.row_stride, self.col_stride).unwrap()
    }

    fn at(&self, row: usize, col: usize) -> f32 {
        self.data[row * self.row_stride + col * self.col_stride]
    }
}

/// Numbers in [-1, 1) that look random.
fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// The reference: (sum of the products, sum of their magnitudes) for every element, in f64.
fn slow(a: &Stored, b: &Stored) -> Vec<(f64, f64)> {
    let mut sums = Vec::new();
    for i in 0..a.rows {
        for j in 0..b.cols {
            let products = (0..a.cols).map(|p| f64::from(a.at(i, p)) * f64::from(b.at(p, j)));
            sums.push(products.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs())));
        }
    }
    sums
}

/// Asserts that `after` is the product (added to `before` where `accumulate` says so) and that nothing but the elements
/// of the matrix was written.
fn assert_product(a: &Stored, b: &Stored, before: &Stored, after: &Stored, accumulate: Accumulate, isa: Isa) {
    let expected = slow(a, b);
    let mut inside = vec![false; after.data.len()];
    for i in 0..after.rows {
        for j in 0..after.cols {
            inside[i * after.row_stride + j * after.col_stride] = true;
            let (sum, size) = expected[i * after.cols + j];
            let old = match accumulate {
                Accumulate::Overwrite => 0.0,
                Accumulate::Add => f64::from(before.at(i, j)),
            };
            // One rounding per product and sum at most: the classic bound of a dot product.
            let bound = (a.cols as f64 + 2.0) * f64::from(f32::EPSILON) * (size + old.abs());
            let got = f64::from(after.at(i, j));
            assert!(
                (got - (sum + old)).abs() <= bound,
                "{isa}: ({i}, {j}) is {got}, not {}",
                sum + old
            );
        }
    }
    for (place, inside) in inside.iter().enumerate() {
        assert!(
            *inside || after.data[place] == before.data[place],
            "{isa}: a gap was written"
        );
    }
}

fn check(shape: (usize, usize, usize), layout: (bool, bool, bool), gaps: (usize, usize), accumulate: Accumulate) {
    let (m, k, n) = shape;
    let a = Stored::new(m, k, layout.0, gaps, 1);
    let b = Stored::new(k, n, layout.1, gaps, 2);
    let before = Stored::new(m, n, layout.2, gaps, 3);
    for isa in Isa::supported() {
        let mut c = before.clone();
        gemm_with(isa, a.view(), b.view(), c.view_mut(), accumulate).unwrap();
        assert_product(&a, &b, &before, &c, accumulate, isa);
        let mut packed = before.clone();
        let right = PackedB::with_isa(isa, b.view()).unwrap();
        gemm_packed(a.view(), &right, packed.view_mut(), accumulate).unwrap();
        assert_eq!(c.data, packed.data, "{isa}: packed before");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_shape_and_any_strides_give_the_product(
        shape in (0_usize..60, 0_usize..50, 0_usize..80),
        layout in any::<(bool, bool, bool)>(),
        gaps in (0_usize..3, 0_usize..4),
        add in any::<bool>(),
    ) {
        check(shape, layout, gaps, if add { Accumulate::Add } else { Accumulate::Overwrite });
    }
}

#[test]
fn sizes_around_the_tiles_and_blocks_give_the_product() {
    for shape in [
        (0, 5, 7),
        (5, 0, 7),
        (5, 7, 0),
        (1, 1, 1),
        (1, 400, 1),
        (14, 384, 32),
        (15, 385, 33),
        (13, 769, 31),
    ] {
        for accumulate in [Accumulate::Overwrite, Accumulate::Add] {
            check(shape, (false, false, false), (0, 0), accumulate);
            check(shape, (true, true, true), (0, 0), accumulate);
        }
    }
    // Large enough for several tasks, with a remainder on every side.
    check((211, 130, 67), (false, true, false), (0, 0), Accumulate::Add);
    check((67, 130, 211), (true, false, true), (0, 0), Accumulate::Add);
}

#[test]
fn f64_is_summed_in_f64() {
    let (m, k, n) = (37, 801, 41);
    let wide = |len, seed| numbers(len, seed).into_iter().map(f64::from).collect::<Vec<_>>();
    let (a, b) = (wide(m * k, 5), wide(k * n, 6));
    for isa in Isa::supported() {
        let mut c = vec![f64::NAN; m * n];
        let (a, b) = (MatRef::new(&a, m, k).unwrap(), MatRef::new(&b, n, k).unwrap().t());
        gemm_with(isa, a, b, MatMut::new(&mut c, m, n).unwrap(), Accumulate::Overwrite).unwrap();
        for i in 0..m {
            for j in 0..n {
                let sum: f64 = (0..k).map(|p| a.get(i, p).unwrap() * b.get(p, j).unwrap()).sum();
                assert!((c[i * n + j] - sum).abs() < 1e-12, "{isa}: ({i}, {j})");
            }
        }
    }
}

#[test]
fn the_bytes_do_not_depend_on_the_threads() {
    let (m, k, n) = (301, 403, 229);
    let (a, b) = (numbers(m * k, 7), numbers(k * n, 8));
    let product = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut c = vec![0.0; m * n];
        pool.install(|| {
            let (a, b) = (MatRef::new(&a, m, k).unwrap(), MatRef::new(&b, k, n).unwrap());
            gemm(a, b, MatMut::new(&mut c, m, n).unwrap(), Accumulate::Overwrite).unwrap();
        });
        c
    };
    let one = product(1);
    assert_eq!(one, product(2));
    assert_eq!(one, product(7));
}

#[test]
fn fused_kernels_agree_to_the_last_bit() {
    let fused: Vec<Isa> = Isa::supported()
        .into_iter()
        .filter(|&isa| isa != Isa::Portable)
        .collect();
    let (m, k, n) = (45, 777, 70);
    let (a, b) = (numbers(m * k, 9), numbers(k * n, 10));
    let product = |isa| {
        let mut c = vec![0.0; m * n];
        let (a, b) = (MatRef::new(&a, k, m).unwrap().t(), MatRef::new(&b, k, n).unwrap());
        gemm_with(isa, a, b, MatMut::new(&mut c, m, n).unwrap(), Accumulate::Overwrite).unwrap();
        c
    };
    for pair in fused.windows(2) {
        assert_eq!(product(pair[0]), product(pair[1]), "{} and {}", pair[0], pair[1]);
    }
}

#[test]
fn nan_and_infinity_reach_exactly_their_row_and_column() {
    let (m, k, n) = (30, 20, 50);
    for isa in Isa::supported() {
        let (mut a, b) = (numbers(m * k, 11), numbers(k * n, 12));
        a[17 * k + 3] = f32::NAN;
        a[4 * k + 6] = f32::INFINITY;
        let mut c = vec![f32::NAN; m * n];
        let (a, b) = (MatRef::new(&a, m, k).unwrap(), MatRef::new(&b, k, n).unwrap());
        gemm_with(isa, a, b, MatMut::new(&mut c, m, n).unwrap(), Accumulate::Overwrite).unwrap();
        for (place, value) in c.iter().enumerate() {
            match place / n {
                17 => assert!(value.is_nan(), "{isa}"),
                4 => assert!(value.is_infinite(), "{isa}"),
                _ => assert!(value.is_finite(), "{isa}"),
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let data = [0.0_f32; 12];
    let mut out = [0.0_f32; 12];
    let out_of_bounds = MatRef::new(&data, 4, 4).unwrap_err();
    assert_eq!(
        out_of_bounds.to_string(),
        "a 4x4 matrix with strides 4 and 1 does not fit 12 elements"
    );
    assert!(MatRef::with_strides(&data, usize::MAX, 2, usize::MAX, 1).is_err());
    let overlap = MatMut::with_strides(&mut out, 3, 4, 2, 1).unwrap_err();
    assert!(matches!(overlap, GemmError::Overlap { .. }));
    assert!(MatMut::with_strides(&mut out, 3, 4, 0, 1).is_err());

    let (a, b) = (MatRef::new(&data, 3, 4).unwrap(), MatRef::new(&data, 3, 4).unwrap());
    let shape = gemm(a, b, MatMut::new(&mut out, 3, 3).unwrap(), Accumulate::Overwrite).unwrap_err();
    assert!(
        shape
            .to_string()
            .starts_with("cannot multiply [3, 4] by [3, 4] into [3, 3]")
    );
    assert!(a.row_range(2..4).is_err());
    assert_eq!(a.row_range(1..3).unwrap().rows(), 2);
}
