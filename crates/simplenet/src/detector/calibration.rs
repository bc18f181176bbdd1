//! From the scores of held-out good images to a threshold that keeps a promise about false rejects.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How sure a bound is.
pub const CONFIDENCE: f64 = 0.95;

/// A threshold, the false-reject rate it was asked for, and what can be promised about it.
///
/// A score *at or above* the threshold is a defect.
///
/// # Method
/// The held-out scores s(1) ≤ … ≤ s(n) are taken as independent draws of a good image's score. The false-reject rate of
/// a threshold just above s(n − j) is then a Beta variable whatever the scores' distribution is. Its mean is
/// (j + 1) / (n + 1) (conformal prediction: Vovk et al. 2005), and it exceeds p with probability Binomial(j; n, p), the
/// chance of at most j exceedances (Wilks 1941; Clopper & Pearson 1934). The threshold is the lowest one whose mean meets
/// the target, or, where confidence is asked for, whose bound at 95 % does. The bound is reported either way.
///
/// All that holds for scores of one model that saw none of the images. A detector's held-out scores are of several, one for
/// each fold, and its own model has seen all images (cross-conformal prediction: Vovk 2015), so it holds nearly. With more
/// images seen, good ones score lower, so that the rate is rather smaller.
///
/// With too few images even the largest held-out score does not meet it: for 1 % that takes 99, and 299 with
/// confidence. The scores are then extrapolated with an exponential tail (peaks over threshold with shape 0: Pickands
/// 1975), and the threshold is the extrapolation or the largest held-out score, whichever is higher. The
/// distribution-free bound of the largest score stays valid, and that is the one reported.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Contract {
    /// A score from here on is a defect.
    pub threshold: f32,
    /// The false-reject rate that was asked for.
    pub max_false_reject: f64,
    /// Number of held-out good images.
    pub held_out: usize,
    /// How many of them the threshold rejects.
    pub rejected: usize,
    /// With 95 % confidence the false-reject rate is at most this, for images like those.
    pub bound: f64,
    /// How the threshold was found.
    pub method: Method,
    /// Whether the bound, and not only the mean, was to meet the target.
    #[serde(default)]
    pub confident: bool,
    /// How many held-out images it takes for the bound to meet the target, with none rejected.
    pub images_needed: usize,
}

/// How a threshold was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Just above a held-out score; the mean meets the target, and the bound where confidence was asked for.
    OrderStatistic,
    /// An exponential tail beyond the held-out scores, of which there are too few.
    TailExtrapolation,
}

impl Contract {
    /// The threshold for a false-reject rate, from the scores of held-out good images in any order; on average, or with
    /// confidence.
    ///
    /// # Errors
    /// [`Error::Calibration`] for fewer than 2 scores, a score that is not finite or a rate outside (0, 1).
    pub fn new(scores: &[f32], max_false_reject: f64, confident: bool) -> Result<Contract, Error> {
        if !(max_false_reject > 0.0 && max_false_reject < 1.0) {
            return Err(Error::Calibration(format!(
                "a false-reject rate of {max_false_reject} cannot be promised\n\nhint: a rate lies between 0 and 1; 0.01 is one good part in a hundred"
            )));
        }
        let held_out = scores.len();
        if held_out < 2 || scores.iter().any(|score| !score.is_finite()) {
            return Err(Error::Calibration(format!(
                "{held_out} held-out scores give no threshold\n\nhint: at least 2 finite ones are needed, and 100 for a threshold worth the name"
            )));
        }
        let mut sorted = scores.to_vec();
        sorted.sort_by(f32::total_cmp);
        let allowed = match confident {
            true => allowed_exceedances(held_out, max_false_reject),
            false => mean_exceedances(held_out, max_false_reject),
        };
        let (threshold, method) = match allowed {
            Some(exceedances) => (sorted[held_out - 1 - exceedances].next_up(), Method::OrderStatistic),
            None => {
                let extrapolated = exponential_tail(&sorted, max_false_reject);
                let highest = sorted[held_out - 1].next_up();
                (highest.max(extrapolated), Method::TailExtrapolation)
            }
        };
        let rejected = scores.iter().filter(|&&score| score >= threshold).count();
        Ok(Contract {
            threshold,
            max_false_reject,
            held_out,
            rejected,
            bound: upper_bound(allowed.unwrap_or(0), held_out),
            method,
            confident,
            images_needed: images_needed(max_false_reject),
        })
    }

    /// Whether the bound meets the target.
    pub fn is_promised(&self) -> bool {
        self.bound <= self.max_false_reject
    }

    /// How many more held-out good images it takes for a bound that meets the target.
    pub fn more_images_needed(&self) -> usize {
        match self.is_promised() {
            true => 0,
            false => self.images_needed.saturating_sub(self.held_out),
        }
    }
}

