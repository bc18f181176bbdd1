//! Scores in order, split by truth: what every threshold metric is computed from.
//!
//! A metric changes only where a threshold passes an anomalous score, and those are few (some percent of the pixels). So
//! the normal scores are sorted as bare 32-bit keys, the anomalous ones with the region they lie in, and both lists are
//! walked together once, from the highest score down.

use rayon::prelude::*;

use crate::radix;
use crate::{Error, Result};

/// Scores per unit of parallel work.
const BLOCK: usize = 1 << 16;

/// Checked, sorted scores with at least one of each class.
pub(crate) struct Ranking {
    /// Keys of the normal scores, ascending.
    normal: Vec<u32>,
    /// Key (upper half) and region (lower half) of the anomalous scores, ascending by key.
    anomalous: Vec<u64>,
}

/// One distinct anomalous score, and what a threshold there would find.
pub(crate) struct Level<'a> {
    /// The score itself.
    pub(crate) score: f32,
    entries: &'a [u64],
    /// Anomalous scores at or above this one.
    pub(crate) true_positives: u64,
    /// Normal scores above this one.
    pub(crate) false_positives_above: u64,
    /// Normal scores at or above this one.
    pub(crate) false_positives: u64,
}

impl Ranking {
    /// Sorts `scores`. `regions` yields the region of every anomalous score in the order of the slice, or nothing.
    pub(crate) fn new(scores: &[f32], anomalous: &[bool], regions: impl Iterator<Item = u32>) -> Result<Self> {
        if scores.len() != anomalous.len() {
            return Err(Error::LengthMismatch {
                scores: scores.len(),
                truths: anomalous.len(),
            });
        }
        if scores.is_empty() {
            return Err(Error::Empty);
        }
        let (normal, anomalous) = split_by_truth(scores, anomalous)?;
        if normal.is_empty() || anomalous.is_empty() {
            return Err(Error::OneClass {
                normal: normal.len(),
                anomalous: anomalous.len(),
            });
        }
        let mut ranking = Self { normal, anomalous };
        for (entry, region) in ranking.anomalous.iter_mut().zip(regions) {
            *entry |= u64::from(region);
        }
        radix::sort(&mut ranking.normal);
        radix::sort(&mut ranking.anomalous);
        Ok(ranking)
    }

    pub(crate) fn normal_count(&self) -> u64 {
        self.normal.len() as u64
    }

    pub(crate) fn anomalous_count(&self) -> u64 {
        self.anomalous.len() as u64
    }

    /// The distinct anomalous scores from the highest down.
    pub(crate) fn levels(&self) -> impl Iterator<Item = Level<'_>> {
        let mut entries = self.anomalous.as_slice();
        let mut normal = self.normal.as_slice();
        std::iter::from_fn(move || {
            let key = (entries.last()? >> 32) as u32;
            normal = without_trailing(normal, |&other| other > key);
            let above = self.normal.len() - normal.len();
            normal = without_trailing(normal, |&other| other == key);
            let left = without_trailing(entries, |&entry| (entry >> 32) as u32 == key);
            let level = Level {
                score: score_of(key),
                entries: &entries[left.len()..],
                true_positives: (self.anomalous.len() - left.len()) as u64,
                false_positives_above: above as u64,
                false_positives: (self.normal.len() - normal.len()) as u64,
            };
            entries = left;
            Some(level)
        })
    }
}

impl Level<'_> {
    /// The regions of the anomalous scores that equal this one.
    pub(crate) fn regions(&self) -> impl Iterator<Item = u32> {
        self.entries.iter().map(|&entry| entry as u32)
    }
}

/// The first NaN of `scores` as an error.
pub(crate) fn refuse_nan(scores: &[f32]) -> Result<()> {
    match scores.par_iter().position_first(|score| score.is_nan()) {
        Some(index) => Err(Error::NotANumber {
            index,
            scores: scores.len(),
        }),
        None => Ok(()),
    }
}

/// The slice without the elements at its end that satisfy `passed`.
fn without_trailing<T>(sorted: &[T], passed: impl Fn(&T) -> bool) -> &[T] {
    let count = sorted.iter().rev().take_while(|item| passed(item)).count();
    &sorted[..sorted.len() - count]
}

/// Keys of the normal scores, and keys in the upper half of the anomalous ones, each in the order of the slice.
fn split_by_truth(scores: &[f32], truth: &[bool]) -> Result<(Vec<u32>, Vec<u64>)> {
    let counts: Vec<usize> = truth
        .par_chunks(BLOCK)
        .map(|block| block.iter().map(|&anomalous| usize::from(anomalous)).sum())
        .collect();
    let anomalous_count: usize = counts.iter().sum();
    let mut anomalous = vec![0_u64; anomalous_count];
    let mut normal = vec![0_u32; scores.len() - anomalous_count];

    let mut blocks = Vec::with_capacity(counts.len());
    let (mut anomalous_rest, mut normal_rest) = (anomalous.as_mut_slice(), normal.as_mut_slice());
    for ((scores, truth), count) in scores.chunks(BLOCK).zip(truth.chunks(BLOCK)).zip(counts) {
        let (anomalous, others) = anomalous_rest.split_at_mut(count);
        anomalous_rest = others;
        let (normal, others) = normal_rest.split_at_mut(scores.len() - count);
        normal_rest = others;
        blocks.push((scores, truth, normal.iter_mut(), anomalous.iter_mut()));
    }

    let nan = blocks
        .into_par_iter()
        .any(|(scores, truth, mut normal, mut anomalous)| {
            let mut nan = false;
            for (&score, &is_anomalous) in scores.iter().zip(truth) {
                nan |= score.is_nan();
                if is_anomalous {
                    if let Some(place) = anomalous.next() {
                        *place = u64::from(key_of(score)) << 32;
                    }
                } else if let Some(place) = normal.next() {
                    *place = key_of(score);
                }
            }
            nan
        });
    if nan {
        refuse_nan(scores)?;
    }
    Ok((normal, anomalous))
}

/// An integer in the order of the score; `-0.0` and `0.0` share one.
fn key_of(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits(); // -0.0 + 0.0 is 0.0
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn score_of(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

#[cfg(test)]
mod tests {
    use super::{key_of, score_of};

    #[test]
    fn keys_order_as_scores_and_give_them_back() {
        let ascending = [
            f32::NEG_INFINITY,
            f32::MIN,
            -1.0,
            -f32::MIN_POSITIVE,
            -1e-45,
            0.0,
            1e-45,
            0.1,
            1.0,
            f32::MAX,
            f32::INFINITY,
        ];
        for pair in ascending.windows(2) {
            assert!(key_of(pair[0]) < key_of(pair[1]), "{pair:?}");
        }
        for score in ascending {
            assert_eq!(score_of(key_of(score)).to_bits(), score.to_bits());
        }
        assert_eq!(key_of(-0.0), key_of(0.0));
    }
}
