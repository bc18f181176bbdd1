//! Small pictures of images for a page that needs no other file: as they are, and under their anomaly maps.

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, Rgb, RgbImage};
use simplenet::{Detector, Prediction, Rgb8, is_upright, open_upright};
use simplenet_data::{Gray8, MaskRule, Sample, open_mask};

use crate::picture;

/// The longer side of a picture, in pixels.
const SIDE: u32 = 400;
/// A picture has some 20 kB.
const QUALITY: u8 = 85;
/// A line around what a mask marks: no colour of a map, and a dark rim, as it may lie on anything.
const LINE: Rgb<u8> = Rgb([0, 200, 255]);
const LINE_WIDTH: usize = 2;
const RIM: Rgb<u8> = Rgb([0, 40, 60]);
const RIM_WIDTH: usize = 1;

/// The sources of an image's two pictures, as `src` of HTML takes them.
pub(crate) fn pair(detector: &Detector, image: &Rgb8, prediction: &Prediction) -> Result<[String; 2]> {
    let [image, heatmap] = small(detector, image, prediction)?;
    Ok([source(&image)?, source(&heatmap)?])
}

/// The same of a labelled image, with a line around what its mask marks.
pub(crate) fn labelled(detector: &Detector, sample: &Sample) -> Result<[String; 2]> {
    let image = open_upright(sample.source.path())?;
    let mut pictures = small(detector, &image, &detector.predict(&image)?)?;
    let rule = detector.config().model.evaluate.mask;
    // Of one that does not fit the evaluation has spoken. On an image that is turned masks lie on the pixels as stored.
    if is_upright(sample.source.path())?
        && let Ok(Some(mask)) = open_mask(sample, rule)
    {
        for picture in &mut pictures {
            outline(picture, &mask, rule);
        }
    }
    Ok([source(&pictures[0])?, source(&pictures[1])?])
}

fn small(detector: &Detector, image: &Rgb8, prediction: &Prediction) -> Result<[RgbImage; 2]> {
    let calibration = &detector.card().calibration;
    let range = [calibration.typical_pixel, calibration.pixel_threshold];
    let heatmap = picture::heatmap(image, &prediction.map, range)?;
    let (width, height) = (u32::try_from(image.width())?, u32::try_from(image.height())?);
    let pixels = RgbImage::from_raw(width, height, image.data().to_vec());
    let image = DynamicImage::from(pixels.context("an image has not as many bytes as its size says")?);
    Ok([image, heatmap].map(|picture| picture.resize(SIDE, SIDE, FilterType::Triangle).into_rgb8()))
}

/// Draws a line around what a mask marks, outside of it so that nothing of it is hidden.
fn outline(picture: &mut RgbImage, mask: &Gray8, rule: MaskRule) {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    // A pixel of the picture is marked where one of those is that it stands for: the smallest defect is no smaller than one.
    let span = |at: usize, of: usize, pixels: usize| at * pixels / of..((at + 1) * pixels).div_ceil(of);
    let is_marked = |x: usize, y: usize| {
        let columns = span(x, width, mask.width());
        span(y, height, mask.height()).any(|row| {
            let row = &mask.data()[row * mask.width()..][columns.clone()];
            row.iter().any(|&value| rule.is_defect(value))
        })
    };
    let marked: Vec<bool> = (0..width * height)
        .map(|pixel| is_marked(pixel % width, pixel / width))
        .collect();
    let reach = LINE_WIDTH + RIM_WIDTH;
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let (x, y) = (x as usize, y as usize);
        let near = |distance: usize| {
            let rows = y.saturating_sub(distance)..(y + distance + 1).min(height);
            let columns = x.saturating_sub(distance)..(x + distance + 1).min(width);
            rows.into_iter()
                .any(|row| marked[row * width..][columns.clone()].contains(&true))
        };
        if near(reach) && !marked[y * width + x] {
            *pixel = if near(LINE_WIDTH) { LINE } else { RIM };
        }
    }
}

fn source(picture: &RgbImage) -> Result<String> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(picture)?;
    Ok(format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(bytes)))
}
