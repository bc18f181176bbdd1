//! The mean of every neighbourhood, one channel at a time.

use rayon::prelude::*;

use super::bilinear::{Resize, lerp};
use super::{Layer, Rows};
use crate::engine::FeatureMap;
use crate::isa::Isa;
use crate::vectors::{add_up, on_vectors};

/// One map on its way into the rows.
enum Source<'a> {
    /// On the grid of the rows: averaged as the row is written.
    Direct(&'a FeatureMap),
    /// On another grid: averaged there first, then resized.
    Resized { means: Vec<f32>, c: usize, resize: Resize },
}

pub(super) fn embed(maps: &[&FeatureMap], patch: usize) -> Rows {
    let FeatureMap { n, h, w, .. } = *maps[0];
    let layers: Vec<Source> = maps
        .iter()
        .map(|&map| match (map.h, map.w) == (h, w) {
            true => Source::Direct(map),
            false => Source::Resized {
                means: means(map, patch),
                c: map.c,
                resize: Resize::new([map.h, map.w, map.c], [h, w]),
            },
        })
        .collect();

    let dim = maps.iter().map(|map| map.c).sum();
    let mut data = vec![0.0; n * h * w * dim];
    data.par_chunks_mut(w * dim)
        .enumerate()
        .for_each_init(Vec::new, |buffer, (row, out)| {
            let (image, y) = (row / h, row % h);
            let mut first = 0;
            for layer in &layers {
                match layer {
                    Source::Direct(map) => {
                        mean_row(map, image, y, patch, buffer, &mut out[first..], dim);
                        first += map.c;
                    }
                    Source::Resized { means, c, resize } => {
                        resize.row(means, image, y, buffer, |x, low, high, weight| {
                            lerp(&mut out[x * dim + first..][..*c], low, high, weight);
                        });
                        first += c;
                    }
                }
            }
        });
    Rows { n, h, w, dim, data }
}

pub(super) fn layers(maps: &[&FeatureMap], patch: usize) -> Vec<Layer> {
    let mut first = 0;
    let layer = |&map: &&FeatureMap| {
        let columns = first..first + map.c;
        first = columns.end;
        let share = FeatureMap {
            data: means(map, patch),
            ..*map
        };
        Layer { share, columns }
    };
    maps.iter().map(layer).collect()
}

/// Every neighbourhood's mean, in the shape of the map.
fn means(map: &FeatureMap, patch: usize) -> Vec<f32> {
    let mut data = vec![0.0; map.data.len()];
    let rows = data.par_chunks_mut(map.w * map.c).enumerate();
    rows.for_each_init(Vec::new, |buffer, (row, out)| {
        mean_row(map, row / map.h, row % map.h, patch, buffer, out, map.c);
    });
    data
}

/// The means of row `y`, written `stride` apart: sums of columns first, then of `patch` neighbouring sums.
fn mean_row(
    map: &FeatureMap,
    image: usize,
    y: usize,
    patch: usize,
    sums: &mut Vec<f32>,
    out: &mut [f32],
    stride: usize,
) {
    let &FeatureMap { h, w, c, .. } = map;
    let reach = patch / 2;
    let around = |at: usize, end: usize| at.saturating_sub(reach)..(at + reach + 1).min(end);
    sums.resize(w * c, 0.0);
    on_vectors(
        Isa::detect().unwrap_or(Isa::Portable),
        #[inline(always)]
        || {
            let source = |row: usize| &map.data[(image * h + row) * w * c..][..w * c];
            add_up(sums, around(y, h).map(source), 1.0);
            let scale = 1.0 / (patch * patch) as f32;
            for x in 0..w {
                let column = |column: usize| &sums[column * c..][..c];
                add_up(&mut out[x * stride..][..c], around(x, w).map(column), scale);
            }
        },
    );
}
