//! Images with their anomaly maps as JSON, for a browser that lets the reader choose the threshold.

use std::io::Cursor;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, GrayImage, ImageEncoder, ImageFormat};
use serde_json::json;

use crate::file::write_atomic;
use crate::sheet::check;
use crate::{Error, Result, SheetRow};

/// Of 100; the pictures are looked at, not measured.
const JPEG_QUALITY: u8 = 82;
/// A map is smooth, so every second pixel of every second row shows it.
const MAP_STEP: usize = 2;

/// One image of the browser.
#[derive(Clone, Copy, Debug)]
pub struct GalleryImage<'a> {
    /// The image, its map and its truth.
    pub row: SheetRow<'a>,
    /// Whether it should be found.
    pub anomalous: bool,
}

/// What the browser shows of a cell.
#[derive(Clone, Copy, Debug)]
pub struct Gallery<'a> {
    /// What it is called in the browser's list.
    pub title: &'a str,
    /// The pictures; the threshold of the first one's map is the one to begin with.
    pub images: &'a [GalleryImage<'a>],
    /// Image score from which an image is called defective, to begin with.
    pub image_threshold: f32,
    /// How many images they were taken from.
    pub taken_from: usize,
}

/// Writes a gallery that [`page`](crate::page) can show: photographs as JPEG, maps as 8-bit PNG of half the size between
/// the lowest and highest score of all of them.
///
/// # Errors
/// As [`sheet()`](crate::sheet()).
pub fn write(path: &Path, gallery: &Gallery<'_>) -> Result<()> {
    let Gallery { title, images, .. } = *gallery;
    let Some(first) = images.first() else {
        return Err(Error::Empty { what: title.to_owned() });
    };
    images.iter().try_for_each(|image| check(&image.row))?;
    let scores = || images.iter().flat_map(|image| image.row.map).copied();
    let (low, high) = (
        scores().fold(f32::INFINITY, f32::min),
        scores().fold(f32::NEG_INFINITY, f32::max),
    );
    let entries = images
        .iter()
        .map(|image| entry(image, low, high).map_err(|e| Error::drawing(title, e)))
        .collect::<Result<Vec<_>>>()?;
    let json = json!({
        "title": title,
        "pixel_threshold": first.row.threshold,
        "image_threshold": gallery.image_threshold,
        "taken_from": gallery.taken_from,
        "low": low,
        "high": high,
        "images": entries,
    });
    write_atomic(path, json.to_string().as_bytes())
}

fn entry(image: &GalleryImage<'_>, low: f32, high: f32) -> image::ImageResult<serde_json::Value> {
    let row = &image.row;
    let (width, height) = (row.image.width, row.image.height);
    let mut jpeg = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY);
    encoder.write_image(row.image.data, width as u32, height as u32, ExtendedColorType::Rgb8)?;
    let scale = if high > low { 255.0 / (high - low) } else { 0.0 };
    let (columns, rows) = (width.div_ceil(MAP_STEP), height.div_ceil(MAP_STEP));
    let map = GrayImage::from_fn(columns as u32, rows as u32, |x, y| {
        let score = row.map[y as usize * MAP_STEP * width + x as usize * MAP_STEP];
        image::Luma([((score - low) * scale).round() as u8])
    });
    let truth = row.truth.map(|truth| {
        GrayImage::from_fn(width as u32, height as u32, |x, y| {
            image::Luma([if truth[y as usize * width + x as usize] { 255 } else { 0 }])
        })
    });
    Ok(json!({
        "caption": row.caption,
        "file": row.file,
        "anomalous": image.anomalous,
        "score": row.score,
        "image": data_url("jpeg", &jpeg),
        "map": png(&map)?,
        "truth": truth.as_ref().map(png).transpose()?,
    }))
}

fn png(image: &GrayImage) -> image::ImageResult<String> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(data_url("png", &bytes.into_inner()))
}

/// The bytes of an image as an address that needs no file.
pub(crate) fn data_url(kind: &str, bytes: &[u8]) -> String {
    format!("data:image/{kind};base64,{}", STANDARD.encode(bytes))
}
