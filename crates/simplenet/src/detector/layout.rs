//! The squares in which the network sees an image, and how their patch scores become one grid.

use rayon::prelude::*;
use simplenet_data::{Rgb8, Window, resized_size};

use super::geometry::Geometry;
use super::settings::DetectorConfig;
use crate::error::Error;
use crate::method::{Method, Model};
use crate::pipeline::Pipeline;

/// Squares that are extracted at once: enough work for every thread, little memory.
const BATCH: usize = 8;

/// The most squares of one image: 6,000 × 6,000 pixels at the default size and overlap, and half a minute. A damaged
/// header can make a strip of any picture, and a line must not stand still for it.
const MAX_TILES: usize = 1024;

/// The squares of one image. One in the middle, or as many as cover it; these overlap, and of a patch that several have
/// seen the score counts that was seen farthest from an edge, behind which the network saw nothing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    pub(super) geometry: Geometry,
    /// Rows and columns of the patch grid of the whole.
    pub(super) patches: [usize; 2],
    /// The same of one square.
    square: [usize; 2],
    /// Side of a square in pixels.
    side: usize,
    columns: Axis,
    rows: Axis,
}

/// The squares along one axis, in patches.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Axis {
    /// Where each begins.
    starts: Vec<usize>,
    /// For every patch the square whose score counts.
    owner: Vec<usize>,
}

impl Layout {
    /// For an image of `size`: width and height.
    ///
    /// # Errors
    /// [`Error::Config`] where it takes too many squares.
    pub(super) fn new(size: [usize; 2], config: &DetectorConfig, pipeline: &Pipeline) -> Result<Layout, Error> {
        let sizes = config.model.preprocess;
        let square = pipeline.grid();
        let Some(overlap) = config.overlap else {
            return Ok(Layout {
                geometry: Geometry::middle(size, sizes.resize, [sizes.crop, sizes.crop]),
                patches: square,
                square,
                side: sizes.crop,
                columns: Axis::single(square[1]),
                rows: Axis::single(square[0]),
            });
        };
        // The configuration has been checked: a square is a whole number of patches, and larger than the overlap.
        let stride = sizes.crop / square[0];
        // Whole patches: the aspect ratio gives way by less than one, so that no edge of the picture is left out.
        let (width, height) = resized_size(size[0], size[1], sizes.resize);
        let [wide, high] = [width, height].map(|length| length / stride);
        let overlap = overlap.div_ceil(stride);
        let [across, down] = [wide, high].map(|length| Axis::count(length, square[0], overlap));
        if across.saturating_mul(down) > MAX_TILES {
            return Err(Error::Config(format!(
                "an image of {} x {} takes {across} x {down} squares of {} pixels, and {MAX_TILES} are the most\n\nhint: a detector with a smaller `preprocess.resize` or a larger `preprocess.crop` takes fewer",
                size[0], size[1], sizes.crop
            )));
        }
        if across * down > 1 && matches!(config.model.method, Method::Padim(_)) {
            // A position in one of several squares is no position in the picture.
            return Err(Error::Config(format!(
                "`padim` has a Gaussian for every position and takes no tiles, and an image of {} x {} takes {across} x {down}\n\nhint: judge the middle square only (`--middle` of `simplenet train`), or use another method",
                size[0], size[1]
            )));
        }
        Ok(Layout {
            geometry: Geometry::whole(size, [wide * stride, high * stride]),
            patches: [high, wide],
            square,
            side: sizes.crop,
            columns: Axis::new(wide, square[0], across),
            rows: Axis::new(high, square[0], down),
        })
    }

    /// Number of squares.
    pub(super) fn tiles(&self) -> usize {
        self.columns.starts.len() * self.rows.starts.len()
    }

    /// Where a square lies in the resized image.
    fn window(&self, tile: usize) -> Window {
        let across = self.columns.starts.len();
        let stride = self.side.div_ceil(self.square[0]);
        let whole = self.geometry.window();
        Window {
            x: whole.x + self.columns.starts[tile % across] * stride,
            y: whole.y + self.rows.starts[tile / across] * stride,
            width: self.side,
            height: self.side,
        }
    }

    /// Where the patches of a square lie in the grid of the whole, row by row.
    pub(super) fn places(&self, tile: usize) -> impl Iterator<Item = usize> {
        let across = self.columns.starts.len();
        let (top, left) = (self.rows.starts[tile / across], self.columns.starts[tile % across]);
        let ([rows, columns], wide) = (self.square, self.patches[1]);
        (0..rows).flat_map(move |y| (0..columns).map(move |x| (top + y) * wide + left + x))
    }

    /// The patch scores of all squares as one grid, row by row.
    pub(super) fn stitch(&self, mut tiles: Vec<Vec<f32>>) -> Result<Vec<f32>, Error> {
        if tiles.len() != self.tiles() {
            return Err(Error::Internal("the squares of an image are not complete"));
        }
        if tiles.len() == 1 {
            return Ok(tiles.swap_remove(0));
        }
        let across = self.columns.starts.len();
        let [rows, columns] = self.patches;
        let place = |row: usize, column: usize| {
            let (down, right) = (self.rows.owner[row], self.columns.owner[column]);
            let (y, x) = (row - self.rows.starts[down], column - self.columns.starts[right]);
            tiles[down * across + right][y * self.square[1] + x]
        };
        let cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        Ok(cells.map(|(row, column)| place(row, column)).collect())
    }
}

