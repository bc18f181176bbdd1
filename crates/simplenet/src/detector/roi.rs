//! The part of the picture that counts.

use std::collections::VecDeque;
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

/// Which pixels of the map, and which patches, are judged and learnt from. Patches outside have no part in a model or a score, and
/// pixels outside are in no region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Roi {
    /// `[rows, columns]`; 255 where it is judged, else 0.
    pub(super) pixels: Vec<u8>,
    /// Rows and columns of `pixels`.
    pub(super) size: [usize; 2],
    /// Width and height of the resized image of which the map shows all or the middle.
    resized: [usize; 2],
    /// `[rows, columns]`: for every patch the nearest one that is judged, which is itself where it is.
    nearest: Vec<usize>,
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
        patches.contains(&true).then(|| Roi {
            pixels,
            size,
            resized: geometry.resized(),
            nearest: nearest(&patches, [rows, columns]),
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

    fn judges(&self, patch: usize) -> bool {
        self.nearest[patch] == patch
    }

    /// The scores of the patches that are judged.
    pub(super) fn judged(&self, patches: &[f32]) -> Vec<f32> {
        let chosen = patches.iter().enumerate().filter(|(patch, _)| self.judges(*patch));
        chosen.map(|(_, score)| *score).collect()
    }

    /// The features of the patches of a square that are judged, of all of its `[patches, dim]`.
    pub(super) fn judged_rows(&self, layout: &Layout, tile: usize, rows: &[f32], dim: usize) -> Vec<f32> {
        let chosen = rows.chunks_exact(dim).zip(layout.places(tile));
        let chosen = chosen.filter(|&(_, place)| self.judges(place));
        chosen.flat_map(|(row, _)| row).copied().collect()
    }

    /// Gives the patches outside the score of the nearest one inside: nobody knows what is usual there, and smoothing would carry it
    /// over the edge.
    pub(super) fn continue_outside(&self, patches: &mut [f32]) {
        for patch in 0..patches.len() {
            patches[patch] = patches[self.nearest[patch]];
        }
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

/// For every patch of a grid the nearest one that is judged, in steps across and down.
fn nearest(judged: &[bool], [rows, columns]: [usize; 2]) -> Vec<usize> {
    let mut nearest: Vec<Option<usize>> = (0..judged.len()).map(|patch| judged[patch].then_some(patch)).collect();
    let mut reached: VecDeque<usize> = (0..judged.len()).filter(|&patch| judged[patch]).collect();
    while let Some(patch) = reached.pop_front() {
        let (row, column) = (patch / columns, patch % columns);
        let steps = [
            (row > 0).then(|| patch - columns),
            (column > 0).then(|| patch - 1),
            (column + 1 < columns).then_some(patch + 1),
            (row + 1 < rows).then_some(patch + columns),
        ];
        for next in steps.into_iter().flatten() {
            if nearest[next].is_none() {
                nearest[next] = nearest[patch];
                reached.push_back(next);
            }
        }
    }
    let own = nearest.into_iter().enumerate();
    own.map(|(patch, nearest)| nearest.unwrap_or(patch)).collect()
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

    #[test]
    fn patches_outside_continue_the_nearest_one_inside() {
        // 6 x 4 patches of one pixel; the second column is judged, and the last patch.
        let pixels = (0..24).map(|pixel| if pixel % 6 == 1 || pixel == 23 { 255 } else { 0 });
        let geometry = Geometry::whole([6, 4], [6, 4]);
        let roi = Roi::new(pixels.collect(), &geometry, [4, 6]).expect("five patches are left");
        let mut patches: Vec<f32> = (0..24).map(|patch| patch as f32).collect();
        roi.continue_outside(&mut patches);
        #[rustfmt::skip]
        assert_eq!(patches, [
            1.0, 1.0, 1.0, 1.0, 1.0, 23.0,
            7.0, 7.0, 7.0, 7.0, 7.0, 23.0,
            13.0, 13.0, 13.0, 13.0, 23.0, 23.0,
            19.0, 19.0, 19.0, 19.0, 23.0, 23.0,
        ]);
    }
}
