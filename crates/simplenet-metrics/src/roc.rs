use crate::Result;
use crate::curve::{self, CurvePoint};
use crate::ranking::Ranking;

/// Area under the ROC curve: the probability that a random anomalous score exceeds a random normal one.
///
/// 1 is a perfect separation, 0.5 is chance, below 0.5 the order is reversed. It says nothing about where a threshold
/// should be, and on pixels, where normal ones are the rule, it stays close to 1 even for many false alarms.
///
/// Computed as the Mann-Whitney statistic: pairs in the right order, plus half the pairs of equal scores, over all pairs,
/// counted in integers. Equals scikit-learn's `roc_auc_score`. `scores` and `anomalous` have one element per image, or
/// one per pixel of all images.
///
/// # Errors
/// Lengths that differ, no scores, a NaN, or one class only.
pub fn auroc(scores: &[f32], anomalous: &[bool]) -> Result<f64> {
    Ok(area_under_roc(&Ranking::new(scores, anomalous, std::iter::empty())?))
}

/// The ROC curve: false-positive rate (`x`) and true-positive rate (`y`) from (0, 0) to (1, 1), to be joined by lines.
///
/// The points are the corners of scikit-learn's `roc_curve` (points on a straight line between two others are left out).
/// Where there are more than `max_points`, stretches of the curve are replaced by two lines each that enclose the same
/// area, so that the trapezoids under the points still sum to [`auroc`].
///
/// # Errors
/// As [`auroc`]; also fewer than 3 points asked for.
pub fn roc_curve(scores: &[f32], anomalous: &[bool], max_points: usize) -> Result<Vec<CurvePoint>> {
    curve::check_points(max_points)?;
    let ranking = Ranking::new(scores, anomalous, std::iter::empty())?;
    let corners = curve::corners(&ranking, |level| {
        level.true_positives as f64 / ranking.anomalous_count() as f64
    });
    Ok(curve::thin_keeping_area(corners, max_points))
}

pub(crate) fn area_under_roc(ranking: &Ranking) -> f64 {
    let (normal, anomalous) = (
        u128::from(ranking.normal_count()),
        u128::from(ranking.anomalous_count()),
    );
    let mut twice_ordered = 0_u128;
    let mut counted = 0;
    for level in ranking.levels() {
        let here = u128::from(level.true_positives - counted);
        counted = level.true_positives;
        // Each of these exceeds the normal scores below once, ties count one half; both doubled to stay whole.
        let not_above = normal - u128::from(level.false_positives_above);
        let not_below = normal - u128::from(level.false_positives);
        twice_ordered += here * (not_above + not_below);
    }
    twice_ordered as f64 / (2 * normal * anomalous) as f64
}
