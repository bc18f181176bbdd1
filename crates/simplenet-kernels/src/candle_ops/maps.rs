//! Anomaly maps.

use candle_core::{CpuStorage, CustomOp1, Error, Layout, Result, Shape, Tensor};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, backend::BackendStorage};

use super::values;
use crate::maps;

/// [`crate::maps::anomaly_maps`]: patch scores `[B, h, w]` to maps `[B, size[0], size[1]]`, enlarged bilinearly and smoothed
/// with `sigma` pixels.
///
/// # Errors
/// Those of [`crate::maps::anomaly_maps`]; where the scores are not f32.
pub fn anomaly_maps(scores: &Tensor, size: [usize; 2], sigma: f32) -> Result<Tensor> {
    scores.contiguous()?.apply_op1_no_bwd(&AnomalyMaps { size, sigma })
}

struct AnomalyMaps {
    size: [usize; 2],
    sigma: f32,
}

impl CustomOp1 for AnomalyMaps {
    fn name(&self) -> &'static str {
        "anomaly-maps"
    }

    fn cpu_fwd(&self, scores: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, h, w) = layout.shape().dims3()?;
        let maps = maps::anomaly_maps(values(scores, layout)?, [n, h, w], self.size, self.sigma);
        let [height, width] = self.size;
        Ok((CpuStorage::F32(maps.map_err(Error::wrap)?), (n, height, width).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, scores: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        use super::device;
        use crate::cuda::Gpu;
        use crate::cuda::maps::MapMaker;

        let gpu = Gpu::of(scores.device())?;
        let (n, h, w) = layout.shape().dims3()?;
        let [height, width] = self.size;
        let maker = MapMaker::new(&gpu, [h, w], self.size, self.sigma)?;
        let (maps, largest) = (gpu.zeros(n * height * width)?, gpu.zeros(n)?);
        maker.run(&gpu, device::values(scores, layout)?, maps.all(), largest.all())?;
        Ok((device::storage(&gpu, maps), (n, height, width).into()))
    }
}
