use rayon::prelude::*;

use crate::{Error, Result};

/// How a slice of pixels divides into maps: image by image, each row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapShape {
    /// Number of images.
    pub images: usize,
    /// Rows per image.
    pub height: usize,
    /// Pixels per row.
    pub width: usize,
}

/// The defects of a set of masks: maximal groups of anomalous pixels that touch, also by a corner (8-connected).
///
/// A region never reaches from one image into the next. Regions are numbered from 0 in the order of their first pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regions {
    /// The anomalous pixels as horizontal runs, in the order of the pixels.
    pub runs: Vec<Run>,
    /// Pixels in each region.
    pub areas: Vec<u64>,
}

/// Neighbouring anomalous pixels of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Index of the first pixel in the slice.
    pub start: usize,
    /// Index after the last pixel.
    pub end: usize,
    /// The region it is part of.
    pub region: u32,
}

impl MapShape {
    /// Checks that a slice of `pixels` pixels holds exactly this many.
    pub(crate) fn check(self, pixels: usize) -> Result<()> {
        let expected = self
            .images
            .checked_mul(self.height)
            .and_then(|rows| rows.checked_mul(self.width));
        if expected != Some(pixels) {
            return Err(Error::ShapeMismatch { shape: self, pixels });
        }
        if u32::try_from(pixels).is_err() {
            return Err(Error::TooManyPixels { pixels });
        }
        if pixels == 0 { Err(Error::Empty) } else { Ok(()) }
    }

    /// Pixels per image.
    pub(crate) fn area(self) -> usize {
        self.height * self.width
    }
}

impl Regions {
    /// Finds the regions of `masks` (`true` = anomalous). There may be none.
    ///
    /// # Errors
    /// The slice does not fill `shape`, is empty, or has more than `u32::MAX` pixels.
    pub fn find(masks: &[bool], shape: MapShape) -> Result<Self> {
        shape.check(masks.len())?;
        let images: Vec<Self> = masks
            .par_chunks(shape.area())
            .map(|mask| Self::of_image(mask, shape.width))
            .collect();
        let mut all = Self {
            runs: Vec::new(),
            areas: Vec::new(),
        };
        for (index, image) in images.into_iter().enumerate() {
            let (first_pixel, first_region) = (index * shape.area(), all.areas.len() as u32);
            all.runs.extend(image.runs.iter().map(|run| Run {
                start: first_pixel + run.start,
                end: first_pixel + run.end,
                region: first_region + run.region,
            }));
            all.areas.extend(image.areas);
        }
        Ok(all)
    }

    /// The region of every anomalous pixel, in the order of the pixels.
    pub(crate) fn of_each_pixel(&self) -> impl Iterator<Item = u32> {
        self.runs
            .iter()
            .flat_map(|run| std::iter::repeat_n(run.region, run.end - run.start))
    }

    /// Two passes over the runs of one image (He, Chao and Suzuki 2008, "A Run-Based Two-Scan Labeling Algorithm"): the
    /// first joins each run to those it touches in the row above, the second numbers what was joined.
    fn of_image(mask: &[bool], width: usize) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        let mut parents = Parents(Vec::new());
        let mut above = 0; // first run of the row above that later runs may still touch
        for (row, pixels) in mask.chunks(width).enumerate() {
            let first_here = runs.len();
            let row_start = row * width;
            let mut from = 0;
            while let Some(skipped) = pixels[from..].iter().position(|&anomalous| anomalous) {
                let left = from + skipped;
                let right = left + pixels[left..].iter().take_while(|&&anomalous| anomalous).count();
                from = right;
                let here = parents.add();
                // A run above touches from one pixel further left to one further right: with half-open ends, `<=`.
                while above < first_here && runs[above].end + width < row_start + left {
                    above += 1;
                }
                let mut other = above;
                while other < first_here && runs[other].start + width <= row_start + right {
                    parents.join(other, here);
                    other += 1;
                }
                runs.push(Run {
                    start: row_start + left,
                    end: row_start + right,
                    region: 0,
                });
            }
            above = first_here;
        }

        let mut areas: Vec<u64> = Vec::new();
        for index in 0..runs.len() {
            let root = parents.root(index);
            // The root of a region is its first run, so its number is known when the others ask for it.
            let region = if root == index {
                areas.len() as u32
            } else {
                runs[root].region
            };
            if root == index {
                areas.push(0);
            }
            runs[index].region = region;
            areas[region as usize] += (runs[index].end - runs[index].start) as u64;
        }
        Self { runs, areas }
    }
}

/// A union-find forest in which every root is the smallest of its tree.
struct Parents(Vec<usize>);

impl Parents {
    fn add(&mut self) -> usize {
        self.0.push(self.0.len());
        self.0.len() - 1
    }

    fn root(&mut self, mut node: usize) -> usize {
        while self.0[node] != node {
            self.0[node] = self.0[self.0[node]];
            node = self.0[node];
        }
        node
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        let (low, high) = (one.min(other), one.max(other));
        self.0[high] = low;
    }
}
