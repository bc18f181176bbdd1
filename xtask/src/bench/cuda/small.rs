//! The device's ceilings, training steps, maps.

use std::time::Duration;

use anyhow::Result;
use simplenet_heads::cuda::{DeviceBank, DeviceHead, DeviceStep, Product, Products};
use simplenet_heads::{Adaptor, Head, HeadConfig, Loss, Optimizer, Rule, TrainConfig};
use simplenet_kernels::cuda::bf16;
use simplenet_kernels::cuda::maps::MapMaker;
use simplenet_kernels::cuda::{Buffer, Math, Matrix, gemm, noise};
use simplenet_kernels::gemm::Accumulate;
use simplenet_kernels::noise::NoiseKey;
use simplenet_report::Benchmark;

use super::run::Bench;
use super::time::on_device;
use crate::bench::measure::Timing;

/// Side of the large product, and of the one that only shows that it runs.
const SIDES: [usize; 2] = [8192, 512];
/// Bytes of the large copy, and of the other.
const COPIED: [usize; 2] = [2 << 30, 16 << 20];

/// A copy within device memory and a large matrix product of random values, in bf16, TF32 and f32.
pub(super) fn ceilings(bench: &mut Bench) -> Result<()> {
    let gpu = bench.gpu.clone();
    let rounds = (bench.rounds / 5).max(5);
    let is_quick = usize::from(bench.rounds < 50);
    let (bytes, side) = (COPIED[is_quick], SIDES[is_quick]);
    let (from, to): (Buffer<f32>, Buffer<f32>) = (gpu.zeros(bytes / 4)?, gpu.zeros(bytes / 4)?);
    noise::fill_normal(&gpu, from.all(), NoiseKey { seed: 1, stream: 1 }, 1.0)?;
    let timing = on_device(&gpu, rounds, || Ok(gpu.copy(to.all(), from.all())?))?;
    let copy = Benchmark {
        // Read once and written once.
        model: format!("{} MiB within the device", bytes >> 20),
        ..bench.row("copy", "bytes", 1)
    };
    bench.push(vec![timing.fill(copy)])?;
    drop((from, to));

    let wide: [Buffer<f32>; 2] = [gpu.zeros(side * side)?, gpu.zeros(side * side)?];
    let narrow: [Buffer<bf16>; 2] = [gpu.zeros(side * side)?, gpu.zeros(side * side)?];
    for (stream, (wide, narrow)) in wide.iter().zip(&narrow).enumerate() {
        let key = NoiseKey {
            seed: 2,
            stream: stream as u64,
        };
        noise::fill_normal(&gpu, wide.all(), key, 1.0)?;
        noise::standardize(&gpu, wide.all(), 1, None, narrow.all())?;
    }
    let out: Buffer<f32> = gpu.zeros(side * side)?;
    let narrow_out: Buffer<bf16> = gpu.zeros(side * side)?;
    let gflop = 2.0 * (side as f64).powi(3) / 1e9;
    for precision in ["bf16", "tf32", "f32"] {
        let timing = on_device(&gpu, rounds, || {
            let overwrite = Accumulate::Overwrite;
            if precision == "bf16" {
                let [a, b] = [&narrow[0], &narrow[1]].map(|buffer| Matrix::new(buffer.all(), side, side));
                gemm(
                    &gpu,
                    Math::F32,
                    a?,
                    b?.t(),
                    Matrix::new(narrow_out.all(), side, side)?,
                    overwrite,
                )?;
            } else {
                let math = if precision == "tf32" { Math::Tf32 } else { Math::F32 };
                let [a, b] = [&wide[0], &wide[1]].map(|buffer| Matrix::new(buffer.all(), side, side));
                gemm(&gpu, math, a?, b?.t(), Matrix::new(out.all(), side, side)?, overwrite)?;
            }
            Ok(())
        })?;
        let row = timing.fill(Benchmark {
            model: format!("{side}×{side}×{side}, cuBLAS"),
            gflop: Some(gflop),
            peak_gflops: None,
            ..bench.row("matrix product", precision, 1)
        });
        bench.peaks.insert(precision, gflop / row.best_ms * 1e3);
        bench.push(vec![row])?;
    }
    Ok(())
}

/// Patches of an image, and channels, in the paper.
const PATCHES: usize = 784;
const DIM: usize = 1536;
const HIDDEN: usize = 1024;
const BATCH: usize = 4;

