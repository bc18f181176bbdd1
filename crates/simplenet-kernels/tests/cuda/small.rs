//! Noise, maps and matrix products.

use half::bf16;
use simplenet_kernels::cuda::hidden::{Sweeps, fold_bias};
use simplenet_kernels::cuda::maps::MapMaker;
use simplenet_kernels::cuda::{Buffer, Gpu, Math, Matrix, gemm, noise as device};
use simplenet_kernels::gemm::Accumulate;
use simplenet_kernels::maps;
use simplenet_kernels::noise::{self, NoiseKey};

use crate::gpu::gpu;
use crate::support::{distance, values};

#[test]
fn normals_have_the_bits_of_the_processor() {
    let Some(gpu) = gpu() else { return };
    for (len, sigma, seed) in [(1, 1.0, 0), (63, 0.015, 1), (64, 0.5, 7), (100_003, 0.3, u64::MAX - 3)] {
        let key = NoiseKey {
            seed,
            stream: 3 << 56 | 17,
        };
        let mut expected = vec![0.0; len];
        noise::fill_normal(&mut expected, key, 0, sigma);
        let out: Buffer<f32> = gpu.upload(&vec![f32::NAN; len]).expect("room");
        device::fill_normal(&gpu, out.all(), key, sigma).expect("noise");
        assert_eq!(gpu.download(out.all()).expect("a download"), expected, "{len} values");
    }
}

#[test]
fn maps_and_image_scores_are_those_of_the_processor() {
    let Some(gpu) = gpu() else { return };
    for (n, from, to, sigma) in [
        (3, [28, 28], [224, 224], 4.0),
        (1, [5, 9], [37, 70], 4.0),
        (2, [3, 2], [11, 13], 0.0),
        (4, [16, 8], [16, 8], 2.5),
    ] {
        let scores = values(n * from[0] * from[1], 5);
        let expected = maps::anomaly_maps(&scores, [n, from[0], from[1]], to, sigma).expect("maps");
        let expected_images = maps::image_scores(&scores, [n, from[0], from[1]]).expect("scores");
        let maker = MapMaker::new(&gpu, from, to, sigma).expect("bands");
        let on_device = gpu.upload(&scores).expect("an upload");
        let maps: Buffer<f32> = gpu.upload(&vec![f32::NAN; n * to[0] * to[1]]).expect("room");
        let images: Buffer<f32> = gpu.zeros(n).expect("room");
        maker
            .run(&gpu, on_device.all(), maps.all(), images.all())
            .expect("maps");
        assert_eq!(gpu.download(images.all()).expect("a download"), expected_images);
        let distance = distance(&gpu.download(maps.all()).expect("a download"), &expected);
        assert!(distance < 2e-6, "{from:?} to {to:?}: {distance:e}");
    }
}

#[test]
fn more_images_than_a_grid_has_rows_get_their_maps() {
    let Some(gpu) = gpu() else { return };
    let count = 65_536 + 2;
    let scores = values(count, 9);
    let maker = MapMaker::new(&gpu, [1, 1], [1, 1], 0.0).expect("bands");
    let on_device = gpu.upload(&scores).expect("an upload");
    let (maps, images): (Buffer<f32>, Buffer<f32>) = (gpu.zeros(count).expect("room"), gpu.zeros(count).expect("room"));
    maker
        .run(&gpu, on_device.all(), maps.all(), images.all())
        .expect("maps");
    assert_eq!(gpu.download(maps.all()).expect("a download"), scores);
    assert_eq!(gpu.download(images.all()).expect("a download"), scores);
}

#[test]
fn more_rows_than_a_grid_has_blocks_have_their_mean() {
    let Some(gpu) = gpu() else { return };
    let rows = 16 * 65_536 + 1;
    // All zeros but for the last row.
    let mut z = vec![0.0_f32; rows];
    z[rows - 1] = rows as f32;
    let (z, e) = (gpu.upload(&z).expect("z"), gpu.zeros::<f32>(rows).expect("e"));
    let sweeps = Sweeps::new(&gpu, rows, 1).expect("room");
    let [gamma, bias, mean, var] = [1.0_f32, 0.0, 0.0, 1.0].map(|value| gpu.upload(&[value]).expect("an upload"));
    sweeps
        .statistics(
            &gpu,
            [z.all(), e.all()],
            gamma.all(),
            bias.all(),
            [mean.all(), var.all()],
        )
        .expect("statistics");
    // PyTorch's momentum of 0.1.
    let mean = gpu.download(mean.all()).expect("a download")[0];
    assert!((mean - 0.1).abs() < 1e-6, "{mean}");
}

#[test]
fn a_hidden_layer_of_nothing_is_refused() {
    let Some(gpu) = gpu() else { return };
    for (rows, hidden) in [(0, 4), (4, 0)] {
        let error = Sweeps::new(&gpu, rows, hidden).map(|_| ()).expect_err("a refusal");
        assert!(error.to_string().contains("at least 1"), "{error}");
    }
    let none: Buffer<f32> = gpu.zeros(0).expect("room");
    fold_bias(&gpu, none.all(), none.all(), None, none.all()).expect_err("a refusal");
}

#[test]
fn a_patch_that_is_not_a_number_makes_its_image_so() {
    let Some(gpu) = gpu() else { return };
    let mut scores = values(2 * 12, 1);
    scores[5] = f32::NAN;
    let maker = MapMaker::new(&gpu, [3, 4], [12, 16], 1.0).expect("bands");
    let scores = gpu.upload(&scores).expect("an upload");
    let maps: Buffer<f32> = gpu.zeros(2 * 12 * 16).expect("room");
    let images: Buffer<f32> = gpu.zeros(2).expect("room");
    maker.run(&gpu, scores.all(), maps.all(), images.all()).expect("maps");
    let images = gpu.download(images.all()).expect("a download");
    assert!(images[0].is_nan() && !images[1].is_nan(), "{images:?}");
}

