//! Dense convolutions where the processor multiplies matrices: some rows of the output times blocks of output channels.
//!
//! The unit is given a strip at a time: up to four groups of 16 neighbouring output pixels. Its sums stay in the unit over the
//! whole reduction, whose pieces that read the same pixels follow one another; they leave through memory, and are finished
//! while the unit is at the next strip.
//!
//! A strip's shape is a matter of what it reads more than once. Groups that lie below each other share rows of their windows,
//! so with larger kernels of stride 1 four of them meet one vector of channels at a time, and weights, which then come from the L2
//! cache, come half as often. With 1×1 kernels nothing is shared, and with strides little: there two groups meet two vectors.

use std::ops::Range;

use super::pack::Block;

/// Groups of a strip, at most.
pub(super) const GROUPS: usize = 4;

/// Rows of output, cut into strips.
#[derive(Clone)]
pub(super) struct Region {
    pub(super) rows: Range<usize>,
    /// Pixels of each row.
    pub(super) pixels: usize,
    /// Pixels of a group, at most.
    pub(super) group: usize,
    /// Whether four groups are stacked where there are four rows.
    pub(super) tall: bool,
}

impl Region {
    /// Groups of up to `widest` pixels. Of even number where that comes out, so that a row without another below it makes pairs.
    pub(super) fn new(rows: Range<usize>, pixels: usize, widest: usize, tall: bool) -> Region {
        let groups = match pixels <= widest {
            true => 1,
            false => 2 * pixels.div_ceil(2 * widest),
        };
        Region {
            rows,
            pixels,
            group: pixels.div_ceil(groups).max(1),
            tall,
        }
    }

    /// Strips that together have every pixel once.
    pub(super) fn strips(&self) -> Strips<'_> {
        Strips {
            region: self,
            y: self.rows.start,
            x: 0,
        }
    }
}

/// Where a group begins, and how many pixels it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) y: usize,
    pub(super) x: usize,
    pub(super) pixels: usize,
}

/// Groups that are worked on together: one, two, or four of equal length. Those that are missing have no pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Strip {
    pub(super) groups: [Group; GROUPS],
}

impl Strip {
    pub(super) fn is_tall(&self) -> bool {
        self.groups[GROUPS - 1].pixels > 0
    }
}

/// [`Region::strips`].
pub(super) struct Strips<'a> {
    region: &'a Region,
    y: usize,
    x: usize,
}

impl Iterator for Strips<'_> {
    type Item = Strip;

    fn next(&mut self) -> Option<Strip> {
        let Region {
            ref rows,
            pixels,
            group,
            tall,
        } = *self.region;
        let (y, x) = (self.y, self.x);
        let height = match rows.end.saturating_sub(y) {
            0 => return None,
            1 => 1,
            left if tall && left >= GROUPS => GROUPS,
            _ => 2,
        };
        let pixels_from = |x: usize| group.min(pixels.saturating_sub(x));
        let mut strip = Strip::default();
        for (below, group) in strip.groups.iter_mut().enumerate().take(height) {
            (group.y, group.x, group.pixels) = (y + below, x, pixels_from(x));
        }
        let mut width = group;
        if height == 1 {
            // Its neighbour in the same row.
            (strip.groups[1].y, strip.groups[1].x, strip.groups[1].pixels) = (y, x + group, pixels_from(x + group));
            width += group;
        }
        self.x += width;
        if self.x >= pixels {
            (self.x, self.y) = (0, y + height);
        }
        Some(strip)
    }
}

/// Pixels in memory, of which some rows are worked on.
pub(super) struct Pixels<P> {
    /// Pixel (0, 0), which need not exist.
    pub(super) at: P,
    /// Elements from pixel to pixel and from row to row.
    pub(super) pixel: usize,
    pub(super) row: usize,
}

impl<T> Pixels<*const T> {
    pub(super) fn none() -> Pixels<*const T> {
        Pixels {
            at: std::ptr::null(),
            pixel: 0,
            row: 0,
        }
    }
}

impl<P> Pixels<P> {
    /// From pixel (0, 0) on.
    pub(super) fn offset(&self, y: usize, x: usize) -> usize {
        y.wrapping_mul(self.row).wrapping_add(x * self.pixel)
    }
}

/// A region times blocks of output channels.
///
/// # Safety (of every function that takes one)
/// From the window of each of the region's pixels on, `terms` elements can be read at each of `pieces`; from each block's
/// weights on, that many terms of a whole block; `bias` holds all channels of whole blocks; at each
/// pixel the blocks' channels can be written at the output and read at the residual.
pub(super) struct Panel<'a, T> {
    pub(super) region: Region,
    /// Where windows begin.
    pub(super) input: Pixels<*const T>,
    /// Where, relative to a window's begin, the pieces of the reduction begin.
    pub(super) pieces: &'a [usize],
    /// Whether no piece reads what another one does, so that what is read need not be kept near.
    pub(super) once: bool,
    pub(super) blocks: &'a [Block],
    /// Of the whole network. For each piece of a block and each of its vectors `[terms / 2][lanes][2]`.
    pub(super) weights: &'a [T],
    pub(super) bias: &'a [f32],
    pub(super) output: Pixels<*mut T>,
    /// Null where there is none. May be the output.
    pub(super) residual: Pixels<*const T>,
    /// The activation is a clamp to `low..=high`.
    pub(super) low: f32,
    pub(super) high: f32,
}

/// A kernel that takes a [`Panel`].
pub(super) struct PanelKernel<T: 'static> {
    pub(super) run: unsafe fn(&Panel<'_, T>),
    /// Terms of the reduction in a piece.
    pub(super) terms: usize,
    /// Pixels of a group, at most.
    pub(super) pixels: usize,
    /// Vectors of channels in a block. One that has fewer is packed with zeros.
    pub(super) vectors: usize,
}

#[cfg(test)]
mod tests {
    use super::Region;

    #[test]
    fn strips_have_every_pixel_once() {
        for (rows, pixels, widest) in (0..13).flat_map(|rows| (1..70).map(move |pixels| (rows, pixels, 16))) {
            for tall in [false, true] {
                let region = Region::new(3..3 + rows, pixels, widest, tall);
                let mut seen = vec![0; rows * pixels];
                for strip in region.strips() {
                    assert!(strip.groups[0].pixels > 0 && (tall || !strip.is_tall()));
                    for group in &strip.groups {
                        assert!(group.pixels <= widest);
                        // What the unit is set up for.
                        assert!(!strip.is_tall() || group.pixels == strip.groups[0].pixels);
                        for x in group.x..group.x + group.pixels {
                            seen[(group.y - 3) * pixels + x] += 1;
                        }
                    }
                }
                assert!(seen.iter().all(|&times| times == 1), "{rows} rows of {pixels}, {tall}");
            }
        }
    }
}
