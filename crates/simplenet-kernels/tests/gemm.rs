//! The matrix product against a triple loop in f64, for every instruction set of this processor and in both precisions.

use proptest::prelude::*;
use simplenet_kernels::engine::Precision;
use simplenet_kernels::gemm::{Accumulate, GemmError, MatMut, MatRef, PackedB, gemm, gemm_in, gemm_packed, gemm_with};
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

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

/// The reference: (sum of the products, sum of their magnitudes) for every element, in f64, of factors in a precision.
fn slow(precision: Precision, a: &Stored, b: &Stored) -> Vec<(f64, f64)> {
    let factor = |value: f32| match precision {
        Precision::F32 => f64::from(value),
        Precision::Bf16 => half::bf16::from_f32(value).to_f64(),
    };
    let mut sums = Vec::new();
    for i in 0..a.rows {
        for j in 0..b.cols {
            let products = (0..a.cols).map(|p| factor(a.at(i, p)) * factor(b.at(p, j)));
            sums.push(products.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs())));
        }
    }
    sums
}

/// Asserts that `after` is the product (added to `before` where `accumulate` says so) and that nothing but the elements
/// of the matrix was written.
fn assert_product((precision, isa): (Precision, Isa), [a, b, before, after]: [&Stored; 4], accumulate: Accumulate) {
    let expected = slow(precision, a, b);
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
                "{isa} {precision:?}: ({i}, {j}) is {got}, not {}",
                sum + old
            );
        }
    }
    for (place, inside) in inside.iter().enumerate() {
        assert!(
            *inside || after.data[place] == before.data[place],
            "{isa} {precision:?}: a gap was written"
        );
    }
}

