//! Image files to upright pixels.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{ImageDecoder, ImageReader};
use sha2::{Digest, Sha256};
use simplenet_data::{Image8, MAX_FILE_BYTES, Rgb8, Source};

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
    Ok(orientation(&read(path.as_ref())?) == Orientation::NoTransforms)
}

/// Upright pixels, with what identifies the file they came from.
pub(crate) struct Photo {
    pub(crate) pixels: Rgb8,
    /// SHA-256 of the file, or of the pixels where the source is no file of its own.
    pub(crate) sha256: [u8; 32],
}

impl Photo {
    pub(crate) fn open(source: &Source) -> Result<Photo, Error> {
        let Source::File(path) = source else {
            let pixels = source.decode()?;
            let sha256 = Sha256::digest(pixels.data()).into();
            return Ok(Photo { pixels, sha256 });
        };
        let bytes = read(path)?;
        let stored = Rgb8::decode(&bytes, path)?;
        let pixels = turn(stored, orientation(&bytes))?;
        let sha256 = Sha256::digest(&bytes).into();
        Ok(Photo { pixels, sha256 })
    }
}

/// The EXIF orientation of an image file. A file without one, or with a damaged one, is upright as it lies.
pub(crate) fn orientation(bytes: &[u8]) -> Orientation {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let decoder = reader.ok().and_then(|reader| reader.into_decoder().ok());
    decoder
        .and_then(|mut decoder| decoder.orientation().ok())
        .unwrap_or(Orientation::NoTransforms)
}

/// Turns an image as an orientation asks.
pub(crate) fn turn<const CHANNELS: usize>(
    image: Image8<CHANNELS>,
    orientation: Orientation,
) -> Result<Image8<CHANNELS>, Error> {
    let (width, height) = (image.width(), image.height());
    let (right, bottom) = (width - 1, height - 1);
    // Where the pixel at (x, y) of the upright image lies in the stored one.
    let stored = |x: usize, y: usize| match orientation {
        Orientation::NoTransforms => (x, y),
        Orientation::FlipHorizontal => (right - x, y),
        Orientation::Rotate180 => (right - x, bottom - y),
        Orientation::FlipVertical => (x, bottom - y),
        Orientation::Rotate90FlipH => (y, x),
        Orientation::Rotate90 => (y, bottom - x),
        Orientation::Rotate270FlipH => (right - y, bottom - x),
        Orientation::Rotate270 => (right - y, x),
    };
    let (new_width, new_height) = match orientation {
        Orientation::NoTransforms => return Ok(image),
        Orientation::FlipHorizontal | Orientation::Rotate180 | Orientation::FlipVertical => (width, height),
        _ => (height, width),
    };
    let pixels = image.data().as_chunks::<CHANNELS>().0;
    let turned = (0..new_height).flat_map(|y| (0..new_width).map(move |x| (x, y)));
    let data = turned.flat_map(|(x, y)| {
        let (x, y) = stored(x, y);
        pixels[y * width + x]
    });
    Ok(Image8::new(new_width, new_height, data.collect())?)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| simplenet_data::Error::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::Data(simplenet_data::Error::FileTooLarge {
            path: path.to_owned(),
            bytes: bytes.len() as u64,
            limit: MAX_FILE_BYTES,
        }));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference is the image crate's own rotation.
    #[test]
    fn turning_is_that_of_the_image_crate() -> Result<(), Error> {
        let (width, height) = (5, 3);
        let data: Vec<u8> = (0..width * height * 3).map(|value| value as u8).collect();
        for exif in 1..=8 {
            let orientation = Orientation::from_exif(exif).expect("1 to 8 are all there are");
            let mine = turn(Rgb8::new(width, height, data.clone())?, orientation)?;
            let buffer = image::RgbImage::from_raw(width as u32, height as u32, data.clone()).expect("15 pixels");
            let mut theirs = image::DynamicImage::ImageRgb8(buffer);
            theirs.apply_orientation(orientation);
            assert_eq!(mine.width() as u32, theirs.width(), "orientation {exif}");
            assert_eq!(mine.data(), theirs.as_bytes(), "orientation {exif}");
        }
        Ok(())
    }
}
