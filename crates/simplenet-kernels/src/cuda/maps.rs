//! Image scores and anomaly maps on the GPU: [`crate::maps`].

use candle_core::{Result, bail};

use super::gpu::{Argument, Buffer, Gpu, Grid, Span, arguments, int};
use crate::maps::Bands;

/// Output rows of a block.
const ROWS_PER_BLOCK: usize = 8;

/// The two linear maps, one for each axis, that turn patch scores into anomaly maps.
pub struct MapMaker {
    from: [usize; 2],
    to: [usize; 2],
    down: DeviceBand,
    across: DeviceBand,
}

struct DeviceBand {
    first: Buffer<i32>,
    length: Buffer<i32>,
    weights: Buffer<f32>,
    width: i32,
}

/// As `maps.cu` declares it.
#[repr(C)]
#[derive(Clone, Copy)]
struct BandArgument {
    first: u64,
    length: u64,
    weights: u64,
    width: i32,
}
arguments!(BandArgument);

impl MapMaker {
    /// From a grid of `from` patches to maps of `to` pixels, smoothed with `sigma` pixels.
    ///
    /// # Errors
    /// Those of [`crate::maps::anomaly_maps`], and the device's.
    pub fn new(gpu: &Gpu, from: [usize; 2], to: [usize; 2], sigma: f32) -> Result<MapMaker> {
        let Bands { down, across } = Bands::new(from, to, sigma).map_err(candle_core::Error::wrap)?;
        let upload = |rows: Vec<(usize, Vec<f32>)>| -> Result<DeviceBand> {
            let width = rows.iter().map(|(_, weights)| weights.len()).max().unwrap_or(1);
            let mut weights = vec![0.0; rows.len() * width];
            let (mut first, mut length) = (Vec::new(), Vec::new());
            for ((input, row), weights) in rows.iter().zip(weights.chunks_exact_mut(width)) {
                weights[..row.len()].copy_from_slice(row);
                first.push(int("inputs", *input)?);
                length.push(int("inputs", row.len())?);
            }
            Ok(DeviceBand {
                first: gpu.upload(&first)?,
                length: gpu.upload(&length)?,
                weights: gpu.upload(&weights)?,
                width: int("inputs", width)?,
            })
        };
        Ok(MapMaker {
            from,
            to,
            down: upload(down)?,
            across: upload(across)?,
        })
    }

    /// Maps `[n, height, width]` and image scores `[n]` of patch scores `[n, h, w]`.
    ///
    /// # Errors
    /// Where a span has another size.
    pub fn run(
        &self,
        gpu: &Gpu,
        scores: Span<'_, f32>,
        maps: Span<'_, f32>,
        image_scores: Span<'_, f32>,
    ) -> Result<()> {
        let ([h, w], [height, width]) = (self.from, self.to);
        let n = image_scores.len();
        scores.expect("the scores", n * h * w)?;
        maps.expect("the maps", n * height * width)?;
        let shared = ROWS_PER_BLOCK * w * size_of::<f32>();
        if shared > 48 << 10 {
            bail!("a grid of {w} patches in a row is wider than the map kernel takes");
        }
        let grid = Grid {
            blocks: [height.div_ceil(ROWS_PER_BLOCK) * n, 1, 1],
            threads: [256, 1],
            shared,
        };
        let (down, across) = (self.down.argument(), self.across.argument());
        let [h, w, height, width] = [
            int("rows", h)?,
            int("columns", w)?,
            int("rows", height)?,
            int("columns", width)?,
        ];
        let arguments: [&dyn Argument; 9] = [&scores, &maps, &image_scores, &down, &across, &h, &w, &height, &width];
        gpu.launch("maps", "anomaly_maps", grid, &arguments)
    }
}

impl DeviceBand {
    fn argument(&self) -> BandArgument {
        BandArgument {
            first: self.first.all().address(),
            length: self.length.all().address(),
            weights: self.weights.all().address(),
            width: self.width,
        }
    }
}