/// `a b` in f64, with `a` `[m, k]` and `b` `[k, n]`.
fn product(a: &[f32], b: &[f32], [m, k, n]: [usize; 3]) -> Vec<f32> {
    let cell = |index: usize| {
        let (row, column) = (index / n, index % n);
        (0..k)
            .map(|i| f64::from(a[row * k + i]) * f64::from(b[i * n + column]))
            .sum::<f64>() as f32
    };
    (0..m * n).map(cell).collect()
}

fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    let rows = matrix.len() / columns;
    (0..matrix.len())
        .map(|index| matrix[index % rows * columns + index / rows])
        .collect()
}

#[test]
fn products_are_their_definition_in_every_layout() {
    let Some(gpu) = gpu() else { return };
    let [m, k, n] = [37, 51, 29];
    let (a, b) = (values(m * k, 1), values(k * n, 2));
    let expected = product(&a, &b, [m, k, n]);
    let sides = [gpu.upload(&a).expect("a"), gpu.upload(&transposed(&a, k)).expect("a")];
    let others = [gpu.upload(&b).expect("b"), gpu.upload(&transposed(&b, n)).expect("b")];
    for (math, tolerance) in [(Math::F32, 1e-6), (Math::Tf32, 1e-3)] {
        for at in 0..4 {
            let left = match at % 2 {
                0 => Matrix::new(sides[0].all(), m, k).expect("a"),
                _ => Matrix::new(sides[1].all(), k, m).expect("a").t(),
            };
            let right = match at / 2 {
                0 => Matrix::new(others[0].all(), k, n).expect("b"),
                _ => Matrix::new(others[1].all(), n, k).expect("b").t(),
            };
            let out = gpu.upload(&vec![1.0_f32; m * n]).expect("c");
            let c = || Matrix::new(out.all(), m, n).expect("c");
            gemm(&gpu, math, left, right, c(), Accumulate::Overwrite).expect("a product");
            gemm(&gpu, math, left, right, c(), Accumulate::Add).expect("a product");
            let twice: Vec<f32> = expected.iter().map(|value| 2.0 * value).collect();
            let distance = distance(&gpu.download(out.all()).expect("a download"), &twice);
            assert!(distance < tolerance, "{math:?} layout {at}: {distance:e}");
        }
    }
}

#[test]
fn products_of_bf16_sum_in_f32() {
    let Some(gpu) = gpu() else { return };
    let [m, k, n] = [16, 512, 8];
    let round = |values: Vec<f32>| values.into_iter().map(bf16::from_f32).collect::<Vec<_>>();
    let (a, b) = (round(values(m * k, 3)), round(values(k * n, 4)));
    let wide = |values: &[bf16]| values.iter().map(|value| value.to_f32()).collect::<Vec<_>>();
    let expected = product(&wide(&a), &wide(&b), [m, k, n]);
    let (a, b) = (gpu.upload(&a).expect("a"), gpu.upload(&b).expect("b"));
    let out: Buffer<f32> = gpu.zeros(m * n).expect("c");
    let (a, b) = (
        Matrix::new(a.all(), m, k).expect("a"),
        Matrix::new(b.all(), k, n).expect("b"),
    );
    // TF32 is for f32 factors, and changes nothing here.
    for math in [Math::F32, Math::Tf32] {
        gpu.clear(out.all()).expect("zeros");
        let c = Matrix::new(out.all(), m, n).expect("c");
        gemm(&gpu, math, a, b, c, Accumulate::Overwrite).expect("a product");
        let distance = distance(&gpu.download(out.all()).expect("a download"), &expected);
        assert!(distance < 1e-6, "{math:?}: {distance:e}");
    }
}

#[test]
fn a_device_of_candle_multiplies_when_its_gpu_is_gone() {
    let Some(_turn) = gpu() else { return };
    let device = Gpu::new(0).expect("a GPU").candle().clone();
    // Opening another one clears up what nobody uses any more.
    let other = Gpu::new(0).expect("a GPU");
    let gpu = Gpu::of(&device).expect("a GPU");
    for gpu in [&gpu, &other] {
        let (a, b) = (
            gpu.upload(&[2.0_f32, 3.0]).expect("a"),
            gpu.upload(&[5.0_f32, 7.0]).expect("b"),
        );
        let out: Buffer<f32> = gpu.zeros(1).expect("c");
        let (a, b) = (
            Matrix::new(a.all(), 1, 2).expect("a"),
            Matrix::new(b.all(), 2, 1).expect("b"),
        );
        let c = Matrix::new(out.all(), 1, 1).expect("c");
        gemm(gpu, Math::F32, a, b, c, Accumulate::Overwrite).expect("a product");
        assert_eq!(gpu.download(out.all()).expect("a download"), [31.0]);
    }
}

#[test]
fn products_of_f32_do_not_go_to_bf16() {
    let Some(gpu) = gpu() else { return };
    let one: Buffer<f32> = gpu.zeros(1).expect("room");
    let out: Buffer<bf16> = gpu.zeros(1).expect("room");
    let (one, out) = (
        Matrix::new(one.all(), 1, 1).expect("a"),
        Matrix::new(out.all(), 1, 1).expect("c"),
    );
    let error = gemm(&gpu, Math::F32, one, one, out, Accumulate::Overwrite).expect_err("a refusal");
    assert!(error.to_string().contains("bf16"), "{error}");
}
