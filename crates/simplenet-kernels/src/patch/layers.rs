//! Layers on their own grids, for what is linear in the rows and cheaper there: a deeper layer has a quarter of the
//! positions.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::bilinear::{Resize, add_lerp};
use super::{PatchError, Rows, check};
use crate::engine::{FeatureMap, Team};
use crate::gemm::{Accumulate, GemmError, MatMut, MatRef, PackedB, gemm_packed_alone};
use crate::isa::Isa;
use crate::vectors::on_vectors;

/// What one layer adds to the rows. Resized bilinearly to the first layer's grid, the shares of all layers, each at its
/// columns, sum up to the rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// On the layer's own grid; as many channels as columns.
    pub share: FeatureMap,
    /// Of the row.
    pub columns: Range<usize>,
}

/// What is multiplied with the positions of a map: `[channels, width]`, of the same width for all maps.
pub type Multiplied<'a> = (&'a FeatureMap, &'a PackedB<f32>);

/// Positions of the first map that a thread multiplies at once at most: with 1024 columns their products, which are used up
/// before they leave its cache, take half a MiB.
const POSITIONS: usize = 128;

/// Elements from row to row of products that are `width` wide: lines of odd number, so that the rows of a tile, which the kernels
/// write side by side, do not fall onto the same few sets of the first cache.
fn pitch(width: usize) -> usize {
    (width.div_ceil(LINE) | 1) * LINE
}

const LINE: usize = 64 / size_of::<f32>();

/// Memory for products, kept from call to call: fresh memory would cost more than what is computed in it.
#[derive(Debug, Default)]
pub struct Scratch(Mutex<Vec<Vec<f32>>>);

impl Scratch {
    /// At least `len` values, whatever they are.
    fn take(&self, len: usize) -> Vec<f32> {
        let mut memory = self.lock().pop().unwrap_or_default();
        if memory.len() < len {
            memory.resize(len, 0.0);
        }
        memory
    }

