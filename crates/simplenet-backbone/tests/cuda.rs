//! Patch features of whole backbones on a GPU against those of the processor. Without a GPU they say that they are skipped;
//! with `SIMPLENET_REQUIRE_GPU=1` that is a failure.

#![expect(clippy::print_stdout, reason = "the distances are results")]

#[expect(dead_code, reason = "what other tests need")]
mod common;
#[path = "../../simplenet-kernels/tests/gpu/mod.rs"]
mod gpu;

use gpu::gpu;
use simplenet_backbone::{Arch, Backbone, Embedding, Extractor, FeatureConfig, GpuExtractor, Precision, Stage};
use simplenet_kernels::cuda::{Buffer, Products};

const MEAN: Embedding = Embedding::Mean;
const CODE: Embedding = Embedding::Code {
    pretrain_dim: 1024,
    target_dim: 1536,
};

fn backbone(arch: Arch) -> Backbone {
    match arch {
        Arch::EfficientNetLite0 => Backbone::embedded(arch, Stage::Layer3).expect("the embedded backbone"),
        _ => {
            let checkpoint = common::checkpoint(&common::resnet(arch, Stage::Layer3));
            Backbone::from_checkpoint(arch, &checkpoint, Stage::Layer3).expect("a network")
        }
    }
}

/// L2 distance relative to the expected values.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let pairs = || found.iter().zip(expected).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let difference: f64 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
    let norm: f64 = pairs().map(|(_, b)| b * b).sum();
    let distance = (difference / norm).sqrt();
    if distance.is_nan() { f64::INFINITY } else { distance }
}

#[test]
fn features_are_those_of_the_processor() {
    let Some(gpu) = gpu() else { return };
    let stages = vec![Stage::Layer2, Stage::Layer3];
    for (arch, embedding, [n, h, w]) in [
        (Arch::EfficientNetLite0, MEAN, [2, 224, 224]),
        (Arch::EfficientNetLite0, MEAN, [1, 129, 200]),
        (Arch::ResNet18, MEAN, [3, 224, 224]),
        (Arch::ResNet18, CODE, [2, 97, 130]),
        (Arch::WideResNet50_2, MEAN, [1, 224, 224]),
        (Arch::WideResNet50_2, CODE, [2, 96, 64]),
    ] {
        let backbone = backbone(arch);
        let config = FeatureConfig {
            stages: stages.clone(),
            patch: 3,
            embedding,
        };
        let shape = [n, 3, h, w];
        let images = common::input(shape.iter().product());
        let host = Extractor::new(&backbone, config.clone(), Precision::F32).expect("an extractor");
        let expected = host.extract(&images, shape).expect("features");
        // TF32 rounds activations of every layer to 11 bits, bf16 to 8.
        for (products, tolerance) in [(Products::F32, 1e-4), (Products::Tf32, 2e-3), (Products::Bf16, 3e-2)] {
            let extractor = GpuExtractor::new(&backbone, config.clone(), &gpu, products).expect("an extractor");
            let rows: Buffer<f32> = gpu.zeros(expected.data.len()).expect("room");
            for run in 0..2 {
                extractor.extract(&images, shape, rows.all()).expect("features");
                let found = gpu.download(rows.all()).expect("a download");
                let distance = distance(&found, &expected.data);
                println!("{arch} {products:?} {embedding:?} {n}×{h}×{w}: relative distance {distance:.2e}");
                assert!(distance < tolerance, "{arch} {products:?} run {run}: {distance:e}");
            }
        }
    }
}
