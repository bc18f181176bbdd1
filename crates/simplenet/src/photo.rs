//! Image files to upright pixels.

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};
use sha2::{Digest, Sha256};
use simplenet_data::{Rgb8, Source, read_image_file};

use crate::error::Error;

/// Decodes an image file as [`Rgb8::open`] does and turns it upright as its EXIF orientation says: a camera that was
/// mounted on its side shows the part as a person sees it. Coordinates of a prediction are those of the upright image.
///
/// # Errors
/// As [`Rgb8::open`].
pub fn open_upright(path: impl AsRef<Path>) -> Result<Rgb8, Error> {
    Ok(Photo::open(&Source::File(path.as_ref().to_owned()))?.pixels)
}

/// Whether an image file has its pixels as they are to be seen.
///
/// # Errors
/// Where the file cannot be read.
pub fn is_upright(path: impl AsRef<Path>) -> Result<bool, Error> {
    Ok(orientation(&read_image_file(path.as_ref())?) == Orientation::NoTransforms)
}

/// Upright pixels, with what identifies the file they came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photo {
    /// As [`open_upright`] gives them.
    pub pixels: Rgb8,
    /// SHA-256 of the file, or of the pixels where the source is no file of its own.
    pub sha256: [u8; 32],
}

impl Photo {
    /// Reads an image once for both.
    ///
    /// # Errors
    /// As [`open_upright`].
    pub fn open(source: &Source) -> Result<Photo, Error> {
        let Source::File(path) = source else {
            let pixels = source.decode()?;
            let sha256 = Sha256::digest(pixels.data()).into();
            return Ok(Photo { pixels, sha256 });
        };
        let bytes = read_image_file(path)?;
        let stored = Rgb8::decode(&bytes, path)?;
        let pixels = turn(stored, orientation(&bytes))?;
        let sha256 = Sha256::digest(&bytes).into();
        Ok(Photo { pixels, sha256 })
    }
}

/// The EXIF orientation of an image file. A file without one, or with a damaged one, is upright as it lies.
fn orientation(bytes: &[u8]) -> Orientation {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let decoder = reader.ok().and_then(|reader| reader.into_decoder().ok());
    decoder
        .and_then(|mut decoder| decoder.orientation().ok())
        .unwrap_or(Orientation::NoTransforms)
}

/// Turns an image as an orientation asks.
fn turn(image: Rgb8, orientation: Orientation) -> Result<Rgb8, Error> {
    if orientation == Orientation::NoTransforms {
        return Ok(image);
    }
    // Neither side exceeds what the decoder took, which counts them in 32 bits.
    let [width, height] = [image.width(), image.height()].map(|side| side as u32);
    let lost = || Error::Internal("an image has not as many bytes as its size says");
    let pixels = RgbImage::from_raw(width, height, image.into_data()).ok_or_else(lost)?;
    let mut turned = DynamicImage::ImageRgb8(pixels);
    turned.apply_orientation(orientation);
    let (width, height) = (turned.width() as usize, turned.height() as usize);
    Ok(Rgb8::new(width, height, turned.into_rgb8().into_raw())?)
}

/// As `sha256sum` writes it.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
