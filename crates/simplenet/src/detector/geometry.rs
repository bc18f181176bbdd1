//! Where the part that is judged lies in the source image.

use serde::Serialize;
use simplenet_data::{Window, centre_offset, resized_size};

/// A box in source pixels: left, top, width, height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PixelBox {
    /// Column of the left edge.
    pub x: usize,
    /// Row of the upper edge.
    pub y: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// The way back from an anomaly map to an upright source image of `width × height` pixels. The map is the resized image or
/// a part of it, pixel for pixel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// Columns of the source.
    pub width: usize,
    /// Rows of the source.
    pub height: usize,
    /// Columns of the map.
    pub columns: usize,
    /// Rows of the map.
    pub rows: usize,
    resized: [usize; 2],
    offset: [usize; 2],
    /// Source pixels per map pixel, across and down.
    scale: [f64; 2],
}

impl Geometry {
    /// For a source of `width × height` whose shorter side becomes `resize` and of which the middle `columns × rows` are
    /// kept; they are no more than the resized image has.
    pub(crate) fn middle([width, height]: [usize; 2], resize: usize, [columns, rows]: [usize; 2]) -> Geometry {
        let (resized_width, resized_height) = resized_size(width, height, resize);
        let offset = [
            centre_offset(resized_width, columns),
            centre_offset(resized_height, rows),
        ];
        Geometry {
            columns,
            rows,
            offset,
            ..Geometry::whole([width, height], [resized_width, resized_height])
        }
    }

    /// For a source of `width × height` that is resized to `columns × rows`, all of which are kept.
    pub(crate) fn whole([width, height]: [usize; 2], [columns, rows]: [usize; 2]) -> Geometry {
        Geometry {
            width,
            height,
            columns,
            rows,
            resized: [columns, rows],
            offset: [0, 0],
            scale: [width as f64 / columns as f64, height as f64 / rows as f64],
        }
    }

    /// Width and height of the resized image.
    pub fn resized(&self) -> [usize; 2] {
        self.resized
    }

    /// The part of the resized image that the map covers.
    pub fn window(&self) -> Window {
        Window {
            x: self.offset[0],
            y: self.offset[1],
            width: self.columns,
            height: self.rows,
        }
    }

    /// A point of the map in source coordinates; pixel centres are at halves in both.
    pub fn to_source(&self, x: f64, y: f64) -> [f64; 2] {
        [
            (x + self.offset[0] as f64) * self.scale[0],
            (y + self.offset[1] as f64) * self.scale[1],
        ]
    }

    /// A point of the source in map coordinates, which may lie outside the map.
    pub fn to_map(&self, x: f64, y: f64) -> [f64; 2] {
        [
            x / self.scale[0] - self.offset[0] as f64,
            y / self.scale[1] - self.offset[1] as f64,
        ]
    }

    /// The source pixels that a box of the map touches.
    pub fn box_to_source(&self, left: usize, top: usize, right: usize, bottom: usize) -> PixelBox {
        let [x0, y0] = self.to_source(left as f64, top as f64);
        let [x1, y1] = self.to_source(right as f64, bottom as f64);
        let (x, y) = (x0.floor() as usize, y0.floor() as usize);
        PixelBox {
            x,
            y,
            width: (x1.ceil() as usize).min(self.width).saturating_sub(x),
            height: (y1.ceil() as usize).min(self.height).saturating_sub(y),
        }
    }

    /// The part of the source that is looked at. What lies outside is not judged.
    pub fn inspected(&self) -> PixelBox {
        self.box_to_source(0, 0, self.columns, self.rows)
    }

    /// Source pixels in one map pixel.
    pub fn pixel_area(&self) -> f64 {
        self.scale[0] * self.scale[1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_224_of_256_are_seven_eighths_of_the_source() {
        let geometry = Geometry::middle([1024, 512], 256, [224, 224]);
        let inspected = PixelBox {
            x: 288,
            y: 32,
            width: 448,
            height: 448,
        };
        assert_eq!(geometry.inspected(), inspected);
        assert_eq!(geometry.pixel_area(), 4.0);
        let [x, y] = geometry.to_source(12.5, 100.5);
        assert_eq!(geometry.to_map(x, y), [12.5, 100.5]);
    }
}
