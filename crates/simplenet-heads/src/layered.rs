//! A head folded for inference, one matrix per layer of the backbone.

use std::ops::Range;

use simplenet_kernels::engine::Precision;
use simplenet_kernels::gemm::{MatRef, PackedB};
use simplenet_kernels::patch::{Layer, Multiplied, Scratch, multiply_and_reduce};

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
    /// Columns of the row, and `[columns, hidden]`.
    layers: Vec<(Range<usize>, PackedB<f32>)>,
    /// `[hidden]`.
    bias: Vec<f32>,
    /// `[hidden]`.
    output: Vec<f32>,
    scratch: Scratch,
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
            layers: columns.iter().map(pack).collect::<Result<_>>()?,
            bias,
            output,
            scratch: Scratch::default(),
        }))
    }

    /// Anomaly scores −D, one for each position of the first layer's grid, image by image; higher is more anomalous.
    ///
    /// # Errors
    /// [`Error::Layers`] where the layers are not those it was made for, [`Error::Patch`] where they are of different numbers
    /// of images or a map's data does not have its shape, [`Error::ScoreNotFinite`] where one holds NaN.
    pub fn score(&self, layers: &[Layer]) -> Result<Vec<f32>> {
        let found: Vec<_> = layers.iter().map(|layer| layer.columns.clone()).collect();
        if !found.iter().eq(self.layers.iter().map(|(columns, _)| columns)) {
            let expected = self.layers.iter().map(|(columns, _)| columns.clone()).collect();
            return Err(Error::Layers { found, expected });
        }
        let Some(first) = layers.first().map(|layer| &layer.share) else {
            return Ok(Vec::new());
        };
        let at_once = (ROWS_AT_ONCE / (first.h * first.w).max(1)).max(1);
        let maps = layers.iter().zip(&self.layers);
        let maps: Vec<Multiplied> = maps.map(|(layer, (_, matrix))| (&layer.share, matrix)).collect();
        let mut scores = Vec::with_capacity(first.n * first.h * first.w);
        for begin in (0..first.n).step_by(at_once) {
            let images = begin..(begin + at_once).min(first.n);
            scores.extend(multiply_and_reduce(
                &maps,
                images,
                &self.scratch,
                #[inline(always)]
                |sums| {
                    let columns = [sums, &self.bias, &self.output];
                    -sums::sum_lanes(columns, |[x, bias, output]| leaky(x + bias) * output)
                },
            )?);
        }
        match scores.iter().position(|score| !score.is_finite()) {
            Some(row) => Err(Error::ScoreNotFinite { row }),
            None => Ok(scores),
        }
    }
}
