//! The backbones we know, by name, and what each expects and gives.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::BackboneError;

/// A backbone, named as in torchvision and timm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Arch {
    /// `resnet18` (He et al. 2016).
    ResNet18,
    /// `resnet34`.
    ResNet34,
    /// `resnet50`, with the stride in the 3×3 convolution as torchvision has it.
    ResNet50,
    /// `resnet101`.
    ResNet101,
    /// `wide_resnet50_2` (Zagoruyko & Komodakis 2016), the paper's backbone.
    WideResNet50_2,
    /// `efficientnet_lite0`, TensorFlow's: `SAME` padding, batch normalisation with an epsilon of 1e-3. timm calls it
    /// `tf_efficientnet_lite0`; timm's own `efficientnet_lite0` has the same tensor names, but other padding and epsilon.
    EfficientNetLite0,
}

/// A named output of a backbone, at stride 4, 8, 16 and 32.
///
/// ResNets have these names. EfficientNet-Lite0 has no layers; its analogues are the last block at each stride: blocks 2,
/// 4, 10 and 15, counted from 0 through the whole network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Stride 4.
    Layer1,
    /// Stride 8.
    Layer2,
    /// Stride 16.
    Layer3,
    /// Stride 32.
    Layer4,
}

/// What a backbone expects and gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Description {
    /// Channels of [`Stage::ALL`], in that order.
    pub channels: [usize; 4],
    /// The last stage that the embedded weights reach; `None` where the weights are not embedded.
    pub embedded: Option<Stage>,
    /// Subtracted from each RGB channel of an image in `0..=1`.
    pub mean: [f32; 3],
    /// Divides each channel after that.
    pub std: [f32; 3],
    /// Shorter side of an image before the crop, in pixels, as the weights were evaluated.
    pub resize: usize,
    /// Side of the central crop, in pixels.
    pub crop: usize,
    /// Repository of pretrained weights on the Hugging Face hub. For ResNets these are torchvision's first weights
    /// (`IMAGENET1K_V1`): the second set has another feature scale, to which the noise of SimpleNet does not fit.
    pub hub_repository: &'static str,
    /// File in that repository.
    pub hub_file: &'static str,
}

impl Arch {
    /// Every backbone.
    pub const ALL: [Arch; 6] = [
        Arch::ResNet18,
        Arch::ResNet34,
        Arch::ResNet50,
        Arch::ResNet101,
        Arch::WideResNet50_2,
        Arch::EfficientNetLite0,
    ];

    /// Its name in torchvision and timm.
    pub fn name(self) -> &'static str {
        match self {
            Arch::ResNet18 => "resnet18",
            Arch::ResNet34 => "resnet34",
            Arch::ResNet50 => "resnet50",
            Arch::ResNet101 => "resnet101",
            Arch::WideResNet50_2 => "wide_resnet50_2",
            Arch::EfficientNetLite0 => "efficientnet_lite0",
        }
    }

    /// What it expects and gives.
    pub fn describe(self) -> Description {
        let hub_repository = match self {
            Arch::ResNet18 => "timm/resnet18.tv_in1k",
            Arch::ResNet34 => "timm/resnet34.tv_in1k",
            Arch::ResNet50 => "timm/resnet50.tv_in1k",
            Arch::ResNet101 => "timm/resnet101.tv_in1k",
            Arch::WideResNet50_2 => "timm/wide_resnet50_2.tv_in1k",
            Arch::EfficientNetLite0 => "timm/tf_efficientnet_lite0.in1k",
        };
        let resnet = Description {
            channels: [256, 512, 1024, 2048],
            embedded: None,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            resize: 256,
            crop: 224,
            hub_repository,
            hub_file: "model.safetensors",
        };
        match self {
            Arch::ResNet50 | Arch::ResNet101 | Arch::WideResNet50_2 => resnet,
            Arch::ResNet18 | Arch::ResNet34 => Description {
                channels: [64, 128, 256, 512],
                ..resnet
            },
            // The weights were trained on (x - 127) / 128 of 0..=255, and not with ImageNet's mean and deviation.
            Arch::EfficientNetLite0 => Description {
                channels: [24, 40, 112, 320],
                embedded: Some(Stage::Layer3),
                mean: [127.0 / 255.0; 3],
                std: [128.0 / 255.0; 3],
                ..resnet
            },
        }
    }

    /// Channels of a stage.
    pub fn channels(self, stage: Stage) -> usize {
        self.describe().channels[stage as usize]
    }
}

impl Stage {
    /// Every stage, in the order they run.
    pub const ALL: [Stage; 4] = [Stage::Layer1, Stage::Layer2, Stage::Layer3, Stage::Layer4];

    /// Its name: `layer1` to `layer4`.
    pub fn name(self) -> &'static str {
        ["layer1", "layer2", "layer3", "layer4"][self as usize]
    }

    /// Pixels of the image per step of its grid; the grid of a side has `⌈side / stride⌉` positions.
    pub fn stride(self) -> usize {
        4 << self as usize
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Arch {
    type Err = BackboneError;

    fn from_str(name: &str) -> Result<Arch, BackboneError> {
        let known = Arch::ALL.into_iter().find(|arch| arch.name() == name);
        known.ok_or_else(|| BackboneError::UnknownArch(name.to_string()))
    }
}

impl FromStr for Stage {
    type Err = BackboneError;

    fn from_str(name: &str) -> Result<Stage, BackboneError> {
        let known = Stage::ALL.into_iter().find(|stage| stage.name() == name);
        known.ok_or_else(|| BackboneError::UnknownStage(name.to_string()))
    }
}

impl TryFrom<String> for Arch {
    type Error = BackboneError;

    fn try_from(name: String) -> Result<Arch, BackboneError> {
        name.parse()
    }
}

impl From<Arch> for String {
    fn from(arch: Arch) -> String {
        arch.name().to_string()
    }
}
