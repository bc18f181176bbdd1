//! The definitions, written down as plainly as possible and evaluated the slow way.

use simplenet_metrics::MapShape;

/// Every pair of an anomalous and a normal score: 1 if in order, one half if equal.
pub(crate) fn auroc(scores: &[f32], anomalous: &[bool]) -> f64 {
    let (mut ordered, mut pairs) = (0.0, 0.0);
    for (high, _) in scores.iter().zip(anomalous).filter(|(_, truth)| **truth) {
        for (low, _) in scores.iter().zip(anomalous).filter(|(_, truth)| !**truth) {
            pairs += 1.0;
            ordered += if high > low {
                1.0
            } else if high == low {
                0.5
            } else {
                0.0
            };
        }
    }
    ordered / pairs
}

/// Distinct scores from the highest down.
pub(crate) fn thresholds(scores: &[f32]) -> Vec<f32> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| b.partial_cmp(a).expect("no NaN"));
    sorted.dedup();
    sorted
}

/// True and false positives of `score >= threshold`.
pub(crate) fn positives(scores: &[f32], anomalous: &[bool], threshold: f32) -> (u64, u64) {
    let hit = |wanted: bool| {
        scores
            .iter()
            .zip(anomalous)
            .filter(|(score, truth)| **score >= threshold && **truth == wanted)
            .count() as u64
    };
    (hit(true), hit(false))
}

pub(crate) fn average_precision(scores: &[f32], anomalous: &[bool]) -> f64 {
    let total = anomalous.iter().filter(|truth| **truth).count() as f64;
    let (mut area, mut recall) = (0.0, 0.0);
    for threshold in thresholds(scores) {
        let (hits, alarms) = positives(scores, anomalous, threshold);
        let next = hits as f64 / total;
        area += (next - recall) * hits as f64 / (hits + alarms) as f64;
        recall = next;
    }
    area
}

/// F1 as a fraction of integers, with the smallest threshold that reaches it.
pub(crate) fn f1_max(scores: &[f32], anomalous: &[bool]) -> ((u64, u64), f32) {
    let total = anomalous.iter().filter(|truth| **truth).count() as u64;
    let mut best = ((0, 1), f32::NAN);
    for threshold in thresholds(scores).into_iter().rev() {
        let (hits, alarms) = positives(scores, anomalous, threshold);
        let f1 = (2 * hits, hits + alarms + total);
        if f1.0 * best.0.1 > best.0.0 * f1.1 {
            best = (f1, threshold);
        }
    }
    best
}

/// Region number of every pixel, by flood fill over the eight neighbours; `None` for normal pixels.
pub(crate) fn regions(masks: &[bool], shape: MapShape) -> (Vec<Option<usize>>, usize) {
    let MapShape { height, width, .. } = shape;
    let mut labels = vec![None; masks.len()];
    let mut count = 0;
    for first in 0..masks.len() {
        if !masks[first] || labels[first].is_some() {
            continue;
        }
        let image = first / (height * width);
        let mut open = vec![first];
        labels[first] = Some(count);
        while let Some(pixel) = open.pop() {
            for near in square(pixel, 1, shape) {
                assert_eq!(near / (height * width), image);
                if masks[near] && labels[near].is_none() {
                    labels[near] = Some(count);
                    open.push(near);
                }
            }
        }
        count += 1;
    }
    (labels, count)
}

/// The pixels of the same image at most `reach` rows and columns away.
fn square(pixel: usize, reach: isize, shape: MapShape) -> Vec<usize> {
    let (height, width) = (shape.height as isize, shape.width as isize);
    let (image, inside) = (pixel as isize / (height * width), pixel as isize % (height * width));
    let (y, x) = (inside / width, inside % width);
    let mut near = Vec::new();
    for y in y - reach..=y + reach {
        for x in x - reach..=x + reach {
            if (0..height).contains(&y) && (0..width).contains(&x) {
                near.push((image * height * width + y * width + x) as usize);
            }
        }
    }
    near
}