impl Axis {
    fn single(length: usize) -> Axis {
        Axis {
            starts: vec![0],
            owner: vec![0; length],
        }
    }

    /// How many squares it takes so that neighbours share at least `overlap`.
    fn count(length: usize, side: usize, overlap: usize) -> usize {
        length.saturating_sub(overlap).div_ceil(side - overlap).max(1)
    }

    fn new(length: usize, side: usize, count: usize) -> Axis {
        let gaps = count.max(2) - 1;
        let starts: Vec<usize> = (0..count).map(|index| index * (length - side) / gaps).collect();
        // How far a patch lies from the nearer edge of a square, if it lies in it.
        let depth = |start: usize, patch: usize| {
            let inside = patch >= start && patch < start + side;
            inside.then(|| (patch - start).min(start + side - 1 - patch))
        };
        let owner = (0..length).map(|patch| {
            let deepest = (0..count).rev().max_by_key(|&tile| depth(starts[tile], patch));
            deepest.unwrap_or(0)
        });
        Axis {
            owner: owner.collect(),
            starts,
        }
    }
}

/// Takes the feature rows of a square, and the numbers of its image and of the square in it.
pub(super) type TakeRows<'a> = dyn FnMut(&[f32], usize, usize) -> Result<(), Error> + 'a;

/// Hands the feature rows of every square of some images to `each`, image by image and square by square, with the numbers of both.
pub(super) fn extract(
    pipeline: &Pipeline,
    images: &[(&Rgb8, &Layout)],
    mut each: impl FnMut(&[f32], usize, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let [height, width] = pipeline.grid();
    in_batches(pipeline, images, |inputs, jobs| {
        let rows = pipeline.features(inputs)?;
        let mut squares = rows.chunks_exact(height * width * pipeline.dim()).zip(jobs);
        squares.try_for_each(|(rows, &(image, tile))| each(rows, image, tile))
    })
}

/// The patch scores of every square of some images, image by image and square by square. `also` is handed the rows, as by
/// [`extract`].
pub(super) fn score(
    pipeline: &Pipeline,
    model: &Model,
    images: &[(&Rgb8, &Layout)],
    mut also: Option<&mut TakeRows<'_>>,
) -> Result<Vec<Vec<f32>>, Error> {
    let [height, width] = pipeline.grid();
    let mut squares = Vec::new();
    in_batches(pipeline, images, |inputs, jobs| {
        let features = pipeline.features_for(model, inputs)?;
        let scores = pipeline.score(model, &features)?;
        squares.extend(scores.chunks_exact(height * width).map(<[f32]>::to_vec));
        if let Some(also) = &mut also {
            let rows = features.rows()?;
            let mut each = rows.chunks_exact(height * width * pipeline.dim()).zip(jobs);
            each.try_for_each(|(rows, &(image, tile))| also(rows, image, tile))?;
        }
        Ok(())
    })?;
    Ok(squares)
}

/// Hands the network's inputs of all squares of some images to `batch`, a few at a time, and of which image and square they are.
fn in_batches(
    pipeline: &Pipeline,
    images: &[(&Rgb8, &Layout)],
    mut batch: impl FnMut(&[f32], &[(usize, usize)]) -> Result<(), Error>,
) -> Result<(), Error> {
    let jobs: Vec<(usize, usize)> = (images.iter().enumerate())
        .flat_map(|(image, (_, layout))| (0..layout.tiles()).map(move |tile| (image, tile)))
        .collect();
    for jobs in jobs.chunks(BATCH) {
        let inputs: Vec<Vec<f32>> = jobs
            .par_iter()
            .map(|&(image, tile)| input(pipeline, images[image].0, images[image].1, tile))
            .collect::<Result<_, Error>>()?;
        batch(&inputs.concat(), jobs)?;
    }
    Ok(())
}

/// The network's input of one square.
pub(super) fn input(pipeline: &Pipeline, image: &Rgb8, layout: &Layout, tile: usize) -> Result<Vec<f32>, Error> {
    let preprocess = pipeline.preprocess();
    let pixels = preprocess.window(image, layout.geometry.resized(), layout.window(tile))?;
    Ok(preprocess.normalise(&pixels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_cover_an_axis_and_share_at_least_the_overlap() {
        for (side, overlap) in [(28, 7), (32, 8), (4, 0), (5, 2)] {
            for length in side..300 {
                let count = Axis::count(length, side, overlap);
                let axis = Axis::new(length, side, count);
                assert_eq!((axis.starts[0], axis.starts[count - 1] + side), (0, length));
                for pair in axis.starts.windows(2) {
                    assert!(pair[1] > pair[0] && pair[1] + overlap <= pair[0] + side, "{axis:?}");
                }
                for (patch, &owner) in axis.owner.iter().enumerate() {
                    let start = axis.starts[owner];
                    assert!(patch >= start && patch < start + side);
                    // Away from the ends a patch keeps half of the overlap between itself and the edge.
                    let margin = (patch - start).min(start + side - 1 - patch);
                    let ends = patch.min(length - 1 - patch);
                    assert!(margin >= (overlap / 2).min(ends), "patch {patch} of {length}: {axis:?}");
                }
            }
        }
    }
}
