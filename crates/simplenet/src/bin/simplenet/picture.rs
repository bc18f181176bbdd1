//! Pictures of anomaly maps and regions, as large as the source image.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use simplenet::{AnomalyMap, Rgb8, write_atomic};
use simplenet_data::is_image;

/// How much the colour covers the picture's own grey at most: whoever looks at a marked place wants to see what is there.
const OPACITY: f64 = 0.45;
/// How much darker the rim of an outline is than what lies there: white is not seen on a white part.
const RIM: f64 = 0.3;
/// Its width in pixels of the map, of which an outline has one; both have at least one pixel of the picture.
const RIM_WIDTH: f64 = 0.34;

/// The grey image under its anomaly map. `range` is what a normal pixel scores and from where on it is marked: below the
/// middle of it nothing is coloured, then yellow rises to orange just below the mark; marked pixels are crimson, and violet
/// at twice the way. The outline of the regions is white, with a dark rim; at the edge the rim is inside. What is not judged is darkened.
pub(crate) fn heatmap(image: &Rgb8, map: &AnomalyMap, [typical, mark]: [f32; 2]) -> Result<DynamicImage> {
    let (width, height) = (u32::try_from(image.width())?, u32::try_from(image.height())?);
    let pixels = image.data().as_chunks::<3>().0;
    let span = f64::from(mark - typical).max(f64::MIN_POSITIVE);
    let [first, second] = [0.0, 1.0].map(|x| map.geometry.to_map(x, 0.0)[0]);
    let (outline, rim) = (1.0_f64.max(second - first), RIM_WIDTH.max(second - first));
    let picture = RgbImage::from_fn(width, height, |x, y| {
        let pixel = pixels[y as usize * image.width() + x as usize];
        let grey = pixel.iter().map(|&channel| f64::from(channel)).sum::<f64>() / 3.0;
        let [column, row] = map.geometry.to_map(f64::from(x) + 0.5, f64::from(y) + 0.5);
        let (Some(value), Some(index)) = (sample(map, column, row), index(map, column, row)) else {
            return Rgb([(grey * 0.4) as u8; 3]);
        };
        if is_outline(map, [column, row], outline) {
            return Rgb([255; 3]);
        }
        // Between pixels the shade is smooth, but a pixel is marked as a whole: outlines and masks go around the same ones.
        let (color, opacity) = color((value - f64::from(typical)) / span, map.values[index] >= mark);
        let in_rim = is_beside(map, [column, row], rim) || is_behind(map, [column, row], outline, rim);
        let shade = if in_rim { RIM } else { 1.0 };
        Rgb(color.map(|channel| ((grey * (1.0 - opacity) + channel * opacity) * shade).round() as u8))
    });
    Ok(picture.into())
}

/// White where a region is.
pub(crate) fn mask(map: &AnomalyMap) -> Result<DynamicImage> {
    let (width, height) = (u32::try_from(map.geometry.width)?, u32::try_from(map.geometry.height)?);
    let picture = GrayImage::from_fn(width, height, |x, y| {
        let [column, row] = map.geometry.to_map(f64::from(x) + 0.5, f64::from(y) + 0.5);
        let inside = index(map, column, row).is_some_and(|index| map.in_region[index]);
        Luma([if inside { 255 } else { 0 }])
    });
    Ok(picture.into())
}

/// Where the PNG of an image lies in a folder: under the image's name, with `.png` behind it unless it ends so. `a.bmp.png`
/// becomes `a.bmp.png.png`, for `a.bmp.png` is the picture of `a.bmp`.
pub(crate) fn path(folder: &Path, label: &Path) -> PathBuf {
    let is_png = label
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    let of_another = label.file_stem().is_some_and(|stem| is_image(Path::new(stem)));
    folder.join(if is_png && !of_another {
        label.to_owned()
    } else {
        label.with_added_extension("png")
    })
}

/// Writes a PNG.
pub(crate) fn write(path: &Path, picture: &DynamicImage) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make the folder {}", parent.display()))?;
    }
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(write_atomic(path, bytes.get_ref())?)
}

/// The pixel of the map at a point of it, or `None` outside.
fn index(map: &AnomalyMap, column: f64, row: f64) -> Option<usize> {
    let inside = |position: f64, length: usize| position >= 0.0 && position < length as f64;
    let (columns, rows) = (map.geometry.columns, map.geometry.rows);
    (inside(column, columns) && inside(row, rows)).then(|| row as usize * columns + column as usize)
}

