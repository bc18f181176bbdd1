//! The authors' two adaptive poolings.
//!
//! Both poolings and the resizing are linear, so each layer is pooled twice on its own grid and only then resized. The
//! second pooling runs over all layers at once: a layer gives its share of the bins it reaches into, and the shares add up.

use std::ops::Range;

use rayon::prelude::*;

use super::bilinear::{Resize, add_lerp};
use super::{Layer, Rows, adaptive_bins};
use crate::engine::FeatureMap;

pub(super) fn embed(maps: &[&FeatureMap], patch: usize, pretrain_dim: usize, target_dim: usize) -> Rows {
    let FeatureMap { n, h, w, .. } = *maps[0];
    let layer = |(index, &map): (usize, &&FeatureMap)| {
        let pooling = Pooling::new(index, maps.len(), map.c, patch, pretrain_dim, target_dim);
        match (map.h, map.w) == (h, w) {
            true => Source::Direct(pooling),
            false => Source::Resized {
                shares: pooling.everywhere(map),
                resize: Resize::new([map.h, map.w, pooling.targets.len()], [h, w]),
                targets: pooling.targets,
            },
        }
    };
    let layers: Vec<Source> = maps.iter().enumerate().map(layer).collect();

    let mut data = vec![0.0; n * h * w * target_dim];
    let rows = data.par_chunks_mut(w * target_dim).enumerate();
    rows.for_each_init(Buffers::default, |buffers, (row, out)| {
        let (image, y) = (row / h, row % h);
        for (map, layer) in maps.iter().zip(&layers) {
            match layer {
                Source::Direct(pooling) => {
                    for (x, out) in out.chunks_exact_mut(target_dim).enumerate() {
                        pooling.add_at(map, [image, y, x], buffers, &mut out[pooling.targets.clone()]);
                    }
                }
                Source::Resized {
                    shares,
                    resize,
                    targets,
                } => {
                    resize.row(shares, image, y, &mut buffers.between, |x, low, high, weight| {
                        add_lerp(&mut out[x * target_dim..][targets.clone()], low, high, weight);
                    });
                }
            }
        }
    });
    let dim = target_dim;
    Rows { n, h, w, dim, data }
}

pub(super) fn layers(maps: &[&FeatureMap], patch: usize, pretrain_dim: usize, target_dim: usize) -> Vec<Layer> {
    let layer = |(index, &map): (usize, &&FeatureMap)| {
        let pooling = Pooling::new(index, maps.len(), map.c, patch, pretrain_dim, target_dim);
        let share = FeatureMap {
            c: pooling.targets.len(),
            data: pooling.everywhere(map),
            ..*map
        };
        Layer {
            share,
            columns: pooling.targets,
        }
    };
    maps.iter().enumerate().map(layer).collect()
}

/// One map on its way into the rows.
enum Source {
    /// On the grid of the rows: pooled as the row is written.
    Direct(Pooling),
    /// On another grid: pooled there first, then resized.
    Resized {
        shares: Vec<f32>,
        resize: Resize,
        targets: Range<usize>,
    },
}

/// Both poolings as one layer sees them.
struct Pooling {
    patch: usize,
    /// Cells of the neighbourhood that no bin tells apart: the window holds one sum for each `segment` of them.
    segment: usize,
    /// The first pooling, over the window; or both, where the second one averages whole bins of the first.
    first: Vec<Bin>,
    /// The second pooling, over the values of the first.
    second: Option<Vec<Bin>>,
    /// The bins of the second pooling that this layer reaches into.
    targets: Range<usize>,
}

/// `scale` times the sum of the values `[start, end)`.
struct Bin {
    start: usize,
    end: usize,
    scale: f32,
}

impl Bin {
    fn apply(&self, values: &[f32]) -> f32 {
        values[self.start..self.end].iter().sum::<f32>() * self.scale
    }
}

#[derive(Default)]
struct Buffers {
    segment: Vec<f32>,
    window: Vec<f32>,
    pooled: Vec<f32>,
    between: Vec<f32>,
}