fn check(shape: (usize, usize, usize), layout: (bool, bool, bool), gaps: (usize, usize), accumulate: Accumulate) {
    let (m, k, n) = shape;
    let a = Stored::new(m, k, layout.0, gaps, 1);
    let b = Stored::new(k, n, layout.1, gaps, 2);
    let before = Stored::new(m, n, layout.2, gaps, 3);
    for precision in PRECISIONS {
        for isa in Isa::supported() {
            let mut c = before.clone();
            gemm_with(precision, isa, a.view(), b.view(), c.view_mut(), accumulate).unwrap();
            assert_product((precision, isa), [&a, &b, &before, &c], accumulate);
            let mut packed = before.clone();
            let right = PackedB::with_isa(precision, isa, b.view()).unwrap();
            gemm_packed(a.view(), &right, packed.view_mut(), accumulate).unwrap();
            assert_eq!(c.data, packed.data, "{isa} {precision:?}: packed before");
        }
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
        (33, 801, 49),
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
fn f64_is_summed_in_f64_and_rounded_to_bf16_before_where_asked() {
    let (m, k, n) = (37, 801, 41);
    let wide = |len, seed| numbers(len, seed).into_iter().map(f64::from).collect::<Vec<_>>();
    let (a, b) = (wide(m * k, 5), wide(k * n, 6));
    for (precision, isa) in PRECISIONS
        .into_iter()
        .flat_map(|p| Isa::supported().into_iter().map(move |isa| (p, isa)))
    {
        let factor = |value: &f64| match precision {
            Precision::F32 => *value,
            Precision::Bf16 => half::bf16::from_f64(*value).to_f64(),
        };
        let mut c = vec![f64::NAN; m * n];
        let (a, b) = (MatRef::new(&a, m, k).unwrap(), MatRef::new(&b, n, k).unwrap().t());
        let out = MatMut::new(&mut c, m, n).unwrap();
        gemm_with(precision, isa, a, b, out, Accumulate::Overwrite).unwrap();
        for i in 0..m {
            for j in 0..n {
                let products = (0..k).map(|p| factor(a.get(i, p).unwrap()) * factor(b.get(p, j).unwrap()));
                let sum: f64 = products.sum();
                assert!((c[i * n + j] - sum).abs() < 1e-12, "{isa} {precision:?}: ({i}, {j})");
            }
        }
    }
}

#[test]
fn the_bytes_do_not_depend_on_the_threads() {
    let (m, k, n) = (301, 403, 229);
    let (a, b) = (numbers(m * k, 7), numbers(k * n, 8));
    for precision in PRECISIONS {
        let product = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut c = vec![0.0; m * n];
            pool.install(|| {
                let (a, b) = (MatRef::new(&a, m, k).unwrap(), MatRef::new(&b, k, n).unwrap());
                let out = MatMut::new(&mut c, m, n).unwrap();
                gemm_in(precision, a, b, out, Accumulate::Overwrite).unwrap();
            });
            c
        };
        let one = product(1);
        assert_eq!(one, product(2));
        assert_eq!(one, product(7));
    }
}

#[test]
fn fused_kernels_agree_to_the_last_bit() {
    let fused: Vec<Isa> = Isa::supported()
        .into_iter()
        .filter(|&isa| isa != Isa::Portable)
        .collect();
    let (m, n) = (45, 70);
    let product = |isa, k: usize, a: &[f32], b: &[f32]| {
        let mut c = vec![0.0; m * n];
        let (a, b) = (MatRef::new(a, k, m).unwrap().t(), MatRef::new(b, k, n).unwrap());
        gemm_with(
            Precision::F32,
            isa,
            a,
            b,
            MatMut::new(&mut c, m, n).unwrap(),
            Accumulate::Overwrite,
        )
        .unwrap();
        c
    };
    // As many terms as a kernel adds at a time, in their order, and more.
    for k in [200, 777] {
        let (a, b) = (numbers(m * k, 9), numbers(k * n, 10));
        let products: Vec<Vec<f32>> = fused.iter().map(|&isa| product(isa, k, &a, &b)).collect();
        for (isa, found) in fused.iter().zip(&products) {
            assert_eq!(found, &products[0], "{isa} and {}, {k}", fused[0]);
        }
        if let (200, Some(found)) = (k, products.first()) {
            let terms = |row: usize, column: usize| (0..k).map(move |term| (term * m + row, term * n + column));
            let plain: Vec<f32> = (0..m * n)
                .map(|place| terms(place / n, place % n).fold(0.0, |sum, (left, right)| a[left].mul_add(b[right], sum)))
                .collect();
            assert_eq!(found, &plain);
        }
    }
}

#[test]
fn nan_and_infinity_reach_exactly_their_row_and_column() {
    let (m, k, n) = (30, 20, 50);
    for (precision, isa) in PRECISIONS
        .into_iter()
        .flat_map(|p| Isa::supported().into_iter().map(move |isa| (p, isa)))
    {
        let (mut a, b) = (numbers(m * k, 11), numbers(k * n, 12));
        a[17 * k + 3] = f32::NAN;
        a[4 * k + 6] = f32::INFINITY;
        let mut c = vec![f32::NAN; m * n];
        let (a, b) = (MatRef::new(&a, m, k).unwrap(), MatRef::new(&b, k, n).unwrap());
        let out = MatMut::new(&mut c, m, n).unwrap();
        gemm_with(precision, isa, a, b, out, Accumulate::Overwrite).unwrap();
        for (place, value) in c.iter().enumerate() {
            match place / n {
                17 => assert!(value.is_nan(), "{isa} {precision:?}"),
                4 => assert!(value.is_infinite(), "{isa} {precision:?}"),
                _ => assert!(value.is_finite(), "{isa} {precision:?}"),
            }
        }
    }
}

/// Sums of whole numbers that bf16 and f32 hold exactly: every instruction set must find the same, whatever its order.
#[test]
fn exact_factors_have_exact_products_in_bf16() {
    let (m, k, n) = (47, 1601, 71);
    let whole = |count: usize, step: usize| (0..count).map(|i| (i * step % 17) as f32 - 8.0).collect::<Vec<f32>>();
    let (a, b) = (whole(m * k, 5), whole(k * n, 7));
    for isa in Isa::supported() {
        for transposed in [false, true] {
            let (left, right) = match transposed {
                false => (MatRef::new(&a, m, k).unwrap(), MatRef::new(&b, k, n).unwrap()),
                true => (MatRef::new(&a, k, m).unwrap().t(), MatRef::new(&b, n, k).unwrap().t()),
            };
            let mut c = vec![0.0; m * n];
            let out = MatMut::new(&mut c, m, n).unwrap();
            gemm_with(Precision::Bf16, isa, left, right, out, Accumulate::Overwrite).unwrap();
            for (place, &value) in c.iter().enumerate() {
                let products = (0..k).map(|p| left.get(place / n, p).unwrap() * right.get(p, place % n).unwrap());
                assert_eq!(value, products.sum::<f32>(), "{isa}: {place}");
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
