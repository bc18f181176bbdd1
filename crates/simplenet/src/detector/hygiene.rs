//! What is odd about a set of training images.

use rayon::prelude::*;
use simplenet_heads::Standardizer;

use super::card::{Duplicate, EpochCard, Halved, HeldOut, Suspect};
use super::training::Images;

/// Of the 21,736 pairs of bottle (MVTec AD) one lies below, which a person would call the same photograph too; of the
/// 51,040 of screw none does.
const NEARLY_THE_SAME: f32 = 0.15;

/// Epochs at the end whose losses are looked at.
const LAST_EPOCHS: usize = 8;

/// Of fewer scores quartiles say nothing.
const FEWEST_SCORES: usize = 12;

/// Held-out scores beyond Tukey's far-out fence, third quartile + 3 × interquartile range; the highest first.
pub(crate) fn suspects(held_out: &[HeldOut]) -> Vec<Suspect> {
    if held_out.len() < FEWEST_SCORES {
        return Vec::new();
    }
    let mut sorted: Vec<f32> = held_out.iter().map(|image| image.score).collect();
    sorted.sort_by(f32::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return Vec::new();
    };
    let (first, third) = (sorted[last / 4], sorted[last * 3 / 4]);
    let fence = third + 3.0 * (third - first);
    let mut suspects: Vec<Suspect> = held_out
        .iter()
        .filter(|image| image.score > fence)
        .map(|image| Suspect {
            file: image.file.clone(),
            score: image.score,
            fence,
        })
        .collect();
    suspects.sort_by(|a, b| b.score.total_cmp(&a.score));
    suspects
}

/// Compares scores of the same images, by models of all others and by models of half as many. None without images, or where scores are
/// no distances.
pub(crate) fn halved(of_all: &[f32], of_halves: &[f32]) -> Option<Halved> {
    let means = |scores: &[f32]| {
        let mut sorted: Vec<f64> = scores.iter().map(|&score| f64::from(score)).collect();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let highest = sorted.len().div_ceil(10);
        [sorted.len(), highest].map(|count| sorted[..count].iter().sum::<f64>() / count as f64)
    };
    let (all, halves) = (means(of_all), means(of_halves));
    let ratio = |index: usize| (all[index] > 0.0).then(|| (halves[index] / all[index]) as f32);
    Some(Halved {
        images: of_all.len(),
        mean: ratio(0)?,
        highest: ratio(1)?,
    })
}

/// Pairs of images that are the same, or nearly, in the order of the images. Images in different numbers of squares are
/// not.
pub(crate) fn duplicates(images: &Images, standardizer: &Standardizer) -> Vec<Duplicate> {
    let count = images.names.len();
    let means: Vec<Vec<f32>> = (0..count)
        .into_par_iter()
        .map(|image| mean_row(images.learnt_rows(image), standardizer))
        .collect();
    let squares = |image: usize| images.entries(image).len();
    let pairs: Vec<Vec<Duplicate>> = (0..count)
        .into_par_iter()
        .map(|first| {
            // The distance of the means is never above that of the images (Jensen), so most pairs cost one row.
            let candidates = (first + 1..count).filter(|&second| {
                squares(first) == squares(second) && distance(&means[first], &means[second]) < NEARLY_THE_SAME
            });
            let near = candidates.filter_map(|second| {
                let pairs = images.learnt_rows(first).zip(images.learnt_rows(second));
                Some((second, scaled_distance(pairs, standardizer, NEARLY_THE_SAME)?))
            });
            let described = near.map(|(second, distance)| Duplicate {
                first: images.names[first].clone(),
                second: images.names[second].clone(),
                distance,
            });
            described.collect()
        })
        .collect();
    pairs.concat()
}

/// Whether the loss of the last epochs goes up and down by more than half of what it is; a loss that still falls does not.
pub(crate) fn oscillates(training: &[EpochCard]) -> bool {
    if training.len() < 2 * LAST_EPOCHS {
        return false;
    }
    let last = &training[training.len() - LAST_EPOCHS..];
    let mean = last.iter().map(|epoch| epoch.loss).sum::<f64>() / LAST_EPOCHS as f64;
    let rises = last.windows(2).map(|pair| (pair[1].loss - pair[0].loss).max(0.0));
    rises.sum::<f64>() > 0.5 * mean
}