/// Training steps at the paper's size, as an epoch runs them: one after the other, without waiting in between.
pub(super) fn steps(bench: &mut Bench) -> Result<()> {
    let gpu = bench.gpu.clone();
    // Ten steps' worth of images, so that a step does not find its features in the cache.
    let bank = DeviceBank::new(&gpu, 10 * BATCH, PATCHES, DIM)?;
    noise::fill_normal(&gpu, bank.slot(0, bank.images()), NoiseKey { seed: 3, stream: 0 }, 0.3)?;
    for (products, name) in [
        (Products::Bf16, "bf16"),
        (Products::Tf32, "tf32"),
        (Products::F32, "f32"),
    ] {
        let timing = match products {
            Products::Bf16 => epochs::<bf16>(bench, &bank, products)?,
            _ => epochs::<f32>(bench, &bank, products)?,
        };
        let rows = (BATCH * PATCHES) as f64;
        let (dim, hidden) = (DIM as f64, HIDDEN as f64);
        let row = Benchmark {
            model: format!("{DIM} to {HIDDEN}, {} patches", BATCH * PATCHES),
            weights: "random".into(),
            // As autograd computes it: see simplenet_heads::Step.
            gflop: Some(2.0 * (6.0 * rows * hidden * dim + 2.0 * rows * dim * dim) / 1e9),
            ..bench.row("training step", name, BATCH)
        };
        bench.push(vec![timing.fill(row)])?;
    }
    Ok(())
}

fn epochs<T: Product>(bench: &Bench, bank: &DeviceBank, products: Products) -> Result<Timing> {
    let config = HeadConfig {
        dim: DIM,
        hidden: HIDDEN,
        adaptor: Adaptor::Linear { bias: false },
    };
    let optimizer = |learning_rate| Optimizer {
        rule: Rule::Adam,
        learning_rate,
        weight_decay: 1e-5,
    };
    let train: TrainConfig = training(optimizer(1e-4), optimizer(2e-4));
    let head = DeviceHead::upload(&bench.gpu, &Head::new(config, 0)?)?;
    let mut step = DeviceStep::<T>::new(&head, bank, &train, products.math(), 0)?;
    let order: Vec<usize> = (0..bank.images()).collect();
    let steps = bank.images() / BATCH;
    let mut times = Vec::new();
    for round in 0..bench.rounds + 3 {
        step.begin_epoch(&order)?;
        let start = bench.gpu.record_event()?;
        for _ in 0..steps {
            step.run(BATCH)?;
        }
        let end = bench.gpu.record_event()?;
        let milliseconds = start.milliseconds_to(&end)? / steps as f64;
        if round >= 3 {
            times.push(Duration::from_secs_f64(milliseconds / 1e3));
        }
    }
    Ok(Timing::of(times))
}

fn training(adaptor_optimizer: Optimizer, discriminator_optimizer: Optimizer) -> TrainConfig {
    TrainConfig {
        epochs: 1,
        batch_images: BATCH,
        noise: 0.015,
        loss: Loss::TruncatedL1 {
            positive_margin: 0.5,
            negative_margin: -0.5,
        },
        adaptor_optimizer,
        discriminator_optimizer,
        precision: simplenet_backbone::Precision::F32,
    }
}

/// Maps of a test set: 83 grids of 28 × 28 scores to 224 × 224 pixels, smoothed with σ = 4, and the image scores.
pub(super) fn maps(bench: &mut Bench) -> Result<()> {
    const IMAGES: usize = 83;
    let gpu = bench.gpu.clone();
    let scores: Buffer<f32> = gpu.zeros(IMAGES * 28 * 28)?;
    noise::fill_normal(&gpu, scores.all(), NoiseKey { seed: 4, stream: 0 }, 1.0)?;
    let maps: Buffer<f32> = gpu.zeros(IMAGES * 224 * 224)?;
    let images: Buffer<f32> = gpu.zeros(IMAGES)?;
    let maker = MapMaker::new(&gpu, [28, 28], [224, 224], 4.0)?;
    let timing = on_device(&gpu, bench.rounds, || {
        Ok(maker.run(&gpu, scores.all(), maps.all(), images.all())?)
    })?;
    let row = Benchmark {
        model: "28×28 to 224×224, σ = 4".into(),
        ..bench.row("maps", "f32", IMAGES)
    };
    bench.push(vec![timing.fill(row)])
}
