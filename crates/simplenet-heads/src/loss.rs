//! The losses and their gradients with respect to the scores D.

use crate::config::Loss;
use crate::scalar::Scalar;

/// What a step found out about the discriminator, before the update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The loss.
    pub loss: f64,
    /// Mean of D over the normal rows.
    pub mean_normal: f64,
    /// Mean of D over the noised rows.
    pub mean_noised: f64,
    /// Fraction of the normal rows with D ≥ th⁺ (`p_true` of the authors' log); th⁺ is 0 for cross entropy.
    pub normal_past_margin: f64,
    /// Fraction of the noised rows with D < th⁻ (`p_fake` of the authors' log); th⁻ is 0 for cross entropy.
    pub noised_past_margin: f64,
}

impl Loss {
    /// th⁺ and th⁻; cross entropy has its decision boundary, 0, for both.
    pub fn margins(self) -> (f64, f64) {
        match self {
            Loss::TruncatedL1 {
                positive_margin,
                negative_margin,
            } => (positive_margin, negative_margin),
            Loss::CrossEntropy => (0.0, 0.0),
        }
    }

    /// Looks at the scores D of the normal rows and of the noised rows.
    pub(crate) fn report<T: Scalar>(self, normal: &[T], noised: &[T]) -> StepReport {
        let (positive, negative) = self.margins();
        let mean = |values: &[T], of: &dyn Fn(f64) -> f64| {
            values.iter().map(|value| of(value.to_f64())).sum::<f64>() / values.len() as f64
        };
        let indicator = |holds: bool| if holds { 1.0 } else { 0.0 };
        let loss = match self {
            // NaN must stay NaN, and f64::max would drop it.
            Loss::TruncatedL1 { .. } => {
                let truncated = |x: f64| if x < 0.0 { 0.0 } else { x };
                mean(normal, &|d| truncated(positive - d)) + mean(noised, &|d| truncated(d - negative))
            }
            Loss::CrossEntropy => mean(normal, &|d| softplus(-d)) + mean(noised, &softplus),
        };
        StepReport {
            loss,
            mean_normal: mean(normal, &|d| d),
            mean_noised: mean(noised, &|d| d),
            normal_past_margin: mean(normal, &|d| indicator(d >= positive)),
            noised_past_margin: mean(noised, &|d| indicator(d < negative)),
        }
    }
}

/// The loss's derivative with respect to one score D. At a margin itself it is not zero, as with `torch.clip`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LossGradient<T> {
    loss: Loss,
    positive: T,
    negative: T,
    /// 1 / rows: both terms are means.
    share: T,
}

impl<T: Scalar> LossGradient<T> {
    pub(crate) fn new(loss: Loss, rows: usize) -> LossGradient<T> {
        let (positive, negative) = loss.margins();
        LossGradient {
            loss,
            positive: T::from_f64(positive),
            negative: T::from_f64(negative),
            share: T::from_f64(1.0 / rows as f64),
        }
    }

    /// At a normal row.
    pub(crate) fn at_normal(&self, score: T) -> T {
        match self.loss {
            Loss::TruncatedL1 { .. } if self.positive - score >= T::ZERO => -self.share,
            Loss::TruncatedL1 { .. } => T::ZERO,
            Loss::CrossEntropy => T::from_f64(-sigmoid(-score.to_f64())) * self.share,
        }
    }

    /// At a noised row.
    pub(crate) fn at_noised(&self, score: T) -> T {
        match self.loss {
            Loss::TruncatedL1 { .. } if score - self.negative >= T::ZERO => self.share,
            Loss::TruncatedL1 { .. } => T::ZERO,
            Loss::CrossEntropy => T::from_f64(sigmoid(score.to_f64())) * self.share,
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// ln(1 + eˣ) without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
