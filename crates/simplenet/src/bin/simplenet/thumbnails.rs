//! Small pictures of images for a page that needs no other file: as they are, and under their anomaly maps.

use std::collections::BTreeMap;

use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, RgbImage};
use simplenet::{Detector, Rgb8, open_upright};

use crate::picture;

/// The longer side of a picture, in pixels.
const SIDE: u32 = 240;
/// A picture has some 10 kB.
const QUALITY: u8 = 85;

/// Of every image that can be read the sources of its two pictures, as `src` of HTML takes them.
pub(crate) fn of<'a>(detector: &Detector, files: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, [String; 2]> {
    // Whoever judged them has said why one cannot be read; here it has no picture.
    files
        .filter_map(|file| Some((file, pair(detector, file).ok()?)))
        .collect()
}

fn pair(detector: &Detector, file: &str) -> Result<[String; 2]> {
    let image = open_upright(file)?;
    let prediction = detector.predict(&image)?;
    let calibration = &detector.card().calibration;
    let range = [calibration.typical_pixel, calibration.pixel_threshold];
    let heatmap = picture::heatmap(&image, &prediction.map, range)?;
    Ok([source(&picture_of(image)?)?, source(&heatmap)?])
}

fn picture_of(image: Rgb8) -> Result<DynamicImage> {
    let (width, height) = (u32::try_from(image.width())?, u32::try_from(image.height())?);
    let pixels = RgbImage::from_raw(width, height, image.into_data());
    Ok(pixels.unwrap_or_default().into())
}

fn source(picture: &DynamicImage) -> Result<String> {
    let small = picture.resize(SIDE, SIDE, FilterType::Triangle);
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(&small)?;
    Ok(format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(bytes)))
}
