use rayon::prelude::*;

use crate::mask::{self, MaskRule};
use crate::resize::{Window, resize_window};
use crate::{Error, Image8, Result, Rgb8, Sample};

/// How an image becomes the network's input: the shorter side is resized to `resize`, a square of `crop` is cut from
/// the centre, and each channel `c` becomes `(value / 255 - mean[c]) / std[c]`.
///
/// This is `Resize`, `CenterCrop`, `ToTensor` and `Normalize` of torchvision on a Pillow image, bit for bit, as
/// `datasets/mvtec.py` of the authors' code composes them. Mean and deviation belong to the backbone's weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    resize: usize,
    crop: usize,
    mean: [f32; 3],
    std: [f32; 3],
    /// The normalised value of every byte, per channel.
    table: [[f32; 256]; 3],
}

impl Preprocess {
    /// Fails when `crop` is 0 or larger than `resize`, when a mean is not finite, or a deviation not above 0.
    pub fn new(resize: usize, crop: usize, mean: [f32; 3], std: [f32; 3]) -> Result<Preprocess> {
        let refuse = |reason: String| Err(Error::Preprocess { reason });
        if crop == 0 || crop > resize {
            return refuse(format!(
                "the crop must be 1 to {resize}, the size of the resized side, and is {crop}"
            ));
        }
        if resize > MAX_RESIZE {
            return refuse(format!(
                "the resized side must be at most {MAX_RESIZE}, and is {resize}"
            ));
        }
        if mean.iter().any(|mean| !mean.is_finite()) {
            return refuse(format!("the mean must be finite and is {mean:?}"));
        }
        if std.iter().any(|std| !(std.is_finite() && *std > 0.0)) {
            return refuse(format!(
                "the standard deviation must be finite and above 0 and is {std:?}"
            ));
        }
        let table = std::array::from_fn(|channel| {
            std::array::from_fn(|value| (value as f32 / 255.0 - mean[channel]) / std[channel])
        });
        Ok(Preprocess {
            resize,
            crop,
            mean,
            std,
            table,
        })
    }

    /// Size that the shorter side is resized to.
    pub fn resize(&self) -> usize {
        self.resize
    }

    /// Side of the square that is cut out: the network's input is `[3, crop, crop]`.
    pub fn crop(&self) -> usize {
        self.crop
    }

    /// Mean per channel that is taken off, on the scale 0 to 1.
    pub fn mean(&self) -> [f32; 3] {
        self.mean
    }

    /// Standard deviation per channel that is divided by, on the scale 0 to 1.
    pub fn std(&self) -> [f32; 3] {
        self.std
    }

    /// Number of values in one prepared image: `3 * crop * crop`.
    pub fn input_len(&self) -> usize {
        3 * self.crop * self.crop
    }

    /// The network's input `[3, crop, crop]` of one image.
    pub fn apply(&self, image: &Rgb8) -> Vec<f32> {
        let mut planes = vec![0.0; self.input_len()];
        self.apply_into(image, &mut planes);
        planes
    }

    /// A part of the image or mask resized to `width × height`, as bytes; computed from the pixels that it depends on.
    ///
    /// Fails where `window` has no pixels or does not lie in the resized image.
    pub fn window<const CHANNELS: usize>(
        &self,
        image: &Image8<CHANNELS>,
        [width, height]: [usize; 2],
        window: Window,
    ) -> Result<Image8<CHANNELS>> {
        let fits = |start: usize, length: usize, all: usize| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= all)
        };
        if !(fits(window.x, window.width, width) && fits(window.y, window.height, height)) {
            return Err(Error::Preprocess {
                reason: format!("the part {window:?} does not lie in the resized image of {width} x {height}"),
            });
        }
        Ok(resize_window(image, width, height, window))
    }

    /// The network's input `[3, height, width]` of pixels that are resized already.
    pub fn normalise(&self, pixels: &Rgb8) -> Vec<f32> {
        let mut planes = vec![0.0; pixels.data().len()];
        self.normalise_into(pixels, &mut planes);
        planes
    }

    /// The resized and cropped image or mask, `crop` x `crop`, as bytes: for display, and for [`MaskRule`].
    pub fn crop_image<const CHANNELS: usize>(&self, image: &Image8<CHANNELS>) -> Image8<CHANNELS> {
        let (width, height) = resized_size(image.width(), image.height(), self.resize);
        let (x, y) = (centre_offset(width, self.crop), centre_offset(height, self.crop));
        resize_window(
            image,
            width,
            height,
            Window {
                x,
                y,
                width: self.crop,
                height: self.crop,
            },
        )
    }

    fn apply_into(&self, image: &Rgb8, planes: &mut [f32]) {
        self.normalise_into(&self.crop_image(image), planes);
    }

    fn normalise_into(&self, pixels: &Rgb8, planes: &mut [f32]) {
        let pixels = pixels.data().as_chunks::<3>().0;
        for (channel, plane) in planes.chunks_exact_mut(pixels.len()).enumerate() {
            let table = &self.table[channel];
            for (out, pixel) in plane.iter_mut().zip(pixels) {
                *out = table[usize::from(pixel[channel])];
            }
        }
    }
}

/// Beyond this the memory for one prepared image would pass 3 GiB.
const MAX_RESIZE: usize = 1 << 14;

/// Width and height after resizing the shorter side: the longer one is truncated, as in torchvision's `Resize(int)`.
pub fn resized_size(width: usize, height: usize, shorter: usize) -> (usize, usize) {
    let longer = |long: usize, short: usize| (shorter as u64 * long as u64 / short as u64) as usize;
    if width <= height {
        (shorter, longer(height, width))
    } else {
        (longer(width, height), shorter)
    }
}

/// Where a centred crop begins: `(size - crop) / 2`, halves to the even number, as in torchvision's `CenterCrop`.
pub fn centre_offset(size: usize, crop: usize) -> usize {
    let (half, odd) = ((size - crop) / 2, (size - crop) % 2);
    half + odd * (half % 2)
}

/// Decodes and prepares `samples` on all threads: `[samples, 3, crop, crop]`, in their order.
///
/// Fails with the error of the first sample, in order, that cannot be decoded.
pub fn load_images(samples: &[Sample], preprocess: &Preprocess) -> Result<Vec<f32>> {
    let mut images = vec![0.0; samples.len() * preprocess.input_len()];
    let outcomes: Vec<Result<()>> = images
        .par_chunks_exact_mut(preprocess.input_len())
        .zip(samples)
        .map(|(planes, sample)| {
            preprocess.apply_into(&sample.source.decode()?, planes);
            Ok(())
        })
        .collect();
    outcomes.into_iter().collect::<Result<()>>()?;
    Ok(images)
}

/// Decodes and prepares the masks of `samples` on all threads: `[samples, crop, crop]`, in their order; `true` is
/// defect. A normal sample has none anywhere.
///
/// Fails with the error of the first sample, in order, whose mask is missing, cannot be decoded, is not of its image's
/// size, or could not mark anything under `rule`.
pub fn load_masks(samples: &[Sample], preprocess: &Preprocess, rule: MaskRule) -> Result<Vec<bool>> {
    let masks: Vec<Result<Vec<bool>>> = samples
        .par_iter()
        .map(|sample| mask::load(sample, preprocess, rule))
        .collect();
    let mut pixels = Vec::with_capacity(samples.len() * preprocess.crop * preprocess.crop);
    for mask in masks {
        pixels.extend(mask?);
    }
    Ok(pixels)
}
