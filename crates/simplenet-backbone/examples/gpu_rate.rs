//! Milliseconds of WideResNet-50-2 to layer3 on a GPU, network alone and with the patch embedding, at several batches.
//!
//! `gpu_rate [BATCH...]`; with a profiler around it (`ncu`), one batch and `ONCE=1` show every launch once.
#![expect(clippy::print_stdout, reason = "it is a measurement")]

#[path = "../tests/common/mod.rs"]
#[expect(dead_code, reason = "what tests need")]
mod common;

use simplenet_backbone::{Arch, Backbone, Embedding, FeatureConfig, GpuExtractor, Stage};
use simplenet_kernels::cuda::{Buffer, DeviceError, Gpu, Products};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut batches: Vec<usize> = std::env::args()
        .skip(1)
        .map(|batch| batch.parse())
        .collect::<Result<_, _>>()?;
    if batches.is_empty() {
        batches = vec![1, 8, 64];
    }
    let rounds = if std::env::var_os("ONCE").is_some() { 0 } else { 50 };
    let gpu = Gpu::new(0)?;
    let checkpoint = common::checkpoint(&common::resnet(Arch::WideResNet50_2, Stage::Layer3));
    let backbone = Backbone::from_checkpoint(Arch::WideResNet50_2, &checkpoint, Stage::Layer3)?;
    let config = FeatureConfig {
        stages: vec![Stage::Layer2, Stage::Layer3],
        patch: 3,
        embedding: Embedding::Mean,
    };
    for products in [Products::Bf16, Products::Tf32, Products::F32] {
        let extractor = GpuExtractor::new(&backbone, config.clone(), &gpu, products)?;
        for &batch in &batches {
            let shape = [batch, 3, 224, 224];
            let images = common::input(shape.iter().product());
            let rows: Buffer<f32> = gpu.zeros(batch * 784 * extractor.dim())?;
            extractor.extract(&images, shape, rows.all())?;
            gpu.synchronize()?;
            if rounds == 0 {
                continue;
            }
            let network = median(&gpu, rounds, || extractor.network().rerun(shape, |_| Ok(())))?;
            let features = median(&gpu, rounds, || {
                extractor.extract_again(shape, rows.all()).map_err(DeviceError::wrap)
            })?;
            let gflop = 2.0 * backbone.graph().macs(shape)? as f64 / 1e9;
            println!(
                "{products:?} batch {batch}: network {network:.3} ms ({:.0} TFLOP/s), with embedding {features:.3} ms, {:.0} images/s",
                gflop / network,
                batch as f64 / features * 1e3
            );
        }
    }
    Ok(())
}

fn median(gpu: &Gpu, rounds: usize, mut work: impl FnMut() -> Result<(), DeviceError>) -> Result<f64, DeviceError> {
    (0..5).try_for_each(|_| work())?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        gpu.synchronize()?;
        let start = gpu.record_event()?;
        work()?;
        let end = gpu.record_event()?;
        times.push(start.milliseconds_to(&end)?);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[rounds / 2])
}
