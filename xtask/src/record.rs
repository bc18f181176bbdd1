//! What some figures need beside the metrics.

use std::time::Instant;

use anyhow::{Result, ensure};
use simplenet::config::Config;
use simplenet::device::FeatureBank;
use simplenet::{Features, Model, Pipeline, Scores};
use simplenet_data::{Dataset, load_images};
use simplenet_heads::{Head, ImageScores};
use simplenet_report::{Measurement, Row};

/// A number of a cell that is still without its cell.
pub(crate) struct Recorded {
    quantity: &'static str,
    x: u64,
    value: f64,
}

impl Recorded {
    pub(crate) fn new(quantity: &'static str, x: usize, value: f64) -> Recorded {
        Recorded {
            quantity,
            x: x as u64,
            value,
        }
    }

    /// With the cell that `row` tells of.
    pub(crate) fn of(self, row: &Row) -> Measurement {
        Measurement {
            experiment: row.experiment.clone(),
            variant: row.variant.clone(),
            protocol: row.protocol.clone(),
            dataset: row.dataset.clone(),
            category: row.category.clone(),
            backbone: row.backbone.clone(),
            seed: row.seed,
            config_sha256: row.config_sha256.clone(),
            quantity: self.quantity.to_string(),
            x: self.x,
            value: self.value,
        }
    }
}

/// Standard deviation of every dimension over the training patches, before and after the adaptor (Figure 4).
pub(crate) fn deviations(head: &Head, bank: &FeatureBank) -> Result<Vec<Recorded>> {
    let (mut before, mut after) = (Moments::new(bank.dim()), Moments::new(bank.dim()));
    for image in 0..bank.images() {
        let rows = bank.image(image)?;
        before.add(&rows);
        after.add(&head.adapt(&rows)?);
    }
    let named = |quantity, moments: Moments| {
        let deviations = moments.deviations().into_iter().enumerate();
        deviations.map(move |(dimension, value)| Recorded::new(quantity, dimension, value))
    };
    Ok(named("deviation_before", before)
        .chain(named("deviation_after", after))
        .collect())
}

/// Running mean and squared deviation per dimension (Welford 1962): sums of squares would cancel where the mean is large.
struct Moments {
    rows: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    fn new(dim: usize) -> Moments {
        Moments {
            rows: 0.0,
            mean: vec![0.0; dim],
            squares: vec![0.0; dim],
        }
    }

    fn add(&mut self, rows: &[f32]) {
        for row in rows.chunks_exact(self.mean.len()) {
            self.rows += 1.0;
            for ((mean, squares), &value) in self.mean.iter_mut().zip(&mut self.squares).zip(row) {
                let difference = f64::from(value) - *mean;
                *mean += difference / self.rows;
                *squares += difference * (f64::from(value) - *mean);
            }
        }
    }

    fn deviations(&self) -> Vec<f64> {
        self.squares
            .iter()
            .map(|squares| (squares / self.rows).sqrt())
            .collect()
    }
}

/// Milliseconds of single test images, one after the other (Figure 2): `latency_ms` from the file to the smoothed map, and of
/// that `head_ms` from the patch features to the scores: those of the stages where the method joins them itself, as
/// SimpleNet does, else joined. The first `warmup` images are not counted; a test set smaller than that goes round.
pub(crate) fn latencies(
    pipeline: &Pipeline,
    model: &Model,
    dataset: &Dataset,
    config: &Config,
    warmup: usize,
    images: usize,
) -> Result<Vec<Recorded>> {
    ensure!(
        !dataset.test.is_empty(),
        "`{}` has no test images to time",
        dataset.category
    );
    let [rows, columns] = pipeline.grid();
    let mut recorded = Vec::with_capacity(2 * images);
    for index in 0..warmup + images {
        let sample = &dataset.test[index % dataset.test.len()];
        let start = Instant::now();
        let image = load_images(std::slice::from_ref(sample), pipeline.preprocess())?;
        let features = pipeline.features_for(model, &image)?;
        let head_start = Instant::now();
        let scored = match &features {
            Features::Rows(rows) => model.score_image(rows)?,
            layers => ImageScores::largest(pipeline.score(model, layers)?),
        };
        let head = head_start.elapsed();
        let scores = Scores {
            images: vec![scored.image],
            patches: scored.patches,
            shape: [1, rows, columns],
        };
        let map = scores.maps(config.preprocess.crop, config.evaluate.blur_sigma)?;
        let whole = start.elapsed();
        std::hint::black_box(map);
        if let Some(x) = index.checked_sub(warmup) {
            recorded.push(Recorded::new("latency_ms", x, whole.as_secs_f64() * 1e3));
            recorded.push(Recorded::new("head_ms", x, head.as_secs_f64() * 1e3));
        }
    }
    Ok(recorded)
}

/// Bytes of a fitted method in a detector file, without the backbone.
pub(crate) fn model_bytes(model: &Model) -> usize {
    model.stored_tensors("").iter().map(|tensor| tensor.bytes.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::Moments;

    #[test]
    fn moments_over_parts_are_those_of_the_whole() {
        let mut moments = Moments::new(2);
        moments.add(&[1e6, 0.0, 1e6 + 1.0, 0.0]);
        moments.add(&[1e6 + 2.0, 3.0]);
        let deviations = moments.deviations();
        assert!((deviations[0] - (2.0_f64 / 3.0).sqrt()).abs() < 1e-6);
        assert!((deviations[1] - 2.0_f64.sqrt()).abs() < 1e-12);
    }
}