fn mean_row<'a>(squares: impl Iterator<Item = &'a [f32]>, standardizer: &Standardizer) -> Vec<f32> {
    let dim = standardizer.dim();
    let mut sums = vec![0.0_f64; dim];
    let mut count = 0.0;
    for row in squares.flat_map(|rows| rows.chunks_exact(dim)) {
        count += 1.0;
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += f64::from(value);
        }
    }
    let means = sums.iter().zip(standardizer.mean().iter().zip(standardizer.scale()));
    means
        .map(|(sum, (&mean, &scale))| (sum / count - f64::from(mean)) as f32 * scale)
        .collect()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    let sum: f32 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    (sum / a.len() as f32).sqrt()
}

/// `None` where it is not below `limit`, which mostly shows after a few rows.
fn scaled_distance<'a>(
    pairs: impl Iterator<Item = (&'a [f32], &'a [f32])> + Clone,
    standardizer: &Standardizer,
    limit: f32,
) -> Option<f32> {
    let dim = standardizer.dim();
    let count: usize = pairs.clone().map(|(a, _)| a.len()).sum();
    let most = f64::from(limit).powi(2) * count as f64;
    let mut sum = 0.0_f64;
    for (a, b) in pairs.flat_map(|(a, b)| a.chunks_exact(dim).zip(b.chunks_exact(dim))) {
        let differences = a.iter().zip(b).zip(standardizer.scale());
        let squares = differences.map(|((a, b), scale)| ((a - b) * scale) * ((a - b) * scale));
        sum += f64::from(squares.sum::<f32>());
        if sum >= most {
            return None;
        }
    }
    Some((sum / count as f64).sqrt() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_compared_by_all_scores_and_by_the_highest_tenth() {
        let of_all: Vec<f32> = (1..=20).map(|score| score as f32).collect();
        let mut of_halves = of_all.clone();
        (of_halves[18], of_halves[19]) = (30.0, 48.0);
        of_halves.reverse();
        let found = halved(&of_all, &of_halves).unwrap();
        assert_eq!((found.images, found.mean, found.highest), (20, 249.0 / 210.0, 2.0));
        assert_eq!(halved(&[], &[]), None);
        assert_eq!(halved(&[0.0], &[0.0]), None);
    }

    #[test]
    fn a_loss_that_swings_is_told_from_one_that_falls() {
        let training = |loss: fn(usize) -> f64| -> Vec<EpochCard> {
            let epochs = (0..20).map(|epoch| EpochCard {
                epoch: epoch + 1,
                loss: loss(epoch),
                normal: 0.0,
                noised: 0.0,
            });
            epochs.collect()
        };
        assert!(!oscillates(&training(|epoch| 0.8_f64.powi(epoch as i32))));
        assert!(!oscillates(&training(|epoch| 0.1 + 0.005 * (epoch % 2) as f64)));
        assert!(oscillates(&training(|epoch| 0.1 + 0.05 * (epoch % 2) as f64)));
    }

    #[test]
    fn a_score_far_out_is_a_suspect_and_the_highest_of_a_normal_set_is_not() {
        let held_out = |scores: &[f32]| -> Vec<HeldOut> {
            let named = scores.iter().enumerate().map(|(index, &score)| HeldOut {
                file: format!("{index}.png"),
                score,
                peak: score,
            });
            named.collect()
        };
        let normal = [0.1, 0.12, 0.08, 0.11, 0.09, 0.13, 0.15, 0.1, 0.07, 0.1, 0.11, 0.12];
        assert!(suspects(&held_out(&normal)).is_empty());
        let mut odd = normal.to_vec();
        odd.insert(4, 0.9);
        let found = suspects(&held_out(&odd));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].file, "4.png");
        // Too few to say what is usual.
        assert!(suspects(&held_out(&odd[..11])).is_empty());
    }
}
