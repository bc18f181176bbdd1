//! Patch embedding on the GPU: [`crate::patch`] from feature maps in device memory to rows in device memory.

use candle_core::{Result, bail};
use half::bf16;

use super::gpu::{Argument, Buffer, Element, Gpu, Grid, Span, arguments, int};
use super::network::{DeviceMap, Values};
use crate::patch::adaptive_bins;

/// What the kernel of the mean embedding reads and writes at a time, in bytes.
const PIECE: u64 = 16;
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
/// Where there is no map, one is empty, not as [`DeviceMap`] says or has more than 198 columns (a row of patches is made in shared
/// memory), the patch size is even, or `rows` has another size.
pub fn mean_embed(gpu: &Gpu, maps: &[DeviceMap<'_>], patch: usize, rows: Span<'_, f32>) -> Result<()> {
    let dim = maps.iter().map(|map| map.c).sum();
    let (first_map, _) = check(maps, patch, dim, rows)?;
    // Views may begin anywhere.
    let staged = match is_aligned(rows) {
        true => None,
        false => Some(gpu.zeros(rows.len())?),
    };
    let into = staged.as_ref().map_or(rows, Buffer::all);
    let mut first = 0;
    for map in maps {
        let shape = shape_of(map, first_map, patch, dim, first)?;
        let shared = map.w * MEAN_CHANNELS * size_of::<f32>();
        if shared > MOST_SHARED {
            bail!(
                "a feature map has {} columns, and the mean embedding takes {}\n\nhint: use smaller images or a deeper layer",
                map.w,
                MOST_SHARED / (MEAN_CHANNELS * size_of::<f32>())
            );
        }
        let grid = Grid {
            blocks: [map.n * first_map.h, map.c.div_ceil(MEAN_CHANNELS), 1],
            threads: [256, 1],
            shared,
        };
        let copy = Copy::where_needed(gpu, map.values)?;
        let (values, name) = copy.or(map.values).for_kernel("mean_embed_f32", "mean_embed_bf16");
        gpu.launch_overlapping("patch", name, grid, &[&shape, &values, &into])?;
        first += map.c;
    }
    match staged {
        Some(staged) => gpu.copy(rows, staged.all()),
        None => Ok(()),
    }
}

/// A copy of values that begin where whole pieces do not. It is freed in the order of the stream, after who reads it.
enum Copy {
    None,
    F32(Buffer<f32>),
    Bf16(Buffer<bf16>),
}

impl Copy {
    fn where_needed(gpu: &Gpu, values: Values<'_>) -> Result<Copy> {
        fn copy<T: Element>(gpu: &Gpu, values: Span<'_, T>) -> Result<Buffer<T>> {
            let copy = gpu.zeros(values.len())?;
            gpu.copy(copy.all(), values)?;
            Ok(copy)
        }
        Ok(match values {
            Values::F32(values) if !is_aligned(values) => Copy::F32(copy(gpu, values)?),
            Values::Bf16(values) if !is_aligned(values) => Copy::Bf16(copy(gpu, values)?),
            Values::F32(_) | Values::Bf16(_) => Copy::None,
        })
    }

    fn or<'a>(&'a self, values: Values<'a>) -> Values<'a> {
        match self {
            Copy::None => values,
            Copy::F32(copy) => Values::F32(copy.all()),
            Copy::Bf16(copy) => Values::Bf16(copy.all()),
        }
    }
}

fn is_aligned<T: Element>(span: Span<'_, T>) -> bool {
    span.address().is_multiple_of(PIECE)
}

/// [`crate::patch::code_embed`]: rows `[n · h_0 · w_0, target_dim]`.
///
/// # Errors
/// Where there is no map, one is empty or not as [`DeviceMap`] says, the patch size is even, or `rows` has another size.
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
    for &DeviceMap {
        n,
        h,
        w,
        c,
        pitch,
        values,
    } in maps
    {
        let len = match values {
            Values::F32(values) => values.len(),
            Values::Bf16(values) => values.len(),
        };
        if n * h * w * c == 0 || pitch < c || !pitch.is_multiple_of(8) || len != n * h * w * pitch {
            bail!(
                "{len} values are no feature map of {n} images, {h} rows, {w} columns and {c} channels with pitch {pitch}\n\nhint: \
                 no side is 0, and the pitch is a multiple of 8 that all channels fit in"
            );
        }
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
