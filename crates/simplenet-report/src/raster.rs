//! PNG files drawn larger than they are and averaged down: plotters smooths neither lines nor the places of letters.

use std::path::Path;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use plotters::backend::BitMapBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};

use crate::file::write_atomic;
use crate::{Error, Result};

/// Writes a PNG of `size` pixels atomically. `draw` gets an area `factor` times as wide and high.
pub(crate) fn write_png(
    path: &Path,
    what: &str,
    size: (u32, u32),
    factor: u32,
    draw: impl FnOnce(DrawingArea<BitMapBackend<'_>, Shift>) -> Result<()>,
) -> Result<()> {
    let large_size = (size.0 * factor, size.1 * factor);
    let mut large = vec![0; 3 * large_size.0 as usize * large_size.1 as usize];
    draw(BitMapBackend::with_buffer(&mut large, large_size).into_drawing_area())?;
    let pixels = averaged(&large, large_size.0 as usize, factor as usize);
    let mut png = Vec::new();
    PngEncoder::new_with_quality(&mut png, CompressionType::Best, FilterType::Adaptive)
        .write_image(&pixels, size.0, size.1, ExtendedColorType::Rgb8)
        .map_err(|e| Error::drawing(what, e))?;
    write_atomic(path, &png)
}

/// Means over squares of `factor` by `factor` pixels; both sides are multiples of it.
fn averaged(large: &[u8], large_width: usize, factor: usize) -> Vec<u8> {
    let width = large_width / factor;
    let count = (factor * factor) as u32;
    let mut small = Vec::with_capacity(large.len() / (factor * factor));
    for rows in large.chunks_exact(3 * large_width * factor) {
        let mut sums = vec![0u32; 3 * width];
        for row in rows.chunks_exact(3 * large_width) {
            for (index, value) in row.iter().enumerate() {
                sums[index / 3 / factor * 3 + index % 3] += u32::from(*value);
            }
        }
        small.extend(sums.into_iter().map(|sum| ((sum + count / 2) / count) as u8));
    }
    small
}
