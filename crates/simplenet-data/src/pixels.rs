use crate::{Error, Result};

/// An 8-bit image on the host: `height` rows of `width` pixels of `CHANNELS` bytes, without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image8<const CHANNELS: usize> {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

/// A colour image, red first.
pub type Rgb8 = Image8<3>;

/// A grey image or a mask.
pub type Gray8 = Image8<1>;

impl<const CHANNELS: usize> Image8<CHANNELS> {
    /// An image of `data`, row by row from the top. Fails when `data` is not `width * height * CHANNELS` long or when a
    /// side is 0.
    pub fn new(width: usize, height: usize, data: Vec<u8>) -> Result<Image8<CHANNELS>> {
        let expected = width
            .checked_mul(height)
            .and_then(|pixels| pixels.checked_mul(CHANNELS));
        if data.is_empty() || expected != Some(data.len()) {
            return Err(Error::Shape {
                bytes: data.len(),
                width,
                height,
                channels: CHANNELS,
            });
        }
        Ok(Image8 { width, height, data })
    }

    /// An image of a buffer that its maker sized.
    pub(crate) fn from_parts(width: usize, height: usize, data: Vec<u8>) -> Image8<CHANNELS> {
        debug_assert_eq!(data.len(), width * height * CHANNELS);
        Image8 { width, height, data }
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes, row by row from the top, channels side by side.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The bytes, without a copy.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// The pixel in column `x` of row `y`, or `None` outside the image.
    pub fn pixel(&self, x: usize, y: usize) -> Option<[u8; CHANNELS]> {
        if x >= self.width || y >= self.height {
            return None;
        }
        self.data.as_chunks::<CHANNELS>().0.get(y * self.width + x).copied()
    }

    /// The bytes of row `y`. The caller keeps `y` below the height.
    pub(crate) fn row(&self, y: usize) -> &[u8] {
        &self.data[y * self.width * CHANNELS..][..self.width * CHANNELS]
    }
}
