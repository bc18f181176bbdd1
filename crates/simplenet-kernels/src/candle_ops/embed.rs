//! Patch embedding.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Error, Layout, Result, Shape, Tensor, bail};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, backend::BackendStorage};

use super::values;
use crate::engine::FeatureMap;
use crate::patch;

/// [`crate::patch::mean_embed`]: `maps[i]` is `[B, C_i, H_i, W_i]`, one to three of them; the result `[B·H_0·W_0, Σ C_i]`.
///
/// Maps are read channels last; one that lies so already, as a view, is not copied.
///
/// # Errors
/// Those of [`crate::patch::mean_embed`]; where there are other numbers of maps, or they are not f32 on one device; on a GPU
/// where the channels of one are not a multiple of 8, as those of the usual backbones are.
pub fn mean_embed(maps: &[Tensor], patch: usize) -> Result<Tensor> {
    apply(maps, Kind::Mean, patch)
}

/// [`crate::patch::code_embed`]: `maps[i]` is `[B, C_i, H_i, W_i]`, one to three of them; the result
/// `[B·H_0·W_0, target_dim]`.
///
/// # Errors
/// As [`mean_embed`].
pub fn code_embed(maps: &[Tensor], patch: usize, pretrain_dim: usize, target_dim: usize) -> Result<Tensor> {
    let kind = Kind::Code {
        pretrain_dim,
        target_dim,
    };
    apply(maps, kind, patch)
}

#[derive(Clone, Copy)]
enum Kind {
    Mean,
    Code { pretrain_dim: usize, target_dim: usize },
}

/// Of maps `[B, H_i, W_i, C_i]`.
struct Embed {
    kind: Kind,
    patch: usize,
}

fn apply(maps: &[Tensor], kind: Kind, patch: usize) -> Result<Tensor> {
    let channels_last = |map: &Tensor| map.permute((0, 2, 3, 1))?.contiguous();
    let maps: Vec<Tensor> = maps.iter().map(channels_last).collect::<Result<_>>()?;
    let embed = Embed { kind, patch };
    match maps.as_slice() {
        [map] => map.apply_op1_no_bwd(&embed),
        [first, second] => first.apply_op2_no_bwd(second, &embed),
        [first, second, third] => first.apply_op3_no_bwd(second, third, &embed),
        _ => bail!(
            "{} feature maps to embed; an operation of candle takes 1 to 3",
            maps.len()
        ),
    }
}

impl Embed {
    const NAME: &'static str = "patch-embed";

    fn on_processor(&self, maps: &[(&CpuStorage, &Layout)]) -> Result<(CpuStorage, Shape)> {
        let read = |&(storage, layout): &(&CpuStorage, &Layout)| -> Result<FeatureMap> {
            let (n, h, w, c) = layout.shape().dims4()?;
            let data = values(storage, layout)?.to_vec();
            Ok(FeatureMap { n, h, w, c, data })
        };
        let maps: Vec<FeatureMap> = maps.iter().map(read).collect::<Result<_>>()?;
        let maps: Vec<&FeatureMap> = maps.iter().collect();
        let rows = match self.kind {
            Kind::Mean => patch::mean_embed(&maps, self.patch),
            Kind::Code {
                pretrain_dim,
                target_dim,
            } => patch::code_embed(&maps, self.patch, pretrain_dim, target_dim),
        };
        let rows = rows.map_err(Error::wrap)?;
        Ok((CpuStorage::F32(rows.data), (rows.n * rows.h * rows.w, rows.dim).into()))
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(&self, maps: &[(&CudaStorage, &Layout)]) -> Result<(CudaStorage, Shape)> {
        use super::device;
        use crate::cuda::network::{DeviceMap, Values};
        use crate::cuda::{Gpu, patch};

        let gpu = Gpu::of(maps[0].0.device())?;
        let mut read = Vec::with_capacity(maps.len());
        for &(storage, layout) in maps {
            let (n, h, w, c) = layout.shape().dims4()?;
            if !c.is_multiple_of(8) {
                bail!(
                    "a feature map has {c} channels, and the kernel reads 8 at a time\n\nhint: add channels of zeros"
                );
            }
            let values = Values::F32(device::values(storage, layout)?);
            #[rustfmt::skip]
            read.push(DeviceMap { n, h, w, c, pitch: c, values });
        }
        let positions = read[0].n * read[0].h * read[0].w;
        let dim = match self.kind {
            Kind::Mean => read.iter().map(|map| map.c).sum(),
            Kind::Code { target_dim, .. } => target_dim,
        };
        let rows = gpu.zeros(positions * dim)?;
        match self.kind {
            Kind::Mean => patch::mean_embed(&gpu, &read, self.patch, rows.all())?,
            Kind::Code {
                pretrain_dim,
                target_dim,
            } => patch::code_embed(&gpu, &read, self.patch, pretrain_dim, target_dim, rows.all())?,
        }
        Ok((device::storage(&gpu, rows), (positions, dim).into()))
    }
}

impl CustomOp1 for Embed {
    fn name(&self) -> &'static str {
        Embed::NAME
    }

    fn cpu_fwd(&self, map: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.on_processor(&[(map, layout)])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, map: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.on_gpu(&[(map, layout)])
    }
}

impl CustomOp2 for Embed {
    fn name(&self) -> &'static str {
        Embed::NAME
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        self.on_processor(&[(s1, l1), (s2, l2)])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s1: &CudaStorage, l1: &Layout, s2: &CudaStorage, l2: &Layout) -> Result<(CudaStorage, Shape)> {
        self.on_gpu(&[(s1, l1), (s2, l2)])
    }
}

impl CustomOp3 for Embed {
    fn name(&self) -> &'static str {
        Embed::NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.on_processor(&[(s1, l1), (s2, l2), (s3, l3)])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
        s3: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.on_gpu(&[(s1, l1), (s2, l2), (s3, l3)])
    }
}
