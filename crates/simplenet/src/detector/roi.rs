//! The part of the picture that counts.

use std::path::Path;

use simplenet_data::{Gray8, Preprocess};

use super::geometry::Geometry;
use super::layout::Layout;
use super::settings::DetectorConfig;
use crate::error::Error;

/// From this value on a pixel of a mask is white.
const WHITE: u8 = 128;

/// Beyond this from black and from white a pixel is grey; compression makes masks a little so.
const SHADE: usize = 32;
/// A drawing program may write white as one grey or another; a photograph has more of them.
const MOST_SHADES: usize = 16;

/// Which pixels of the map, and which patches, are judged. Patches outside have no part in the score, and pixels
/// outside are in no region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Roi {
    /// `[rows, columns]`; 255 where it is judged, else 0.
    pub(super) pixels: Vec<u8>,
    /// Rows and columns of `pixels`.
    pub(super) size: [usize; 2],
    /// Width and height of the resized image of which the map shows all or the middle.
    resized: [usize; 2],
    /// `[rows, columns]`.
    patches: Vec<bool>,
}

impl Roi {
    /// Reads the masks that a configuration names; `None` where it names none. They have the size of the images.
    pub(super) fn read(
        config: &DetectorConfig,
        preprocess: &Preprocess,
        layout: &Layout,
    ) -> Result<Option<Roi>, Error> {
        if config.roi.is_none() && config.ignore.is_none() {
            return Ok(None);
        }
        let geometry = layout.geometry;
        let Geometry {
            width,
            height,
            columns,
            rows,
            ..
        } = geometry;
        let mut judged = vec![true; rows * columns];
        for (path, keeps_white) in [(&config.roi, true), (&config.ignore, false)] {
            let Some(path) = path else { continue };
            let mask = open(path, [width, height])?;
            let mask = preprocess.window(&mask, geometry.resized(), geometry.window())?;
            for (judged, &value) in judged.iter_mut().zip(mask.data()) {
                *judged &= (value >= WHITE) == keeps_white;
            }
        }
        let pixels = judged.iter().map(|&judged| if judged { 255 } else { 0 });
        Roi::new(pixels.collect(), &geometry, layout.patches)
            .map(Some)
            .ok_or_else(|| {
                Error::Config(
                    "`roi` and `ignore` leave no patch to judge\n\nhint: in `roi` white is judged, in `ignore` it is not; both show the whole picture".into(),
                )
            })
    }

    /// From its pixels; `None` where they leave no patch. A patch is judged where at least half of its pixels are.
    pub(super) fn new(pixels: Vec<u8>, geometry: &Geometry, [rows, columns]: [usize; 2]) -> Option<Roi> {
        let size = [geometry.rows, geometry.columns];
        let [height, width] = size;
        if height.checked_mul(width) != Some(pixels.len()) {
            return None;
        }
        let patches: Vec<bool> = (0..rows * columns)
            .map(|patch| {
                let (row, column) = (patch / columns, patch % columns);
                let (top, bottom) = (row * height / rows, (row + 1) * height / rows);
                let (left, right) = (column * width / columns, (column + 1) * width / columns);
                let inside = (top..bottom).flat_map(|y| (left..right).map(move |x| y * width + x));
                let white = inside.filter(|&index| pixels[index] >= WHITE).count();
                white > 0 && 2 * white >= (bottom - top) * (right - left)
            })
            .collect();
        patches.contains(&true).then_some(Roi {
            pixels,
            size,
            resized: geometry.resized(),
            patches,
        })
    }

    /// Refuses an image that is resized to another size, so that the region would lie elsewhere in it.
    pub(super) fn check(&self, geometry: &Geometry) -> Result<(), Error> {
        let ([width, height], [to_width, to_height]) = (self.resized, geometry.resized());
        if [to_width, to_height] == self.resized {
            return Ok(());
        }
        Err(Error::Config(format!(
            "an image of {} x {} is resized to {to_width} x {to_height} pixels, and the region of interest is for {width} x {height}\n\nhint: with a region of interest all images have one shape",
            geometry.width, geometry.height
        )))
    }

    /// The scores of the patches that are judged.
    pub(super) fn judged(&self, patches: &[f32]) -> Vec<f32> {
        let chosen = patches.iter().zip(&self.patches).filter(|(_, judged)| **judged);
        chosen.map(|(score, _)| *score).collect()
    }

    /// Which share of the map is judged.
    pub(super) fn share(&self) -> f64 {
        let inside = self.pixels.iter().filter(|pixel| **pixel >= WHITE).count();
        inside as f64 / self.pixels.len() as f64
    }

    /// Whether a pixel of the map is judged.
    pub(super) fn is_inside(&self, pixel: usize) -> bool {
        self.pixels[pixel] >= WHITE
    }

    /// Gives the pixels outside the lowest value of those inside, so that a map shows nothing there.
    pub(super) fn flatten_outside(&self, map: &mut [f32]) {
        let inside = map.iter().zip(&self.pixels).filter(|(_, pixel)| **pixel >= WHITE);
        let lowest = inside.map(|(value, _)| *value).fold(f32::INFINITY, f32::min);
        for (value, &pixel) in map.iter_mut().zip(&self.pixels) {
            if pixel < WHITE {
                *value = lowest;
            }
        }
    }
}

fn open(path: &Path, [width, height]: [usize; 2]) -> Result<Gray8, Error> {
    let mask = Gray8::open_mask(path)?;
    if (mask.width(), mask.height()) != (width, height) {
        return Err(Error::Config(format!(
            "mask {} is {} x {} pixels and the images are {width} x {height}\n\nhint: a mask shows the same picture as the images",
            path.display(),
            mask.width(),
            mask.height()
        )));
    }
    let mut count = [0_usize; 256];
    mask.data().iter().for_each(|&value| count[usize::from(value)] += 1);
    if !mask.data().iter().any(|&value| value >= WHITE) {
        return Err(Error::Config(format!(
            "{} has no white pixel: its largest value is {}\n\nhint: a mask is 255 (white) for what is judged in `roi` and for what is not in `ignore`, else 0",
            path.display(),
            mask.data().iter().max().unwrap_or(&0)
        )));
    }
    let greys = &count[SHADE..256 - SHADE];
    let shades = greys.iter().filter(|count| **count > 0).count();
    if shades > MOST_SHADES && 2 * greys.iter().sum::<usize>() > mask.data().len() {
        return Err(Error::Config(format!(
            "{} is no mask: most of its pixels are of many greys\n\nhint: a mask is white where a picture is meant, else black",
            path.display()
        )));
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_counts_where_half_of_it_is_white() {
        // 4 x 4 pixels, 2 x 2 patches: the left ones half white, the upper right a quarter, the lower right none.
        #[rustfmt::skip]
        let pixels = vec![
            255, 0, 255, 0,
            255, 0, 0, 0,
            255, 0, 0, 0,
            255, 0, 0, 0,
        ];
        let geometry = Geometry::whole([4, 4], [4, 4]);
        let roi = Roi::new(pixels, &geometry, [2, 2]).expect("two patches are left");
        assert_eq!(roi.judged(&[1.0, 9.0, 2.0, 8.0]), [1.0, 2.0]);
        let mut map: Vec<f32> = (0..16).map(|value| value as f32 - 3.0).collect();
        roi.flatten_outside(&mut map);
        assert_eq!(map[..8], [-3.0, -3.0, -1.0, -3.0, 1.0, -3.0, -3.0, -3.0]);
        assert!(Roi::new(vec![0; 16], &geometry, [2, 2]).is_none());
    }
}
