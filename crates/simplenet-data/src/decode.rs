//! Files to 8-bit pixels, with the conventions of Pillow's `Image.open(path).convert("RGB")`.

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use image::error::{LimitError, LimitErrorKind};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::{Error, Gray8, Image8, Result, Rgb8};

/// The most pixels one image may have: where Pillow raises `DecompressionBombError`.
pub const MAX_PIXELS: u64 = 178_956_970;

/// The largest image file that is read.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// The most memory that one decoder may ask for: [`MAX_PIXELS`] of four 16-bit channels.
const MAX_DECODER_BYTES: u64 = 8 * MAX_PIXELS;

impl Rgb8 {
    /// Decodes a PNG, JPEG, BMP or TIFF file; the content decides which, not the name.
    ///
    /// Grey becomes three equal channels, a palette its colours. Alpha is dropped, not blended. Of 16-bit channels the
    /// high byte is taken, as Pillow does for colour; for 16-bit *grey* Pillow's `convert("RGB")` clips at 255 instead,
    /// which turns nearly every such image white, and is not followed. The orientation in a camera's EXIF data is not
    /// applied: Pillow does not either, and masks lie on the pixels as stored.
    ///
    /// PNG, BMP and TIFF give Pillow's bytes. JPEG leaves the inverse transform and the upsampling of colour to the
    /// decoder: libjpeg-turbo, which Pillow uses, was seen to differ by up to 3 of 255.
    ///
    /// Fails, naming the file, when it cannot be read or decoded, is cut short, or exceeds [`MAX_PIXELS`].
    pub fn open(path: impl AsRef<Path>) -> Result<Rgb8> {
        let path = path.as_ref();
        Rgb8::decode(&read_image_file(path)?, path)
    }

    /// Decodes the bytes of an image file as [`Rgb8::open`] does. `name` stands in errors.
    pub fn decode(bytes: &[u8], name: impl AsRef<Path>) -> Result<Rgb8> {
        let name = name.as_ref();
        Rgb8::of(decode(bytes, name)?, name)
    }

    fn of(image: DynamicImage, name: &Path) -> Result<Rgb8> {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let data = match image {
            DynamicImage::ImageRgb8(pixels) => pixels.into_raw(),
            DynamicImage::ImageLuma8(pixels) => select(pixels.as_raw(), |[grey]| [grey; 3]),
            DynamicImage::ImageLumaA8(pixels) => select(pixels.as_raw(), |[grey, _]| [grey; 3]),
            DynamicImage::ImageRgba8(pixels) => select(pixels.as_raw(), |[r, g, b, _]| [r, g, b]),
            DynamicImage::ImageLuma16(pixels) => select(pixels.as_raw(), |[grey]| [high_byte(grey); 3]),
            DynamicImage::ImageLumaA16(pixels) => select(pixels.as_raw(), |[grey, _]| [high_byte(grey); 3]),
            DynamicImage::ImageRgb16(pixels) => select(pixels.as_raw(), |rgb: [u16; 3]| rgb.map(high_byte)),
            DynamicImage::ImageRgba16(pixels) => select(pixels.as_raw(), |[r, g, b, _]| [r, g, b].map(high_byte)),
            other => {
                return Err(Error::PixelType {
                    path: name.to_owned(),
                    pixels: other.color(),
                });
            }
        };
        Image8::new(width, height, data)
    }
}

impl Gray8 {
    /// Decodes the bytes of an image file as [`Rgb8::decode`] does, then takes Pillow's luma:
    /// `(19595 R + 38470 G + 7471 B + 2^15) >> 16`. `name` stands in errors.
    pub fn decode(bytes: &[u8], name: impl AsRef<Path>) -> Result<Gray8> {
        Gray8::of(&Rgb8::decode(bytes, name)?)
    }

    /// Decodes the file of a mask as [`Gray8::decode`] does.
    ///
    /// Fails as [`Rgb8::open`], and for one of 16 bits that only uses the lower 8: the upper 8 are all that is taken, so it
    /// would be black without a word.
    pub fn open_mask(path: impl AsRef<Path>) -> Result<Gray8> {
        let path = path.as_ref();
        let image = decode(&read_image_file(path)?, path)?;
        let largest = match &image {
            DynamicImage::ImageLuma16(pixels) => largest(pixels.as_raw()),
            DynamicImage::ImageLumaA16(pixels) => largest(&select(pixels.as_raw(), |[grey, _]| [grey])),
            DynamicImage::ImageRgb16(pixels) => largest(pixels.as_raw()),
            DynamicImage::ImageRgba16(pixels) => largest(&select(pixels.as_raw(), |[r, g, b, _]| [r, g, b])),
            _ => 0,
        };
        if (1..=255).contains(&largest) {
            return Err(Error::MaskDepth {
                mask: path.to_owned(),
                largest,
            });
        }
        Gray8::of(&Rgb8::of(image, path)?)
    }

