//! A head's parameters in device memory, and scoring with them.

use std::ops::Range;

use simplenet_kernels::cuda::noise::{DeviceStandardizer, standardize};
use simplenet_kernels::cuda::{Buffer, Gpu, Math, Matrix, Span, gemm, hidden};
use simplenet_kernels::gemm::Accumulate;

use super::bank::DeviceBank;
use crate::config::HeadConfig;
use crate::error::{Error, Result};
use crate::head::Head;
use crate::layout::Layout;

/// Patches that are scored at once.
const ROWS_AT_ONCE: usize = 1 << 14;

/// A head in device memory.
pub struct DeviceHead {
    pub(super) gpu: Gpu,
    pub(super) config: HeadConfig,
    pub(super) layout: Layout,
    pub(super) parameters: Buffer<f32>,
    pub(super) running_mean: Buffer<f32>,
    pub(super) running_var: Buffer<f32>,
    pub(super) standardizer: Option<DeviceStandardizer>,
    scoring: Scoring,
}

/// What scoring needs room for.
struct Scoring {
    /// W A, `[hidden, dim]`; empty without an adaptor.
    folded: Buffer<f32>,
    bias: Buffer<f32>,
    scale: Buffer<f32>,
    shift: Buffer<f32>,
    /// Standardised features, and what a two-layer adaptor makes of them; empty where there is no such thing.
    input: Buffer<f32>,
    inner: Buffer<f32>,
    z: Buffer<f32>,
    at_once: usize,
}

