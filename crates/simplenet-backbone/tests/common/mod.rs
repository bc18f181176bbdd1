//! Networks whose weights follow a rule, so that no file of weights is needed.
//!
//! The rule is the one behind golden/resnet_rule.safetensors: FNV-1a of the tensor's torchvision name, mixed with the
//! index (murmur3's finaliser), mapped to [-1, 1).

use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use simplenet_backbone::{Arch, Checkpoint, Stage};

pub(crate) type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

/// Value `index` of the tensor `name`, in [-1, 1).
fn raw(name: &str, count: usize) -> Vec<f32> {
    let hash = name.bytes().fold(0x811C_9DC5u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let first = hash.wrapping_add(7u32.wrapping_mul(0x9E37_79B9));
    let value = |index: u32| {
        let mut x = first.wrapping_add(index.wrapping_mul(0x9E37_79B1));
        x ^= x >> 16;
        x = x.wrapping_mul(0x85EB_CA6B);
        x ^= x >> 13;
        x = x.wrapping_mul(0xC2B2_AE35);
        x ^= x >> 16;
        (x >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count as u32).map(value).collect()
}

/// The input image of the rule.
pub(crate) fn input(count: usize) -> Vec<f32> {
    raw("input", count).into_iter().map(|v| 2.0 * v).collect()
}

/// All tensors of a ResNet up to `last`, with batch normalisation, under torchvision's names.
pub(crate) fn resnet(arch: Arch, last: Stage) -> Tensors {
    let (blocks, width, expansion) = match arch {
        Arch::ResNet18 => ([2, 2, 2, 2], 64, 1),
        Arch::ResNet34 => ([3, 4, 6, 3], 64, 1),
        Arch::ResNet50 => ([3, 4, 6, 3], 64, 4),
        Arch::ResNet101 => ([3, 4, 23, 3], 64, 4),
        Arch::WideResNet50_2 => ([3, 4, 6, 3], 128, 4),
        Arch::EfficientNetLite0 => panic!("not a ResNet"),
    };
    let mut tensors = Tensors::new();
    let mut pair = |conv: String, norm: String, shape: [usize; 4]| {
        let fan_in: usize = shape[1..].iter().product();
        let scale = (3.0 / fan_in as f64).sqrt() as f32;
        let mut push = |name: String, shape: &[usize], map: &dyn Fn(f32) -> f32| {
            let values = raw(&name, shape.iter().product()).into_iter().map(map).collect();
            tensors.push((name, shape.to_vec(), values));
        };
        push(format!("{conv}.weight"), &shape, &|v| v * scale);
        push(format!("{norm}.weight"), &shape[..1], &|v| 1.0 + 0.25 * v);
        push(format!("{norm}.bias"), &shape[..1], &|v| 0.125 * v);
        push(format!("{norm}.running_mean"), &shape[..1], &|v| 0.125 * v);
        push(format!("{norm}.running_var"), &shape[..1], &|v| 1.0 + 0.5 * v);
    };
    pair("conv1".into(), "bn1".into(), [64, 3, 7, 7]);
    let mut channels = 64;
    for (stage, blocks) in blocks.into_iter().enumerate().take(last as usize + 1) {
        let (planes, mid) = (64 << stage, width << stage);
        let out = planes * expansion;
        for block in 0..blocks {
            let name = format!("layer{}.{block}", stage + 1);
            let convs = match expansion {
                1 => vec![[planes, channels, 3, 3], [planes, planes, 3, 3]],
                _ => vec![[mid, channels, 1, 1], [mid, mid, 3, 3], [out, mid, 1, 1]],
            };
            for (at, shape) in convs.into_iter().enumerate() {
                pair(format!("{name}.conv{}", at + 1), format!("{name}.bn{}", at + 1), shape);
            }
            if block == 0 && (stage > 0 || channels != out) {
                let shape = [out, channels, 1, 1];
                pair(format!("{name}.downsample.0"), format!("{name}.downsample.1"), shape);
            }
            channels = out;
        }
    }
    tensors
}

/// A `.safetensors` file of f32.
pub(crate) fn safetensors(tensors: &Tensors) -> Vec<u8> {
    encode(tensors, Dtype::F32, |value| value.to_le_bytes().to_vec())
}

/// A `.safetensors` file of another type.
pub(crate) fn encode(tensors: &Tensors, dtype: Dtype, bytes: impl Fn(f32) -> Vec<u8>) -> Vec<u8> {
    let data: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, values)| values.iter().flat_map(|v| bytes(*v)).collect())
        .collect();
    let views = tensors
        .iter()
        .zip(&data)
        .map(|((name, shape, _), data)| (name.clone(), TensorView::new(dtype, shape.clone(), data).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

pub(crate) fn checkpoint(tensors: &Tensors) -> Checkpoint {
    Checkpoint::from_bytes(Path::new("rule.safetensors"), safetensors(tensors)).unwrap()
}

/// `|found - expected| <= absolute + relative * max |expected|`
#[track_caller]
pub(crate) fn assert_close(what: &str, found: &[f32], expected: &[f32], absolute: f32, relative: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let tolerance = absolute + relative * largest;
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance,
            "{what}, at {at}: {found}, expected {expected} ± {tolerance}"
        );
    }
}