impl Pooling {
    fn new(layer: usize, layers: usize, c: usize, patch: usize, pretrain_dim: usize, target_dim: usize) -> Pooling {
        let mine = layer * pretrain_dim..(layer + 1) * pretrain_dim;
        let reached: Vec<(usize, Bin)> = adaptive_bins(layers * pretrain_dim, target_dim)
            .enumerate()
            .filter(|(_, (start, end))| *start < mine.end && *end > mine.start)
            .map(|(target, (start, end))| {
                let scale = 1.0 / (end - start) as f32;
                let start = start.max(mine.start) - mine.start;
                let end = end.min(mine.end) - mine.start;
                (target, Bin { start, end, scale })
            })
            .collect();
        let targets = reached.first().map_or(0, |(target, _)| *target);
        let targets = targets..targets + reached.len();
        let shares = reached.into_iter().map(|(_, bin)| bin);

        let cells = patch * patch;
        let length = c * cells;
        let (mut first, second): (Vec<Bin>, _) = if length.is_multiple_of(pretrain_dim) {
            // Bins of equal length that neither overlap nor leave a gap: a share is a range of the neighbourhood itself.
            let each = length / pretrain_dim;
            let both = |bin: Bin| Bin {
                start: bin.start * each,
                end: bin.end * each,
                scale: bin.scale / each as f32,
            };
            (shares.map(both).collect(), None)
        } else {
            let mean = |(start, end): (usize, usize)| Bin {
                start,
                end,
                scale: 1.0 / (end - start) as f32,
            };
            (
                adaptive_bins(length, pretrain_dim).map(mean).collect(),
                Some(shares.collect()),
            )
        };
        let segment = first
            .iter()
            .fold(cells, |segment, bin| divisor(divisor(segment, bin.start), bin.end));
        for bin in &mut first {
            bin.start /= segment;
            bin.end /= segment;
        }
        Pooling {
            patch,
            segment,
            first,
            second,
            targets,
        }
    }

    /// This layer's shares at every position of its own grid.
    fn everywhere(&self, map: &FeatureMap) -> Vec<f32> {
        let dim = self.targets.len();
        let mut data = vec![0.0; map.n * map.h * map.w * dim];
        let rows = data.par_chunks_mut(map.w * dim).enumerate();
        rows.for_each_init(Buffers::default, |buffers, (row, out)| {
            for (x, out) in out.chunks_exact_mut(dim).enumerate() {
                self.add_at(map, [row / map.h, row % map.h, x], buffers, out);
            }
        });
        data
    }

    /// Adds this layer's shares at one position of its own grid.
    fn add_at(&self, map: &FeatureMap, at: [usize; 3], buffers: &mut Buffers, out: &mut [f32]) {
        let Buffers {
            segment,
            window,
            pooled,
            ..
        } = buffers;
        self.gather(map, at, segment, window);
        let Some(second) = &self.second else {
            for (out, bin) in out.iter_mut().zip(&self.first) {
                *out += bin.apply(window);
            }
            return;
        };
        pooled.clear();
        pooled.extend(self.first.iter().map(|bin| bin.apply(window)));
        for (out, bin) in out.iter_mut().zip(second) {
            *out += bin.apply(pooled);
        }
    }

    /// The zero-padded neighbourhood of one position as a vector (channel, row, column), each `segment` of cells summed.
    fn gather(&self, map: &FeatureMap, [image, y, x]: [usize; 3], sums: &mut Vec<f32>, window: &mut Vec<f32>) {
        let &FeatureMap { h, w, c, ref data, .. } = map;
        let (patch, reach) = (self.patch, self.patch / 2);
        let segments = patch * patch / self.segment;
        sums.resize(c, 0.0);
        window.resize(c * segments, 0.0);
        for segment in 0..segments {
            sums.fill(0.0);
            for cell in segment * self.segment..(segment + 1) * self.segment {
                let row = (y + cell / patch).checked_sub(reach).filter(|row| *row < h);
                let column = (x + cell % patch).checked_sub(reach).filter(|column| *column < w);
                if let (Some(row), Some(column)) = (row, column) {
                    let values = &data[((image * h + row) * w + column) * c..][..c];
                    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                }
            }
            let cells = window[segment..].iter_mut().step_by(segments);
            cells.zip(&*sums).for_each(|(cell, sum)| *cell = *sum);
        }
    }
}

/// The greatest common divisor.
fn divisor(a: usize, b: usize) -> usize {
    match b {
        0 => a,
        _ => divisor(b, a % b),
    }
}