    fn give_back(&self, memory: Vec<f32>) {
        self.lock().push(memory);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<f32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One value for each position of the first map's grid in some of the images, `[images · h · w]`: `value` of the sum `[width]` of
/// all maps `[n, h, w, channels]` there, each multiplied with its matrix `[channels, width]` on its own grid and the product resized
/// bilinearly (`align_corners = false`). The same as multiplying joined rows with the matrices one below the other, to rounding.
/// Values do not depend on the number of threads.
///
/// # Errors
/// [`PatchError::NoMaps`], [`PatchError::EmptyMap`], [`PatchError::Length`], [`PatchError::Batch`], [`PatchError::Image`];
/// [`PatchError::ZeroDimension`] for matrices without columns; [`PatchError::Gemm`] where a matrix is not for its map, or not as wide as the first one.
pub fn multiply_and_reduce(
    maps: &[Multiplied<'_>],
    images: Range<usize>,
    scratch: &Scratch,
    value: impl Fn(&[f32]) -> f32 + Sync,
) -> Result<Vec<f32>, PatchError> {
    check(&maps.iter().map(|(map, _)| *map).collect::<Vec<_>>(), 1)?;
    let (first, matrix) = maps[0];
    let (&FeatureMap { n, h, w, .. }, width) = (first, matrix.cols());
    if images.start > images.end || images.end > n {
        return Err(PatchError::Image { images, n });
    }
    if width == 0 {
        return Err(PatchError::ZeroDimension("the width of a matrix"));
    }
    let pitch = pitch(width);
    let (isa, threads) = (Isa::detect().unwrap_or(Isa::Portable), rayon::current_num_threads());
    Team::gather(threads, |team| {
        let mut deeper: Vec<(Vec<f32>, Resize)> = Vec::with_capacity(maps.len() - 1);
        for (map, matrix) in &maps[1..] {
            let positions = images.len() * map.h * map.w;
            let mut product = scratch.take(positions * pitch);
            in_bands(
                team,
                &mut product[..positions * pitch],
                positions,
                POSITIONS,
                |band, product| {
                    let from = images.start * map.h * map.w;
                    Ok(multiply(
                        map,
                        from + band.start..from + band.end,
                        matrix,
                        [width, pitch],
                        product,
                    )?)
                },
            )?;
            deeper.push((product, Resize::new([map.h, map.w, pitch], [h, w])));
        }
        let rows = images.len() * h;
        let mut values = vec![0.0; rows * w];
        in_bands(team, &mut values, rows, (POSITIONS / w).max(1), |rows, values| {
            let mut sums = scratch.take(values.len() * pitch);
            let mut between = Vec::new();
            let from = (images.start * h + rows.start) * w;
            multiply(first, from..from + values.len(), matrix, [width, pitch], &mut sums)?;
            on_vectors(
                isa,
                #[inline(always)]
                || {
                    let lines = sums.chunks_exact_mut(w * pitch).zip(values.chunks_exact_mut(w));
                    for (row, (sums, values)) in rows.zip(lines) {
                        for (product, resize) in &deeper {
                            resize.row(product, row / h, row % h, &mut between, |x, low, high, weight| {
                                add_lerp(&mut sums[x * pitch..][..width], low, high, weight);
                            });
                        }
                        for (result, sums) in values.iter_mut().zip(sums.chunks_exact(pitch)) {
                            *result = value(&sums[..width]);
                        }
                    }
                },
            );
            scratch.give_back(sums);
            Ok(())
        })?;
        deeper.into_iter().for_each(|(product, _)| scratch.give_back(product));
        Ok(values)
    })
}

/// The rows that the layers sum up to, each resized to the first one's grid: what [`mean_embed`](super::mean_embed) makes of the maps
/// that [`mean_layers`](super::mean_layers) made these of, the same values, and [`code_embed`](super::code_embed) to rounding.
///
/// # Errors
/// [`PatchError::NoMaps`], [`PatchError::EmptyMap`], [`PatchError::Length`], [`PatchError::Batch`]; [`PatchError::Columns`] where a layer has
/// other columns than channels.
pub fn join(layers: &[Layer]) -> Result<Rows, PatchError> {
    check(&layers.iter().map(|layer| &layer.share).collect::<Vec<_>>(), 1)?;
    for (map, Layer { share, columns }) in layers.iter().enumerate() {
        if columns.len() != share.c {
            let (columns, channels) = (columns.clone(), share.c);
            return Err(PatchError::Columns { map, columns, channels });
        }
    }
    let &FeatureMap { n, h, w, .. } = &layers[0].share;
    let dim = layers.iter().map(|layer| layer.columns.end).max().unwrap_or(0);
    let resizes: Vec<Option<Resize>> = (layers.iter().map(|layer| &layer.share))
        .map(|map| ((map.h, map.w) != (h, w)).then(|| Resize::new([map.h, map.w, map.c], [h, w])))
        .collect();
    let isa = Isa::detect().unwrap_or(Isa::Portable);
    let mut data = vec![0.0; n * h * w * dim];
    let lines = data.par_chunks_mut(w * dim).enumerate();
    lines.for_each_init(Vec::new, |between, (line, out)| {
        on_vectors(
            isa,
            #[inline(always)]
            || {
                for (Layer { share, columns }, resize) in layers.iter().zip(&resizes) {
                    match resize {
                        None => {
                            let own = share.data[line * w * share.c..][..w * share.c].chunks_exact(share.c);
                            for (out, own) in out.chunks_exact_mut(dim).zip(own) {
                                out[columns.clone()]
                                    .iter_mut()
                                    .zip(own)
                                    .for_each(|(out, own)| *out += own);
                            }
                        }
                        Some(resize) => resize.row(&share.data, line / h, line % h, between, |x, low, high, weight| {
                            add_lerp(&mut out[x * dim..][columns.clone()], low, high, weight);
                        }),
                    }
                }
            },
        );
    });
    Ok(Rows { n, h, w, dim, data })
}

/// Runs `work` on bands of at most about `most` of `rows` rows and their parts of `values`, as many bands for every thread; only the
/// time depends on them.
fn in_bands(
    team: &Team,
    values: &mut [f32],
    rows: usize,
    most: usize,
    work: impl Fn(Range<usize>, &mut [f32]) -> Result<(), PatchError> + Sync,
) -> Result<(), PatchError> {
    let count = rows.div_ceil(most).next_multiple_of(team.threads()).min(rows);
    let of_a_row = values.len() / rows.max(1);
    let mut left = values;
    // Each is locked once, by the thread that makes it.
    let bands: Vec<_> = (0..count)
        .map(|band| {
            let rows = rows * band / count..rows * (band + 1) / count;
            let (values, rest) = std::mem::take(&mut left).split_at_mut(rows.len() * of_a_row);
            left = rest;
            Mutex::new((rows, values, Ok(())))
        })
        .collect();
    team.for_each(count, |band| {
        let mut band = bands[band].lock().unwrap_or_else(PoisonError::into_inner);
        let (rows, values, result) = &mut *band;
        *result = work(rows.clone(), values);
    });
    let results = bands
        .into_iter()
        .map(|band| band.into_inner().unwrap_or_else(PoisonError::into_inner).2);
    results.collect()
}

/// Some positions of a map, times a matrix that is to have `width` columns, into rows that are `pitch` apart.
fn multiply(
    map: &FeatureMap,
    positions: Range<usize>,
    matrix: &PackedB<f32>,
    [width, pitch]: [usize; 2],
    product: &mut [f32],
) -> Result<(), GemmError> {
    let (rows, c) = (positions.len(), map.c);
    let input = MatRef::new(&map.data[positions.start * c..positions.end * c], rows, c)?;
    let product = MatMut::with_strides(product, rows, width, pitch, 1)?;
    gemm_packed_alone(input, matrix, product, Accumulate::Overwrite)
}
