//! Images to patch rows on a GPU, with our own kernels.

use simplenet_kernels::cuda::network::{DeviceMap, Network};
use simplenet_kernels::cuda::{DeviceError, Gpu, Products, Span, patch};

use crate::arch::Arch;
use crate::backbone::Backbone;
use crate::error::BackboneError;
use crate::extractor::{Embedding, FeatureConfig, Source};

/// Images to patch rows in device memory: what [`crate::Extractor`] is on the host.
pub struct GpuExtractor {
    network: Network,
    source: Source,
}

impl GpuExtractor {
    /// Copies the backbone's weights to the GPU. `products` is a [`crate::Precision`], or TF32, which only a GPU has. Fails as
    /// [`crate::Extractor::new`] does, or where the device does.
    pub fn new(
        backbone: &Backbone,
        config: FeatureConfig,
        gpu: &Gpu,
        products: impl Into<Products>,
    ) -> Result<GpuExtractor, BackboneError> {
        let outputs = config.outputs(backbone)?;
        let network = Network::new(gpu, backbone.graph(), &outputs, products)?;
        let source = Source::new(backbone, config);
        Ok(GpuExtractor { network, source })
    }

    /// Writes one row per patch of normalised host images `[n, 3, h, w]`, row-major, to device memory `[n·h'·w', dim]`, in the
    /// order of [`crate::Extractor::extract`]; does not wait for the device. Fails where a size does not fit.
    pub fn extract(&self, images: &[f32], shape: [usize; 4], rows: Span<'_, f32>) -> Result<(), BackboneError> {
        Ok(self.network.run(images, shape, |maps| self.embed(maps, rows))?)
    }

    /// Extracts again from the images that the last [`GpuExtractor::extract`] of this shape left on the device: what a
    /// benchmark times.
    pub fn extract_again(&self, shape: [usize; 4], rows: Span<'_, f32>) -> Result<(), BackboneError> {
        Ok(self.network.rerun(shape, |maps| self.embed(maps, rows))?)
    }

    fn embed(&self, maps: &[DeviceMap<'_>], rows: Span<'_, f32>) -> Result<(), DeviceError> {
        let FeatureConfig { patch, embedding, .. } = self.source.config;
        let gpu = self.network.gpu();
        match embedding {
            Embedding::Mean => patch::mean_embed(gpu, maps, patch, rows),
            Embedding::Code {
                pretrain_dim,
                target_dim,
            } => patch::code_embed(gpu, maps, patch, pretrain_dim, target_dim, rows),
        }
    }

    /// The network without the patch embedding.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        self.network.gpu()
    }

    /// Length of a row.
    pub fn dim(&self) -> usize {
        self.source.dim()
    }

    /// As given.
    pub fn config(&self) -> &FeatureConfig {
        &self.source.config
    }

    /// In what the network's weights and activations are multiplied.
    pub fn products(&self) -> Products {
        self.network.products()
    }

    /// The backbone.
    pub fn arch(&self) -> Arch {
        self.source.arch
    }

    /// The SHA-256 of the backbone's weights.
    pub fn identity(&self) -> &str {
        &self.source.identity
    }
}
