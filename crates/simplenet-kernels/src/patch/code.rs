//! The authors' two adaptive poolings.
//!
//! Both poolings and the resizing are linear, so each layer is pooled twice on its own grid and only then resized. The
//! second pooling runs over all layers at once: a layer gives its share of the bins it reaches into, and the shares add up.

use std::ops::Range;

use rayon::prelude::*;

use super::bilinear::Resize;
use super::{Rows, adaptive_bins};
use crate::engine::FeatureMap;

pub(super) fn embed(maps: &[&FeatureMap], patch: usize, pretrain_dim: usize, target_dim: usize) -> Rows {
    let FeatureMap { n, h, w, .. } = *maps[0];
    let layers: Vec<(Pooling, Option<(Vec<f32>, Resize)>)> = maps
        .iter()
        .enumerate()
        .map(|(index, map)| {
            let pooling = Pooling::new(index, maps.len(), map.c, patch, pretrain_dim, target_dim);
            let resized = ((map.h, map.w) != (h, w)).then(|| {
                let shape = [map.h, map.w, pooling.targets.len()];
                (pooling.everywhere(map), Resize::new(shape, [h, w]))
            });
            (pooling, resized)
        })
        .collect();

    let mut data = vec![0.0; n * h * w * target_dim];
    let rows = data.par_chunks_mut(w * target_dim).enumerate();
    rows.for_each_init(Buffers::default, |buffers, (row, out)| {
        let (image, y) = (row / h, row % h);
        for (&map, (pooling, resized)) in maps.iter().zip(&layers) {
            match resized {
                None => {
                    for (x, out) in out.chunks_exact_mut(target_dim).enumerate() {
                        pooling.add_at(map, [image, y, x], buffers, &mut out[pooling.targets.clone()]);
                    }
                }
                Some((pooled, resize)) => {
                    resize.row(pooled, image, y, &mut buffers.between, |x, low, high, weight| {
                        let out = &mut out[x * target_dim..][pooling.targets.clone()];
                        add_lerp(out, low, high, weight);
                    });
                }
            }
        }
    });
    let dim = target_dim;
    Rows { n, h, w, dim, data }
}

/// Both poolings as one layer sees them.
struct Pooling {
    patch: usize,
    /// The first pooling, over the neighbourhood.
    neighbourhood: Vec<Bin>,
    /// The bins of the second pooling that this layer reaches into.
    targets: Range<usize>,
    /// This layer's share of each of them, over the first pooling's values.
    shares: Vec<Bin>,
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
    window: Vec<f32>,
    pooled: Vec<f32>,
    between: Vec<f32>,
}

impl Pooling {
    fn new(layer: usize, layers: usize, c: usize, patch: usize, pretrain_dim: usize, target_dim: usize) -> Pooling {
        let mean = |(start, end): (usize, usize)| {
            let scale = 1.0 / (end - start) as f32;
            Bin { start, end, scale }
        };
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
        let first = reached.first().map_or(0, |(target, _)| *target);
        Pooling {
            patch,
            neighbourhood: adaptive_bins(c * patch * patch, pretrain_dim).map(mean).collect(),
            targets: first..first + reached.len(),
            shares: reached.into_iter().map(|(_, bin)| bin).collect(),
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
        gather(map, at, self.patch, &mut buffers.window);
        buffers.pooled.clear();
        let means = self.neighbourhood.iter().map(|bin| bin.apply(&buffers.window));
        buffers.pooled.extend(means);
        for (out, share) in out.iter_mut().zip(&self.shares) {
            *out += share.apply(&buffers.pooled);
        }
    }
}

/// The zero-padded neighbourhood of one position as a vector (channel, row, column).
fn gather(map: &FeatureMap, [image, y, x]: [usize; 3], patch: usize, window: &mut Vec<f32>) {
    let &FeatureMap { h, w, c, ref data, .. } = map;
    let (reach, cells) = (patch / 2, patch * patch);
    window.resize(c * cells, 0.0);
    for cell in 0..cells {
        let row = (y + cell / patch).checked_sub(reach).filter(|row| *row < h);
        let column = (x + cell % patch).checked_sub(reach).filter(|column| *column < w);
        let into = window[cell..].iter_mut().step_by(cells);
        match (row, column) {
            (Some(row), Some(column)) => {
                let from = &data[((image * h + row) * w + column) * c..][..c];
                into.zip(from).for_each(|(into, from)| *into = *from);
            }
            _ => into.for_each(|into| *into = 0.0),
        }
    }
}

fn add_lerp(out: &mut [f32], low: &[f32], high: &[f32], weight: f32) {
    let low_weight = 1.0 - weight;
    for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
        *out += low_weight * low + weight * high;
    }
}