/// Mean over regions of the share of their pixels that `predicted` covers.
fn mean_overlap(predicted: &[bool], labels: &[Option<usize>], count: usize) -> f64 {
    let share = |region: usize| {
        let of_region = || {
            labels
                .iter()
                .zip(predicted)
                .filter(|(label, _)| **label == Some(region))
        };
        of_region().filter(|(_, predicted)| **predicted).count() as f64 / of_region().count() as f64
    };
    (0..count).map(share).sum::<f64>() / count as f64
}

/// Each threshold's binary maps, compared with the masks from scratch; then the area by trapezoids up to `limit`.
pub(crate) fn aupro(maps: &[f32], masks: &[bool], shape: MapShape, limit: f64) -> f64 {
    aupro_within(maps, masks, &vec![true; maps.len()], shape, limit)
}

/// The same where only the pixels in `within` count.
pub(crate) fn aupro_within(maps: &[f32], masks: &[bool], within: &[bool], shape: MapShape, limit: f64) -> f64 {
    let visible: Vec<bool> = masks
        .iter()
        .zip(within)
        .map(|(mask, within)| *mask && *within)
        .collect();
    let (labels, count) = regions(&visible, shape);
    let is_normal = |pixel: usize| within[pixel] && !masks[pixel];
    let normal = (0..maps.len()).filter(|&pixel| is_normal(pixel)).count() as f64;
    let mut points = vec![(0.0, 0.0)];
    for threshold in thresholds(maps) {
        let predicted: Vec<bool> = maps.iter().map(|score| *score >= threshold).collect();
        let false_positives = (0..maps.len()).filter(|&pixel| is_normal(pixel) && predicted[pixel]);
        let rate = false_positives.count() as f64 / normal;
        points.push((rate, mean_overlap(&predicted, &labels, count)));
    }
    points.push((1.0, 1.0));
    let mut area = 0.0;
    for pair in points.windows(2) {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        if x0 < limit && x1 > x0 {
            let end = x1.min(limit);
            let y = y0 + (y1 - y0) * (end - x0) / (x1 - x0);
            area += (end - x0) * (y0 + y) / 2.0;
        }
    }
    area / limit
}

/// `compute_pro` of the authors' `metrics.py`, step by step; `None` where it has no value.
pub(crate) fn pro_code(maps: &[f32], masks: &[f32], shape: MapShape) -> Option<f64> {
    let maps: Vec<f64> = maps.iter().map(|&score| f64::from(score)).collect();
    let lowest = maps.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = maps.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let delta = (highest - lowest) / 200.0;
    let (labels, count) = regions(&masks.iter().map(|&mask| mask == 1.0).collect::<Vec<_>>(), shape);
    let inverse: Vec<f64> = masks.iter().map(|&mask| 1.0 - f64::from(mask)).collect();
    let mut points = Vec::new();
    for index in 0..((highest - lowest) / delta).ceil() as usize {
        let threshold = lowest + index as f64 * ((lowest + delta) - lowest);
        let binary: Vec<bool> = maps.iter().map(|score| *score > threshold).collect();
        let dilated: Vec<bool> = (0..maps.len())
            .map(|pixel| square(pixel, 2, shape).iter().any(|&near| binary[near]))
            .collect();
        let false_positives = inverse
            .iter()
            .zip(&binary)
            .filter(|(inverse, set)| **inverse != 0.0 && **set)
            .count();
        let rate = false_positives as f64 / inverse.iter().sum::<f64>();
        if rate < 0.3 {
            points.push((rate, mean_overlap(&dilated, &labels, count)));
        }
    }
    let largest = points.first()?.0;
    if points.len() < 2 || largest == 0.0 {
        return None;
    }
    Some(
        points
            .windows(2)
            .map(|pair| (pair[0].0 - pair[1].0) / largest * (pair[0].1 + pair[1].1) / 2.0)
            .sum(),
    )
}