    fn of(rgb: &Rgb8) -> Result<Gray8> {
        // The weights sum to 2^16, so grey stays what it was.
        let luma = select(rgb.data(), |[r, g, b]: [u8; 3]| {
            [((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + (1 << 15)) >> 16) as u8]
        });
        Image8::new(rgb.width(), rgb.height(), luma)
    }
}

/// Width and height of an image file, from its header.
pub(crate) fn dimensions(path: &Path) -> Result<(usize, usize)> {
    let file = File::open(path).map_err(|source| Error::read(path, source))?;
    let reader = ImageReader::new(BufReader::new(file))
        .with_guessed_format()
        .map_err(|source| Error::read(path, source))?;
    if reader.format().is_none() {
        return Err(Error::UnknownFormat { path: path.to_owned() });
    }
    let (width, height) = reader.into_dimensions().map_err(|source| Error::Decode {
        path: path.to_owned(),
        source,
    })?;
    Ok((width as usize, height as usize))
}

fn largest(values: &[u16]) -> u16 {
    values.iter().copied().max().unwrap_or(0)
}

/// Maps every pixel of `IN` channels to one of `OUT`.
fn select<T: Copy, U: Copy, const IN: usize, const OUT: usize>(
    pixels: &[T],
    map: impl Fn([T; IN]) -> [U; OUT],
) -> Vec<U> {
    pixels
        .as_chunks::<IN>()
        .0
        .iter()
        .flat_map(|pixel| map(*pixel))
        .collect()
}

fn high_byte(value: u16) -> u8 {
    (value >> 8) as u8
}

/// The bytes of an image file.
///
/// # Errors
/// [`Error::Read`] where it cannot be read, [`Error::FileTooLarge`] beyond [`MAX_FILE_BYTES`].
pub fn read_image_file(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|source| Error::read(path, source))?;
    let mut length = file.metadata().map_err(|source| Error::read(path, source))?.len();
    let mut content = Vec::new();
    if length <= MAX_FILE_BYTES {
        content.reserve(length as usize);
        // The limit once more, for what has no length of its own, such as a pipe.
        file.take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut content)
            .map_err(|source| Error::read(path, source))?;
        length = content.len() as u64;
    }
    if length > MAX_FILE_BYTES {
        return Err(Error::FileTooLarge {
            path: path.to_owned(),
            bytes: length,
            limit: MAX_FILE_BYTES,
        });
    }
    Ok(content)
}

fn decode(bytes: &[u8], name: &Path) -> Result<DynamicImage> {
    let path = || name.to_owned();
    let format = image::guess_format(bytes).map_err(|_| Error::UnknownFormat { path: path() })?;
    if !format.reading_enabled() {
        return Err(Error::UnknownFormat { path: path() });
    }
    if format == ImageFormat::Jpeg && !jpeg_is_complete(bytes) {
        return Err(Error::Truncated {
            path: path(),
            bytes: bytes.len(),
        });
    }

    let failed = |source| Error::Decode { path: path(), source };
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(failed)?;

    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Error::TooManyPixels {
            path: path(),
            width,
            height,
            limit: MAX_PIXELS,
        });
    }
    if decoder.total_bytes() > MAX_DECODER_BYTES {
        return Err(failed(ImageError::Limits(LimitError::from_kind(
            LimitErrorKind::InsufficientMemory,
        ))));
    }
    DynamicImage::from_decoder(decoder).map_err(failed)
}

/// Whether a JPEG reaches its end-of-image marker. Walks the segments (ITU-T T.81, annex B), so that the end marker of
/// an embedded thumbnail does not count.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xD9;
    let mut at = 2; // behind the start-of-image marker
    loop {
        // Between segments, and after the data of a scan, comes 0xFF and a marker. Inside a scan 0xFF stands before a
        // stuffed zero or a restart marker; any number of 0xFF may precede a marker.
        let Some(found) = bytes
            .get(at..)
            .and_then(|rest| rest.iter().position(|&byte| byte == 0xFF))
        else {
            return false;
        };
        at += found + 1;
        match bytes.get(at) {
            None => return false,
            Some(&END_OF_IMAGE) => return true,
            Some(0x00 | 0x01 | 0xD0..=0xD8) => at += 1,
            Some(0xFF) => {}
            Some(_) => {
                let Some(&[high, low]) = bytes.get(at + 1..at + 3) else {
                    return false;
                };
                at += 1 + usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }
}
