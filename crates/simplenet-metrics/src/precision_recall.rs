use crate::Result;
use crate::confusion::Confusion;
use crate::curve::{self, CurvePoint};
use crate::ranking::Ranking;

/// The best threshold by F1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct F1Max {
    /// F1 at the threshold, the harmonic mean of precision and recall: `2 TP / (2 TP + FP + FN)`. Above 0, at most 1.
    pub f1: f64,
    /// The score from which on something counts as anomalous: `score >= threshold`. Always one of the anomalous scores.
    pub threshold: f32,
    /// The hits and errors at the threshold.
    pub confusion: Confusion,
}

/// Average precision: the share of true alarms among all alarms, averaged over every recall that thresholds reach.
///
/// 1 is a perfect separation; a random score gets about the share of anomalous elements. Where those are rare, as among
/// pixels, this falls with false alarms that AUROC hardly shows. Also called AUPR or PR-AUC.
///
/// Computed as the sum over distinct scores, from the highest down, of (gain in recall) x (precision there): steps, not
/// trapezoids, which would be too kind. Equals scikit-learn's `average_precision_score`. `scores` and `anomalous` have
/// one element per image, or one per pixel of all images.
///
/// # Errors
/// Lengths that differ, no scores, a NaN, or one class only.
pub fn average_precision(scores: &[f32], anomalous: &[bool]) -> Result<f64> {
    Ok(step_area(&Ranking::new(scores, anomalous, std::iter::empty())?))
}

/// F1-max: the best F1 that any threshold reaches, and that threshold.
///
/// The threshold is chosen with the truth in hand, so this is an upper bound on what a threshold fixed beforehand
/// achieves.
///
/// `score >= threshold` counts as anomalous; among thresholds of equal F1 the smallest is taken, as the first maximum
/// over scikit-learn's `precision_recall_curve` is (`metrics.py` of PatchCore and of SimpleNet). Candidates are compared
/// as fractions of integers, so rounding cannot decide between equals.
///
/// # Errors
/// Lengths that differ, no scores, a NaN, or one class only.
pub fn f1_max(scores: &[f32], anomalous: &[bool]) -> Result<F1Max> {
    Ok(best_f1(&Ranking::new(scores, anomalous, std::iter::empty())?))
}

/// The precision-recall curve: recall (`x`) and precision (`y`), from recall 0 to recall 1.
///
/// It starts with (0, 1), scikit-learn's convention for a threshold above every score, and has that library's points from
/// the highest threshold down, save those between two others of equal recall. [`average_precision`] is the sum over
/// neighbours of (gain in recall) x (the later one's precision). Where there are more than `max_points`, a stretch of
/// recalls becomes one point with the mean precision over it, which keeps that sum.
///
/// # Errors
/// As [`average_precision`]; also fewer than 3 points asked for.
pub fn precision_recall_curve(scores: &[f32], anomalous: &[bool], max_points: usize) -> Result<Vec<CurvePoint>> {
    curve::check_points(max_points)?;
    let ranking = Ranking::new(scores, anomalous, std::iter::empty())?;
    let total = ranking.anomalous_count() as f64;
    let point = |hits: u64, alarms: u64| CurvePoint {
        x: hits as f64 / total,
        y: hits as f64 / alarms as f64,
    };
    let mut points = vec![CurvePoint { x: 0.0, y: 1.0 }];
    let (mut hits, mut false_positives) = (0, 0);
    for level in ranking.levels() {
        if level.false_positives_above > false_positives {
            points.push(point(hits, hits + level.false_positives_above));
        }
        (hits, false_positives) = (level.true_positives, level.false_positives);
        points.push(point(hits, hits + false_positives));
    }
    if ranking.normal_count() > false_positives {
        points.push(point(hits, hits + ranking.normal_count()));
    }
    Ok(thin_keeping_steps(points, max_points))
}

pub(crate) fn step_area(ranking: &Ranking) -> f64 {
    let mut area = 0.0;
    let mut counted = 0;
    for level in ranking.levels() {
        let gained = (level.true_positives - counted) as f64;
        counted = level.true_positives;
        area += gained * (counted as f64 / (counted + level.false_positives) as f64);
    }
    area / ranking.anomalous_count() as f64
}

pub(crate) fn best_f1(ranking: &Ranking) -> F1Max {
    let (normal, anomalous) = (ranking.normal_count(), ranking.anomalous_count());
    let mut best = F1Max {
        f1: 0.0,
        threshold: f32::INFINITY,
        confusion: Confusion::nothing_found(normal, anomalous),
    };
    for level in ranking.levels() {
        let found = Confusion {
            true_positives: level.true_positives,
            false_positives: level.false_positives,
            false_negatives: anomalous - level.true_positives,
            true_negatives: normal - level.false_positives,
        };
        let ((new, new_of), (old, old_of)) = (found.f1_fraction(), best.confusion.f1_fraction());
        // Thresholds fall from level to level, so "at least as good" ends on the smallest of equals.
        if new * old_of >= old * new_of {
            best = F1Max {
                f1: new as f64 / new_of as f64,
                threshold: level.score,
                confusion: found,
            };
        }
    }
    best
}

fn thin_keeping_steps(points: Vec<CurvePoint>, max_points: usize) -> Vec<CurvePoint> {
    if points.len() <= max_points {
        return points;
    }
    let stretches = max_points - 1;
    let mut thinned = Vec::with_capacity(max_points);
    thinned.extend(points.first());
    let (mut start, mut ended, mut area) = (0.0, 0, 0.0);
    for (index, pair) in points.windows(2).enumerate() {
        let end = pair[1];
        area += (end.x - pair[0].x) * end.y;
        let is_last = index + 2 == points.len();
        let reached = ((end.x * stretches as f64) as usize).min(stretches - 1);
        if (reached == ended && !is_last) || end.x <= start {
            continue;
        }
        thinned.push(CurvePoint {
            x: end.x,
            y: area / (end.x - start),
        });
        (start, ended, area) = (end.x, reached, 0.0);
    }
    thinned
}
