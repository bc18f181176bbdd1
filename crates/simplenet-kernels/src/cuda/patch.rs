//! Patch embedding on the GPU: [`crate::patch`] from feature maps in device memory to rows in device memory.

use candle_core::{Result, bail};

use super::gpu::{Argument, Buffer, Gpu, Grid, Span, arguments, int};
use super::network::DeviceMap;
use crate::patch::adaptive_bins;

/// Channels of a block of the mean embedding.
const MEAN_CHANNELS: usize = 128;
/// Bytes of shared memory that every card since Ampere gives a block.
const MOST_SHARED: usize = 99 << 10;

/// As `patch.cu` declares it.
#[repr(C)]
#[derive(Clone, Copy)]
struct PatchShape {
    images: i32,
    height: i32,
    width: i32,
    channels: i32,
    pitch: i32,
    rows: i32,
    columns: i32,
    patch: i32,
    dim: i32,
    first: i32,
}
arguments!(PatchShape);

/// [`crate::patch::mean_embed`]: rows `[n · h_0 · w_0, Σ c_i]`.
///
/// # Errors
/// Where there is no map, the patch size is even, or `rows` has another size.
pub fn mean_embed(gpu: &Gpu, maps: &[DeviceMap<'_>], patch: usize, rows: Span<'_, f32>) -> Result<()> {
    let dim = maps.iter().map(|map| map.c).sum();
    let (first_map, _) = check(maps, patch, dim, rows)?;
    let mut first = 0;
    for map in maps {
        let shape = shape_of(map, first_map, patch, dim, first)?;
        let shared = map.w * MEAN_CHANNELS * size_of::<f32>();
        if shared > MOST_SHARED {
            bail!("a feature map of {} columns is wider than the embedding takes", map.w);
        }
        let grid = Grid {
            blocks: [map.n * first_map.h, map.c.div_ceil(MEAN_CHANNELS), 1],
            threads: [256, 1],
            shared,
        };
        let (values, name) = map.values.for_kernel("mean_embed_f32", "mean_embed_bf16");
        gpu.launch_overlapping("patch", name, grid, &[&shape, &values, &rows])?;
        first += map.c;
    }
    Ok(())
}

/// [`crate::patch::code_embed`]: rows `[n · h_0 · w_0, target_dim]`.
///
/// # Errors
/// Where there is no map, the patch size is even, or `rows` has another size.
pub fn code_embed(
    gpu: &Gpu,
    maps: &[DeviceMap<'_>],
    patch: usize,
    pretrain_dim: usize,
    target_dim: usize,
    rows: Span<'_, f32>,
) -> Result<()> {
    let (first_map, positions) = check(maps, patch, target_dim, rows)?;
    if pretrain_dim == 0 || target_dim == 0 {
        bail!("adaptive pooling to {pretrain_dim} and {target_dim} values; both must be at least 1");
    }
    gpu.clear(rows)?;
    for (layer, map) in maps.iter().enumerate() {
        let mine = layer * pretrain_dim..(layer + 1) * pretrain_dim;
        let mut reached = adaptive_bins(maps.len() * pretrain_dim, target_dim)
            .enumerate()
            .filter(|(_, (start, end))| *start < mine.end && *end > mine.start)
            .map(|(target, _)| target);
        let Some(first) = reached.next() else { continue };
        let targets = reached.last().unwrap_or(first) + 1 - first;
        let shape = shape_of(map, first_map, patch, target_dim, first)?;
        let own_positions = map.n * map.h * map.w;
        let shares: Buffer<f32> = gpu.zeros(own_positions * targets)?;
        let (layer, layers) = (int("layers", layer)?, int("layers", maps.len())?);
        let (pretrain, first) = (int("pretrain_dim", pretrain_dim)?, int("targets", first)?);
        let targets_in_all = int("targets", targets)?;
        let into = shares.all();
        let grid = Grid::over(own_positions * targets);
        let (values, name) = map.values.for_kernel("code_pool_f32", "code_pool_bf16");
        let arguments: [&dyn Argument; 8] = [
            &shape,
            &values,
            &into,
            &layer,
            &layers,
            &pretrain,
            &first,
            &targets_in_all,
        ];
        gpu.launch("patch", name, grid, &arguments)?;
        let grid = Grid::over(positions * targets);
        gpu.launch("patch", "add_resized", grid, &[&shape, &into, &rows, &targets_in_all])?;
    }
    Ok(())
}

/// The first map and the number of patches.
fn check<'a, 'm>(
    maps: &'a [DeviceMap<'m>],
    patch: usize,
    dim: usize,
    rows: Span<'_, f32>,
) -> Result<(&'a DeviceMap<'m>, usize)> {
    let Some(first) = maps.first() else {
        bail!("no feature map to embed");
    };
    if patch.is_multiple_of(2) {
        bail!("a patch of side {patch} has no centre\n\nhint: the patch size is odd: 1, 3, 5");
    }
    if let Some(other) = maps.iter().find(|map| map.n != first.n) {
        bail!("a feature map is of {} images, the first one of {}", other.n, first.n);
    }
    let positions = first.n * first.h * first.w;
    rows.expect("the rows", positions * dim)?;
    int("values of the rows", positions * dim)?;
    Ok((first, positions))
}

fn shape_of(map: &DeviceMap<'_>, grid: &DeviceMap<'_>, patch: usize, dim: usize, first: usize) -> Result<PatchShape> {
    let small = |value| int("a side", value);
    Ok(PatchShape {
        images: small(map.n)?,
        height: small(map.h)?,
        width: small(map.w)?,
        channels: small(map.c)?,
        pitch: small(map.pitch)?,
        rows: small(grid.h)?,
        columns: small(grid.w)?,
        patch: small(patch)?,
        dim: small(dim)?,
        first: small(first)?,
    })
}
