//! A head folded for inference, one matrix per layer of the backbone.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use simplenet_kernels::engine::{FeatureMap, Precision};
use simplenet_kernels::gemm::{Accumulate, MatMut, MatRef, PackedB, gemm_packed};
use simplenet_kernels::patch::{Layer, PatchError, reduce};

use crate::error::{Error, Result};
use crate::head::{Head, leaky};
use crate::scorer::{Folded, ROWS_AT_ONCE};
use crate::sums;

/// A head folded for inference on layers that are not joined yet.
///
/// A [`Scorer`](crate::Scorer) multiplies rows that were resized to the grid of the first layer and joined. Both are linear, so
/// each layer may be multiplied on its own grid instead, and the products resized and added: with layer2 and layer3 of a
/// WideResNet-50-2 that is half of the multiplications. Scores differ from those of the scorer by rounding only.
#[derive(Debug)]
pub struct LayeredScorer {
    hidden: usize,
    /// Columns of the row, and `[columns, hidden]`.
    layers: Vec<(Range<usize>, PackedB<f32>)>,
    /// `[hidden]`.
    bias: Vec<f32>,
    /// `[hidden]`.
    output: Vec<f32>,
    /// Memory for products that is not in use: fresh memory would cost more than what is computed in it.
    kept: Mutex<Vec<Vec<f32>>>,
}

impl LayeredScorer {
    /// `columns` are those of the layers to come. `None` where the adaptor has two layers: between them stands a LeakyReLU.
    pub(crate) fn new(head: &Head, columns: &[Range<usize>], precision: Precision) -> Result<Option<LayeredScorer>> {
        let (dim, hidden) = (head.config.dim, head.config.hidden);
        // In order, perhaps overlapping, without a gap, to the end.
        let mut covered = 0;
        let fit = columns.iter().all(|columns| {
            let fits = columns.start <= covered && columns.end > covered && columns.end <= dim;
            covered = columns.end;
            fits
        });
        if !fit || covered != dim {
            let columns = columns.to_vec();
            return Err(Error::Columns { columns, dim });
        }
        let Folded {
            first: None,
            matrix,
            bias,
            output,
        } = Folded::new(head)?
        else {
            return Ok(None);
        };
        let pack = |columns: &Range<usize>| -> Result<_> {
            let part: Vec<f32> = (matrix.chunks_exact(dim))
                .flat_map(|row| &row[columns.clone()])
                .copied()
                .collect();
            let part = MatRef::new(&part, hidden, columns.len())?.t();
            Ok((columns.clone(), PackedB::in_precision(precision, part)?))
        };
        Ok(Some(LayeredScorer {
            hidden,
            layers: columns.iter().map(pack).collect::<Result<_>>()?,
            bias,
            output,
            kept: Mutex::default(),
        }))
    }

    /// Anomaly scores −D, one for each position of the first layer's grid, image by image; higher is more anomalous.
    ///
    /// # Errors
    /// [`Error::Layers`] where the layers are not those it was made for, [`Error::Patch`] where they are of different numbers
    /// of images, [`Error::Gemm`] where a map is shorter than its shape, [`Error::ScoreNotFinite`] where one holds NaN.
    pub fn score(&self, layers: &[Layer]) -> Result<Vec<f32>> {
        let found: Vec<_> = layers.iter().map(|layer| layer.columns.clone()).collect();
        if !found.iter().eq(self.layers.iter().map(|(columns, _)| columns)) {
            let expected = self.layers.iter().map(|(columns, _)| columns.clone()).collect();
            return Err(Error::Layers { found, expected });
        }
        let Some(first) = layers.first().map(|layer| &layer.share) else {
            return Ok(Vec::new());
        };
        if let Some((map, other)) = layers.iter().enumerate().find(|(_, layer)| layer.share.n != first.n) {
            let (found, expected) = (other.share.n, first.n);
            return Err(PatchError::Batch { map, found, expected }.into());
        }
        let at_once = (ROWS_AT_ONCE / (first.h * first.w).max(1)).max(1);
        let mut scores = Vec::with_capacity(first.n * first.h * first.w);
        for begin in (0..first.n).step_by(at_once) {
            let images = begin..(begin + at_once).min(first.n);
            let products = layers.iter().zip(&self.layers);
            let products: Vec<FeatureMap> = products
                .map(|(layer, (_, matrix))| self.multiply(&layer.share, images.clone(), matrix))
                .collect::<Result<_>>()?;
            scores.extend(reduce(&products.iter().collect::<Vec<_>>(), |sums| {
                let columns = [sums, &self.bias, &self.output];
                -sums::sum_lanes(columns, |[x, bias, output]| leaky(x + bias) * output)
            })?);
            self.kept().extend(products.into_iter().map(|product| product.data));
        }
        match scores.iter().position(|score| !score.is_finite()) {
            Some(row) => Err(Error::ScoreNotFinite { row }),
            None => Ok(scores),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Vec<f32>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A layer's part of the hidden activations of some images, on its own grid.
    fn multiply(&self, share: &FeatureMap, images: Range<usize>, matrix: &PackedB<f32>) -> Result<FeatureMap> {
        let FeatureMap { h, w, c, .. } = *share;
        let rows = images.len() * h * w;
        let mut data = self.kept().pop().unwrap_or_default();
        data.resize(rows * self.hidden, 0.0);
        // A map that is shorter than its shape has no such rows, and the product refuses that.
        let input = share
            .data
            .get(images.start * h * w * c..images.end * h * w * c)
            .unwrap_or_default();
        gemm_packed(
            MatRef::new(input, rows, c)?,
            matrix,
            MatMut::new(&mut data, rows, self.hidden)?,
            Accumulate::Overwrite,
        )?;
        Ok(FeatureMap {
            n: images.len(),
            h,
            w,
            c: self.hidden,
            data,
        })
    }
}
