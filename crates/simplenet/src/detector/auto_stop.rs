//! How long to train, without labels: until held-out good images and the same images with noise move no further apart.

use std::ops::ControlFlow;

use simplenet_heads::{Bank, Head, Scorer, Standardizer, fill_noise};

use super::card::{AutoStop, Look};
use super::settings::DetectorConfig;
use super::training::Images;
use crate::error::Error;
use crate::method::Model;

/// Looks in a full training.
const LOOKS: usize = 20;
/// Looks without a gain after which training has settled.
const PATIENCE: usize = 4;
/// A gain below this share is none.
const GAIN: f64 = 0.02;
/// The separation from which on there is something to settle: before noise is told from good features at all, looks differ by
/// chance.
const SEPARATED: f64 = 1.0;
/// The share of images that is held out, one in so many.
const HELD_OUT: usize = 5;
/// Seed of the noise that stands for defects here; training draws its own from other numbers.
const NOISE_SEED: u64 = 0x5EED_0F57_0B1E;

/// Trains on four fifths of the images and looks at the others now and then. The noise is as large as that of training, on the
/// features of one patch in a hundred: an image with a small defect, which is what an image score has to tell from a good one.
pub(super) fn find(
    images: &Images,
    config: &DetectorConfig,
    mut progress: impl FnMut(usize),
) -> Result<AutoStop, Error> {
    let count = images.names.len();
    let part = count - (count / HELD_OUT).max(1)..count;
    let rest = images.only(&Vec::from_iter(0..part.start), config)?;
    let held_out = images.entries(part.start).start..images.entries(count - 1).end;
    let noise = Noise::new(images.learnt(), config.model.train.noise as f32);
    let epochs = config.model.train.epochs;
    let every = epochs.div_ceil(LOOKS);
    let mut curve: Vec<Look> = Vec::new();
    Model::fit(&rest, &config.model, config.seed, |report, head| {
        progress(report.epoch);
        if !report.epoch.is_multiple_of(every) && report.epoch != epochs {
            return Ok::<_, Error>(ControlFlow::Continue(()));
        }
        let scorer = head.scorer_in(config.model.features.precision)?;
        let scores = held_out
            .clone()
            .map(|entry| noise.scores(images.learnt(), entry, head, &scorer));
        let scores: Vec<[f32; 2]> = scores.collect::<Result<_, Error>>()?;
        curve.push(look(report.epoch, &scores));
        Ok(if has_settled(&curve) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    let look = &curve[best(&curve)];
    Ok(AutoStop {
        epochs: if look.separation < SEPARATED {
            epochs
        } else {
            look.epoch
        },
        most: epochs,
        curve,
    })
}

fn has_settled(curve: &[Look]) -> bool {
    let best = best(curve);
    curve.len() > best + PATIENCE && curve[best].separation >= SEPARATED
}

/// The first look that no later one surpasses by a gain worth its time.
fn best(curve: &[Look]) -> usize {
    let mut best = 0;
    for (index, look) in curve.iter().enumerate() {
        if look.separation > curve[best].separation * (1.0 + GAIN) {
            best = index;
        }
    }
    best
}

/// The distance of two sets of image scores in their own spread (d′ of signal detection).
fn look(epoch: usize, scores: &[[f32; 2]]) -> Look {
    let count = scores.len() as f64;
    let mean = |side: usize| scores.iter().map(|pair| f64::from(pair[side])).sum::<f64>() / count;
    let means = [mean(0), mean(1)];
    let variance = |side: usize| {
        let squares = scores.iter().map(|pair| (f64::from(pair[side]) - means[side]).powi(2));
        squares.sum::<f64>() / count
    };
    let spread = (0.5 * (variance(0) + variance(1))).sqrt();
    Look {
        epoch,
        good: means[0],
        noised: means[1],
        // A spread of 0, with one image, gives no distance.
        separation: (means[1] - means[0]) / spread.max(f64::from(f32::EPSILON)),
    }
}

/// What is added to features.
struct Noise {
    sigma: f32,
    /// Size of one standard deviation of every channel, where σ is a share of it.
    deviation: Vec<f32>,
}

impl Noise {
    fn new(bank: &Bank, sigma: f32) -> Noise {
        let scales = Standardizer::fit(bank).scale().to_vec();
        Noise {
            sigma,
            deviation: scales.iter().map(|scale| 1.0 / scale).collect(),
        }
    }

    /// The image scores of an entry of a bank as it is, and with noise.
    fn scores(&self, bank: &Bank, entry: usize, head: &Head, scorer: &Scorer) -> Result<[f32; 2], Error> {
        let dim = bank.dim();
        let highest = |scores: Vec<f32>| scores.into_iter().fold(f32::NEG_INFINITY, f32::max);
        let mut rows = bank.image(entry).to_vec();
        let good = highest(scorer.score(&rows)?);
        let chosen = (bank.rows_per_image() / 100).max(1);
        let mut noise = vec![0.0; chosen * dim];
        fill_noise(&mut noise, NOISE_SEED, entry as u64, self.sigma);
        for (index, noise) in noise.chunks_exact(dim).enumerate() {
            // Spread over the entry, elsewhere in each.
            let row = (index * 100 + entry * 37) % bank.rows_per_image();
            let row = &mut rows[row * dim..(row + 1) * dim];
            for ((value, noise), deviation) in row.iter_mut().zip(noise).zip(&self.deviation) {
                let unit = if head.standardizer().is_some() { *deviation } else { 1.0 };
                *value += noise * unit;
            }
        }
        Ok([good, highest(scorer.score(&rows)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(separations: &[f64]) -> Vec<Look> {
        let looks = separations.iter().enumerate().map(|(index, &separation)| Look {
            epoch: index + 1,
            good: 0.0,
            noised: 0.0,
            separation,
        });
        looks.collect()
    }

    #[test]
    fn the_best_look_is_the_last_one_that_was_worth_its_time() {
        let curve = curve(&[1.0, 2.0, 3.0, 3.05, 3.04, 2.9]);
        assert_eq!(best(&curve), 2);
        assert!(!has_settled(&curve));
        let far = look(1, &[[0.0, 3.0], [1.0, 4.0]]);
        assert_eq!((far.good, far.noised, far.separation), (0.5, 3.5, 6.0));
    }

    #[test]
    fn training_settles_after_it_has_begun() {
        // The looks at a training that had hardly begun.
        assert!(!has_settled(&curve(&[0.0, 0.23, 0.0, 0.06, 0.14, 0.16])));
        assert!(has_settled(&curve(&[0.0, 0.23, 3.0, 3.0, 2.9, 3.0, 3.01])));
    }
}
