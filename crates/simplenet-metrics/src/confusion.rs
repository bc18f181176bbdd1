use crate::ranking::refuse_nan;
use crate::{Error, Result};

/// Hits and errors at one threshold, in numbers of images or of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confusion {
    /// Anomalous and called so.
    pub true_positives: u64,
    /// Normal but called anomalous.
    pub false_positives: u64,
    /// Anomalous but called normal.
    pub false_negatives: u64,
    /// Normal and called so.
    pub true_negatives: u64,
}

impl Confusion {
    /// Counts with `score >= threshold` called anomalous. One class alone is fine here.
    ///
    /// # Errors
    /// Lengths that differ, no scores, or a NaN.
    pub fn at(scores: &[f32], anomalous: &[bool], threshold: f32) -> Result<Self> {
        if scores.len() != anomalous.len() {
            return Err(Error::LengthMismatch {
                scores: scores.len(),
                truths: anomalous.len(),
            });
        }
        if scores.is_empty() {
            return Err(Error::Empty);
        }
        refuse_nan(scores)?;
        let mut counts = Self::nothing_found(0, 0);
        for (&score, &is_anomalous) in scores.iter().zip(anomalous) {
            match (score >= threshold, is_anomalous) {
                (true, true) => counts.true_positives += 1,
                (true, false) => counts.false_positives += 1,
                (false, true) => counts.false_negatives += 1,
                (false, false) => counts.true_negatives += 1,
            }
        }
        Ok(counts)
    }

    /// Share of true alarms among all alarms; `None` where there is no alarm.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.true_positives, self.true_positives + self.false_positives)
    }

    /// Share of the anomalous that was found; `None` where nothing is anomalous.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// The harmonic mean of both, 2 TP / (2 TP + FP + FN); `None` where nothing is anomalous and there is no alarm.
    pub fn f1(&self) -> Option<f64> {
        let (hits, of) = self.f1_fraction();
        (of > 0).then(|| hits as f64 / of as f64)
    }

    /// False positives over *everything*, normal or not: `optimal_fpr` in the authors' `metrics.py`, which is not the
    /// false-positive rate of a ROC curve.
    pub fn false_positive_fraction(&self) -> f64 {
        self.false_positives as f64 / self.total() as f64
    }

    /// False negatives over *everything*, anomalous or not: `optimal_fnr` in the authors' `metrics.py`.
    pub fn false_negative_fraction(&self) -> f64 {
        self.false_negatives as f64 / self.total() as f64
    }

    pub(crate) fn nothing_found(normal: u64, anomalous: u64) -> Self {
        Self {
            true_positives: 0,
            false_positives: 0,
            false_negatives: anomalous,
            true_negatives: normal,
        }
    }

    /// F1 as numerator and denominator.
    pub(crate) fn f1_fraction(&self) -> (u128, u128) {
        let hits = 2 * u128::from(self.true_positives);
        (
            hits,
            hits + u128::from(self.false_positives) + u128::from(self.false_negatives),
        )
    }

    fn total(&self) -> u64 {
        self.true_positives + self.false_positives + self.false_negatives + self.true_negatives
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
