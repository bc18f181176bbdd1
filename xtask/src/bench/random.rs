//! A ResNet with random weights, for timings where there are no pretrained ones: the time does not depend on them. And pictures
//! as noisy as a camera's.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use simplenet_backbone::Arch;
use simplenet_kernels::noise::{NoiseKey, fill_normal};
use simplenet_report::file::write_atomic;

/// Of the weights.
const SEED: u64 = 0;

/// How rows call these weights.
pub(crate) const NAME: &str = "random, He et al. 2015";

/// A convolution: name, outputs, inputs, kernel, factor on its standard deviation.
struct Layer(String, usize, usize, usize, f32);

/// Writes weights from the stem to layer3 of `arch` into `folder`, under torchvision's names with batch normalisation
/// folded, unless they are there; returns the file. Every weight has variance 2 / inputs (He et al. 2015); those that end a
/// residual block a sixteenth of it, because there is no batch normalisation to keep the sum of the blocks small.
pub(crate) fn weights(arch: Arch, folder: &Path) -> Result<PathBuf> {
    let path = folder.join(format!("{arch}.random-{SEED}.safetensors"));
    if path.is_file() {
        return Ok(path);
    }
    std::fs::create_dir_all(folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
    let mut header = Map::new();
    let mut data: Vec<u8> = Vec::new();
    for (index, Layer(name, outputs, inputs, kernel, factor)) in layers(arch)?.into_iter().enumerate() {
        let mut weight = vec![0.0; outputs * inputs * kernel * kernel];
        let sigma = factor * (2.0 / (inputs * kernel * kernel) as f32).sqrt();
        let stream = index as u64;
        fill_normal(&mut weight, NoiseKey { seed: SEED, stream }, 0, sigma);
        let mut add = |tensor: &str, shape: Vec<usize>, values: &[f32]| {
            let begin = data.len();
            data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()] });
            header.insert(format!("{name}.{tensor}"), entry);
        };
        add("weight", vec![outputs, inputs, kernel, kernel], &weight);
        add("bias", vec![outputs], &vec![0.0; outputs]);
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    write_atomic(&path, &file)?;
    Ok(path)
}

/// The image at another side, with the grain of a sensor: a smooth enlargement would decode too fast.
pub(crate) fn enlarged(image: &image::RgbImage, side: u32) -> image::RgbImage {
    if image.dimensions() == (side, side) {
        return image.clone();
    }
    let mut large = image::imageops::resize(image, side, side, image::imageops::FilterType::Triangle);
    let mut state = 1_u32;
    for value in large.iter_mut() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = value.saturating_add((state >> 30) as u8);
    }
    large
}

/// The convolutions of torchvision's ResNets from the stem to layer3.
fn layers(arch: Arch) -> Result<Vec<Layer>> {
    let (blocks, bottleneck, width) = match arch {
        Arch::ResNet18 => ([2, 2, 2], false, 64),
        Arch::ResNet34 => ([3, 4, 6], false, 64),
        Arch::ResNet50 => ([3, 4, 6], true, 64),
        Arch::ResNet101 => ([3, 4, 23], true, 64),
        Arch::WideResNet50_2 => ([3, 4, 6], true, 128),
        Arch::EfficientNetLite0 => bail!("`{arch}` is in this program and needs no random weights"),
    };
    let mut layers = vec![Layer("conv1".into(), 64, 3, 7, 1.0)];
    let mut inputs = 64;
    for (index, blocks) in blocks.into_iter().enumerate() {
        let (outputs, width) = (arch.describe().channels[index], width << index);
        for block in 0..blocks {
            let mut add = |part: &str, outputs, inputs, kernel, factor| {
                let name = format!("layer{}.{block}.{part}", index + 1);
                layers.push(Layer(name, outputs, inputs, kernel, factor));
            };
            match bottleneck {
                true => {
                    add("conv1", width, inputs, 1, 1.0);
                    add("conv2", width, width, 3, 1.0);
                    add("conv3", outputs, width, 1, 0.25);
                }
                false => {
                    add("conv1", outputs, inputs, 3, 1.0);
                    add("conv2", outputs, outputs, 3, 0.25);
                }
            }
            if block == 0 && (index > 0 || inputs != outputs) {
                add("downsample.0", outputs, inputs, 1, 1.0);
            }
            inputs = outputs;
        }
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use simplenet_backbone::{Backbone, Stage};

    use super::*;

    #[test]
    fn random_weights_are_a_checkpoint_of_every_resnet() {
        let folder = tempfile::tempdir().unwrap();
        for arch in [Arch::ResNet18, Arch::ResNet50] {
            let path = weights(arch, folder.path()).unwrap();
            let backbone = Backbone::load(arch, &path, Stage::Layer3).unwrap();
            assert_eq!(backbone.taps().len(), 3);
            assert_eq!(weights(arch, folder.path()).unwrap(), path);
        }
        assert!(weights(Arch::EfficientNetLite0, folder.path()).is_err());
    }
}