/// The upper limit, at [`CONFIDENCE`], of a rate of which `exceedances` were seen in `count` draws: the p at which at most
/// that many are as unlikely as 1 − confidence (Clopper & Pearson 1934, one-sided).
pub fn upper_bound(exceedances: usize, count: usize) -> f64 {
    if exceedances >= count {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    // 60 halvings leave less than the rounding of an f64 near 1.
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if at_most(exceedances, count, middle) > 1.0 - CONFIDENCE {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The most exceedances j in `count` draws with (j + 1) / (count + 1) ≤ `rate`; `None` where not even 0 is.
fn mean_exceedances(count: usize, rate: f64) -> Option<usize> {
    // A rate of 1 in n is rarely a number that f64 has: what rounding takes off is given back.
    let allowed = (rate * (count + 1) as f64 * (1.0 + 1e-12)) as usize;
    allowed.min(count).checked_sub(1)
}

/// The most exceedances in `count` draws whose upper bound is still `rate`; `None` where not even 0 is.
fn allowed_exceedances(count: usize, rate: f64) -> Option<usize> {
    (0..count)
        .take_while(|&exceedances| at_most(exceedances, count, rate) <= 1.0 - CONFIDENCE)
        .last()
}

/// The least n with (1 − rate)ⁿ ≤ 1 − confidence (Wilks 1941).
fn images_needed(rate: f64) -> usize {
    ((1.0 - CONFIDENCE).ln() / (-rate).ln_1p()).ceil() as usize
}

/// P(X ≤ k) for X ~ Binomial(n, p), summed in logarithms so that (1 − p)ⁿ may underflow.
pub(super) fn at_most(k: usize, n: usize, p: f64) -> f64 {
    if p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return if k >= n { 1.0 } else { 0.0 };
    }
    let step = p.ln() - (-p).ln_1p();
    let mut term = n as f64 * (-p).ln_1p();
    let mut sum = term.exp();
    for i in 1..=k.min(n) {
        term += ((n - i + 1) as f64 / i as f64).ln() + step;
        sum += term.exp();
    }
    sum.min(1.0)
}

/// The score that a share `rate` of good images exceeds if the excesses over the √n-th largest score are exponential.
fn exponential_tail(sorted: &[f32], rate: f64) -> f32 {
    let count = sorted.len();
    let excesses = ((count as f64).sqrt().ceil() as usize).clamp(1, count - 1);
    let level = f64::from(sorted[count - 1 - excesses]);
    let mean_excess = sorted[count - excesses..]
        .iter()
        .map(|&score| f64::from(score) - level)
        .sum::<f64>()
        / excesses as f64;
    let times = (excesses as f64 / count as f64 / rate).ln().max(0.0);
    (level + mean_excess * times) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The p at which `sum(math.comb(n, i) * p**i * (1 - p)**(n - i) for i in range(j + 1))` is 0.05, by bisection in Python.
    #[test]
    fn bounds_are_those_of_clopper_and_pearson() {
        for (exceedances, count, expected) in [
            (0, 209, 0.014_231),
            (0, 299, 0.009_969),
            (1, 209, 0.022_496),
            (3, 20, 0.343_664),
        ] {
            let bound = upper_bound(exceedances, count);
            assert!((bound - expected).abs() < 1e-6, "{exceedances} of {count}: {bound}");
        }
    }

    #[test]
    fn one_percent_takes_299_images_and_then_the_largest_score_is_enough() -> Result<(), Error> {
        let scores: Vec<f32> = (0..299).map(|i| i as f32).collect();
        let contract = Contract::new(&scores, 0.01, true)?;
        assert_eq!(contract.method, Method::OrderStatistic);
        assert_eq!(contract.threshold, 298.0_f32.next_up());
        assert!(contract.bound <= 0.01);
        let fewer = Contract::new(&scores[..298], 0.01, true)?;
        assert_eq!(
            (fewer.method, fewer.more_images_needed()),
            (Method::TailExtrapolation, 1)
        );
        assert!(fewer.bound > 0.01);
        Ok(())
    }

    /// On average: (j + 1) / (n + 1) of 1 %.
    #[test]
    fn one_percent_on_average_takes_99_images() -> Result<(), Error> {
        let scores: Vec<f32> = (0..399).map(|i| i as f32).collect();
        for (count, exceedances) in [(99, 0), (198, 0), (199, 1), (299, 2), (399, 3)] {
            let contract = Contract::new(&scores[..count], 0.01, false)?;
            assert_eq!(contract.method, Method::OrderStatistic);
            assert_eq!(contract.rejected, exceedances, "{count} images");
            assert!(!contract.is_promised() && contract.bound > 0.01);
        }
        let fewer = Contract::new(&scores[..98], 0.01, false)?;
        assert_eq!(
            (fewer.method, fewer.more_images_needed()),
            (Method::TailExtrapolation, 201)
        );
        Ok(())
    }
}