/// The map between its pixels, bilinearly; its edge goes on to the edge of what is judged.
fn sample(map: &AnomalyMap, column: f64, row: f64) -> Option<f64> {
    index(map, column, row)?;
    let (right_most, lowest) = (map.geometry.columns - 1, map.geometry.rows - 1);
    let x = (column - 0.5).clamp(0.0, right_most as f64);
    let y = (row - 0.5).clamp(0.0, lowest as f64);
    let (left, top) = (x as usize, y as usize);
    let (right, bottom) = ((left + 1).min(right_most), (top + 1).min(lowest));
    let (across, down) = (x - left as f64, y - top as f64);
    let value = |x: usize, y: usize| f64::from(map.values[y * map.geometry.columns + x]);
    let upper = value(left, top) * (1.0 - across) + value(right, top) * across;
    let lower = value(left, bottom) * (1.0 - across) + value(right, bottom) * across;
    Some(upper * (1.0 - down) + lower * down)
}

/// Whether a point lies in a region, no farther from its end than `distance`; at the edge of what is judged it ends.
fn is_outline(map: &AnomalyMap, point: [f64; 2], distance: f64) -> bool {
    is_in_region(map, point) == Some(true) && has_neighbour(map, point, distance, false)
}

/// Whether a point lies in no region, but no farther from one than `distance`.
fn is_beside(map: &AnomalyMap, point: [f64; 2], distance: f64) -> bool {
    is_in_region(map, point) == Some(false) && has_neighbour(map, point, distance, true)
}

/// Whether a point lies in a region behind an outline at the edge of what is judged, where no rim has room on the other side.
fn is_behind(map: &AnomalyMap, [column, row]: [f64; 2], outline: f64, rim: f64) -> bool {
    let (columns, rows) = (map.geometry.columns as f64, map.geometry.rows as f64);
    let from_edge = column.min(row).min(columns - column).min(rows - row);
    from_edge < outline + rim && is_in_region(map, [column, row]) == Some(true)
}

/// Whether a point has another one at this distance, to a side, that lies in a region or in none, such as one beyond the edge.
fn has_neighbour(map: &AnomalyMap, [column, row]: [f64; 2], distance: f64, in_region: bool) -> bool {
    let neighbours = [(-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0)];
    neighbours.iter().any(|(across, down)| {
        let neighbour = [column + across * distance, row + down * distance];
        is_in_region(map, neighbour).unwrap_or(false) == in_region
    })
}

fn is_in_region(map: &AnomalyMap, [column, row]: [f64; 2]) -> Option<bool> {
    Some(map.in_region[index(map, column, row)?])
}

/// Colour and opacity of a value: 0 is a normal pixel, 1 is where pixels are marked. Over grey a marked pixel has more blue
/// than green, any other has no more blue than green, and marked ones are darker: a difference that people see who do not
/// tell red from green.
fn color(value: f64, is_marked: bool) -> ([f64; 3], f64) {
    let blend = |from: [f64; 3], to: [f64; 3], share: f64| [0, 1, 2].map(|c| from[c] + (to[c] - from[c]) * share);
    let (yellow, orange) = ([255.0, 230.0, 0.0], [255.0, 170.0, 0.0]);
    let (crimson, violet) = ([220.0, 0.0, 80.0], [120.0, 0.0, 220.0]);
    if is_marked {
        return (blend(crimson, violet, (value - 1.0).clamp(0.0, 1.0)), OPACITY);
    }
    let share = ((value - 0.5) * 2.0).clamp(0.0, 1.0);
    (blend(yellow, orange, share), OPACITY * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_marked_pixel_has_a_marked_colour() {
        for step in 0..=40 {
            // Smoothing may lift a pixel that is not marked above the mark, and the other way round.
            let value = f64::from(step) / 10.0;
            let ([_, green, blue], _) = color(value, false);
            assert!(green > blue + 100.0, "{value}");
            let ([_, green, blue], opacity) = color(value, true);
            assert!(blue > green + 50.0 && opacity == OPACITY, "{value}");
        }
        assert_eq!(color(0.5, false).1, 0.0);
    }
}