impl DeviceHead {
    /// A copy of a head on the host.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn upload(gpu: &Gpu, head: &Head) -> Result<DeviceHead> {
        let HeadConfig { dim, hidden, .. } = head.config;
        let standardizer = match &head.standardizer {
            None => None,
            Some(host) => Some(DeviceStandardizer {
                mean: gpu.upload(host.mean())?,
                scale: gpu.upload(host.scale())?,
            }),
        };
        let layers = head.layout.adaptor.len();
        let scoring = Scoring {
            folded: gpu.zeros(usize::from(layers > 0) * hidden * dim)?,
            bias: gpu.zeros(hidden)?,
            scale: gpu.zeros(hidden)?,
            shift: gpu.zeros(hidden)?,
            input: gpu.zeros(usize::from(standardizer.is_some()) * ROWS_AT_ONCE * dim)?,
            inner: gpu.zeros(usize::from(layers > 1) * ROWS_AT_ONCE * dim)?,
            z: gpu.zeros(ROWS_AT_ONCE * hidden)?,
            at_once: ROWS_AT_ONCE,
        };
        Ok(DeviceHead {
            parameters: gpu.upload(&head.parameters)?,
            running_mean: gpu.upload(&head.running_mean)?,
            running_var: gpu.upload(&head.running_var)?,
            gpu: gpu.clone(),
            config: head.config,
            layout: head.layout.clone(),
            standardizer,
            scoring,
        })
    }

    /// Copies the parameters back into a head of the same shape; waits for the device.
    ///
    /// # Errors
    /// [`Error::OtherHead`] where the shapes differ, and where the device fails.
    pub fn download(&self, head: &mut Head) -> Result<()> {
        if head.config != self.config {
            return Err(Error::OtherHead {
                found: head.config,
                expected: self.config,
            });
        }
        head.parameters = self.gpu.download(self.parameters.all())?;
        head.running_mean = self.gpu.download(self.running_mean.all())?;
        head.running_var = self.gpu.download(self.running_var.all())?;
        Ok(())
    }

    /// Anomaly scores −D(adaptor(x)) of every patch of a bank, image by image (Eq. 9), with products of `math`; waits for the
    /// device.
    ///
    /// # Errors
    /// [`Error::Dim`] where bank and head differ in channels, [`Error::OtherGpu`] where they lie on different ones,
    /// [`Error::ScoreNotFinite`] where a score is NaN.
    pub fn score(&self, bank: &DeviceBank, math: Math) -> Result<Vec<f32>> {
        self.expect_bank(bank)?;
        let scores = self.gpu.zeros(bank.rows())?;
        let rows = bank.slot(0, bank.images());
        self.fold(math)?;
        for first in (0..bank.rows()).step_by(self.scoring.at_once) {
            let last = (first + self.scoring.at_once).min(bank.rows());
            let dim = self.config.dim;
            self.score_rows(rows.range(first * dim..last * dim), scores.range(first..last), math)?;
        }
        let scores = self.gpu.download(scores.all())?;
        match scores.iter().position(|score| !score.is_finite()) {
            Some(row) => Err(Error::ScoreNotFinite { row }),
            None => Ok(scores),
        }
    }

    /// Refuses a bank of other channels, and one that lies elsewhere.
    pub(super) fn expect_bank(&self, bank: &DeviceBank) -> Result<()> {
        if bank.dim() != self.config.dim {
            return Err(Error::Dim {
                left: "the head",
                left_dim: self.config.dim,
                right: "the feature bank",
                right_dim: bank.dim(),
            });
        }
        match self.gpu.shares_stream(bank.gpu()) {
            true => Ok(()),
            false => Err(Error::OtherGpu),
        }
    }

    /// Scores rows `[n, dim]` of at most a scoring batch into `scores`, after [`DeviceHead::fold`]; does not wait.
    fn score_rows(&self, rows: Span<'_, f32>, scores: Span<'_, f32>, math: Math) -> Result<()> {
        let (gpu, scoring) = (&self.gpu, &self.scoring);
        let HeadConfig { dim, hidden, .. } = self.config;
        let count = scores.len();
        let mut input = rows;
        if let Some(standardizer) = &self.standardizer {
            let into = scoring.input.range(0..count * dim);
            standardize(gpu, input, dim, Some(standardizer), into)?;
            input = into;
        }
        if self.layout.adaptor.len() == 2 {
            let inner = scoring.inner.range(0..count * dim);
            let first = &self.layout.adaptor[0];
            let weight = Matrix::new(self.parameter(&first.weight), dim, dim)?;
            let out = Matrix::new(inner, count, dim)?;
            gemm(
                gpu,
                math,
                Matrix::new(input, count, dim)?,
                weight.t(),
                out,
                Accumulate::Overwrite,
            )?;
            let bias = first.bias.as_ref().map(|bias| self.parameter(bias));
            hidden::inner_forward(gpu, inner, bias, inner, dim)?;
            input = inner;
        }
        let folded = match self.layout.adaptor.is_empty() {
            true => self.parameter(&self.layout.fc1_weight),
            false => scoring.folded.all(),
        };
        let z = scoring.z.range(0..count * hidden);
        let out = Matrix::new(z, count, hidden)?;
        let folded = Matrix::new(folded, hidden, dim)?;
        gemm(
            gpu,
            math,
            Matrix::new(input, count, dim)?,
            folded.t(),
            out,
            Accumulate::Overwrite,
        )?;
        let norm = [scoring.scale.all(), scoring.shift.all()];
        hidden::score_rows(gpu, z, norm, self.parameter(&self.layout.fc2_weight), scores)?;
        Ok(())
    }

    /// Folds the adaptor's last layer, the first layer and batch norm, as they are now.
    fn fold(&self, math: Math) -> Result<()> {
        let (gpu, scoring, layout) = (&self.gpu, &self.scoring, &self.layout);
        let HeadConfig { dim, hidden, .. } = self.config;
        let first = self.parameter(&layout.fc1_weight);
        let last = layout.adaptor.last();
        if let Some(last) = last {
            let adaptor = Matrix::new(self.parameter(&last.weight), dim, dim)?;
            let out = Matrix::new(scoring.folded.all(), hidden, dim)?;
            gemm(
                gpu,
                math,
                Matrix::new(first, hidden, dim)?,
                adaptor,
                out,
                Accumulate::Overwrite,
            )?;
        }
        let bias = last
            .and_then(|last| last.bias.as_ref())
            .map(|bias| self.parameter(bias));
        hidden::fold_bias(gpu, self.parameter(&layout.fc1_bias), first, bias, scoring.bias.all())?;
        hidden::fold_batch_norm(
            gpu,
            self.parameter(&layout.bn_weight),
            self.parameter(&layout.bn_bias),
            scoring.bias.all(),
            [self.running_mean.all(), self.running_var.all()],
            [scoring.scale.all(), scoring.shift.all()],
        )?;
        Ok(())
    }

    /// Some of the parameters.
    pub(super) fn parameter(&self, place: &Range<usize>) -> Span<'_, f32> {
        self.parameters.range(place.clone())
    }
}
