//! Layers on their own grids, for what is linear in the rows and cheaper there: a deeper layer has a quarter of the
//! positions.

use std::ops::Range;

use rayon::prelude::*;

use super::bilinear::{Resize, add_lerp};
use super::{PatchError, check};
use crate::engine::FeatureMap;

/// What one layer adds to the rows. Resized bilinearly to the first layer's grid, the shares of all layers, each at its
/// columns, sum up to the rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// On the layer's own grid; as many channels as columns.
    pub share: FeatureMap,
    /// Of the row.
    pub columns: Range<usize>,
}

/// One value for each position of the first map's grid: `value` of the sum of all maps there, each resized bilinearly
/// to that grid. All maps have the same channels. Values do not depend on the number of threads.
///
/// # Errors
/// [`PatchError::NoMaps`], [`PatchError::EmptyMap`], [`PatchError::Length`], [`PatchError::Batch`];
/// [`PatchError::Channels`] where maps differ in them.
pub fn reduce(maps: &[&FeatureMap], value: impl Fn(&[f32]) -> f32 + Sync) -> Result<Vec<f32>, PatchError> {
    check(maps, 1)?;
    let FeatureMap { n, h, w, c, .. } = *maps[0];
    if let Some((map, other)) = maps.iter().enumerate().find(|(_, map)| map.c != c) {
        let (found, expected) = (other.c, c);
        return Err(PatchError::Channels { map, found, expected });
    }
    let resized: Vec<(&FeatureMap, Option<Resize>)> = maps
        .iter()
        .map(|&map| {
            let other = (map.h, map.w) != (h, w);
            (map, other.then(|| Resize::new([map.h, map.w, c], [h, w])))
        })
        .collect();
    let mut values = vec![0.0; n * h * w];
    let rows = values.par_chunks_exact_mut(w).enumerate();
    rows.for_each_init(
        || (vec![0.0; w * c], Vec::new()),
        |(sums, between), (row, values)| {
            let (image, y) = (row / h, row % h);
            sums.fill(0.0);
            for (map, resize) in &resized {
                match resize {
                    None => {
                        let own = &map.data[row * w * c..][..w * c];
                        sums.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
                    }
                    Some(resize) => resize.row(&map.data, image, y, between, |x, low, high, weight| {
                        add_lerp(&mut sums[x * c..][..c], low, high, weight);
                    }),
                }
            }
            for (result, sums) in values.iter_mut().zip(sums.chunks_exact(c)) {
                *result = value(sums);
            }
        },
    );
    Ok(values)
}
