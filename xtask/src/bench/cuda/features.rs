//! Images to patch rows: the network to layer3 and the embedding of layer2 and layer3, images and rows on the device.

use std::path::PathBuf;

use anyhow::Result;
use simplenet_backbone::{Arch, Backbone, Embedding, FeatureConfig, GpuExtractor, Stage};
use simplenet_kernels::cuda::{Buffer, Products};
use simplenet_kernels::noise::{NoiseKey, fill_normal};
use simplenet_report::Benchmark;

use super::run::Bench;
use super::time::on_device;
use crate::bench::random;

/// Side of an image, in pixels.
pub(super) const SIDE: usize = 224;

pub(super) fn run(bench: &mut Bench, given: &[(Arch, PathBuf)]) -> Result<()> {
    for arch in [Arch::WideResNet50_2, Arch::ResNet18, Arch::EfficientNetLite0] {
        let (weights, backbone) = network(bench, arch, given)?;
        for (products, name) in [
            (Products::Bf16, "bf16"),
            (Products::Tf32, "tf32"),
            (Products::F32, "f32"),
        ] {
            let extractor = GpuExtractor::new(&backbone, features(), &bench.gpu, products)?;
            for batch in [1, 8, 64] {
                let shape = [batch, 3, SIDE, SIDE];
                let [h, w] = extractor.config().grid(SIDE, SIDE);
                let rows: Buffer<f32> = bench.gpu.zeros(batch * h * w * extractor.dim())?;
                extractor.extract(&images(batch), shape, rows.all())?;
                // f32 runs on the vector units, and 64 images take long.
                let rounds = if products == Products::F32 {
                    bench.rounds / 5
                } else {
                    bench.rounds
                };
                let timing = on_device(&bench.gpu, rounds.max(5), || {
                    Ok(extractor.extract_again(shape, rows.all())?)
                })?;
                let network = on_device(&bench.gpu, rounds.max(5), || {
                    Ok(extractor.network().rerun(shape, |_| Ok(()))?)
                })?;
                let gflop = Some(2.0 * backbone.graph().macs(shape)? as f64 / 1e9);
                let row = |subject: &str| Benchmark {
                    model: format!("{arch} to layer3"),
                    weights: weights.clone(),
                    gflop,
                    ..bench.row(subject, name, batch)
                };
                let rows = vec![network.fill(row("backbone")), timing.fill(row("features"))];
                bench.push(rows)?;
            }
        }
    }
    Ok(())
}

/// As the paper's.
pub(super) fn features() -> FeatureConfig {
    FeatureConfig {
        stages: vec![Stage::Layer2, Stage::Layer3],
        patch: 3,
        embedding: Embedding::Mean,
    }
}

/// A network up to layer3 and where its weights come from.
pub(super) fn network(bench: &Bench, arch: Arch, given: &[(Arch, PathBuf)]) -> Result<(String, Backbone)> {
    if arch == Arch::EfficientNetLite0 {
        return Ok(("embedded".into(), Backbone::embedded(arch, Stage::Layer3)?));
    }
    let file = weights_file(bench, arch, given)?;
    let backbone = Backbone::load(arch, &file, Stage::Layer3)?;
    let weights = match given.iter().any(|(of, _)| *of == arch) {
        true => format!("sha256 {}", &backbone.identity()[..12]),
        false => random::NAME.into(),
    };
    Ok((weights, backbone))
}

/// The given checkpoint, or one of random weights.
pub(super) fn weights_file(bench: &Bench, arch: Arch, given: &[(Arch, PathBuf)]) -> Result<PathBuf> {
    match given.iter().find(|(of, _)| *of == arch) {
        Some((_, file)) => Ok(file.clone()),
        None => random::weights(arch, &bench.cache),
    }
}

/// Normalised images `[batch, 3, SIDE, SIDE]`: normal noise, as whitened pixels are.
pub(super) fn images(batch: usize) -> Vec<f32> {
    let mut images = vec![0.0; batch * 3 * SIDE * SIDE];
    fill_normal(&mut images, NoiseKey { seed: 1, stream: 0 }, 0, 1.0);
    images
}
