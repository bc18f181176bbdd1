//! The fast metrics against the slow definitions in `reference`, on small random input with many ties.

mod reference;

use proptest::prelude::*;
use simplenet_metrics::{
    Confusion, CurvePoint, MapShape, Regions, aupro, auroc, average_precision, f1_max, image_metrics, pixel_metrics,
    pixel_metrics_within, precision_recall_curve, pro_code, pro_curve, pro_curve_within, roc_curve,
};

/// Coarse scores tie often; both zeros and both infinities are among them.
fn score() -> impl Strategy<Value = f32> + Clone {
    prop_oneof![
        8 => (-3_i8..4).prop_map(|step| f32::from(step) / 4.0),
        2 => -1.0_f32..1.0,
        1 => prop::sample::select(vec![0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE]),
    ]
}

fn has_both_classes(truth: &[bool]) -> bool {
    truth.contains(&true) && truth.contains(&false)
}

/// Scores and truth with both classes, from two elements on.
fn scored() -> impl Strategy<Value = (Vec<f32>, Vec<bool>)> {
    prop::collection::vec((score(), any::<bool>()), 2..70)
        .prop_map(|pairs| pairs.into_iter().unzip())
        .prop_filter("one class only", |(_, truth): &(Vec<f32>, Vec<bool>)| {
            has_both_classes(truth)
        })
}

/// Maps of up to 4 images with sides from 1 to 9; `density` percent of the pixels are anomalous, so that single pixels,
/// regions that touch by a corner only, and images without any occur.
fn maps(score: impl Strategy<Value = f32> + Clone) -> impl Strategy<Value = (Vec<f32>, Vec<bool>, MapShape)> {
    (
        1_usize..5,
        1_usize..10,
        1_usize..10,
        prop::sample::select(vec![5_u8, 20, 50, 80]),
    )
        .prop_flat_map(move |(images, height, width, density)| {
            let pixels = images * height * width;
            let masks = prop::collection::vec((0_u8..100).prop_map(move |percent| percent < density), pixels);
            (
                prop::collection::vec(score.clone(), pixels),
                masks,
                Just(MapShape { images, height, width }),
            )
        })
        .prop_filter("one class only", |(_, masks, _)| has_both_classes(masks))
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-12
}

fn area(points: &[CurvePoint]) -> f64 {
    points
        .windows(2)
        .map(|pair| (pair[1].x - pair[0].x) * (pair[0].y + pair[1].y) / 2.0)
        .sum()
}

proptest! {
    #[test]
    fn auroc_counts_pairs((scores, truth) in scored()) {
        prop_assert!(close(auroc(&scores, &truth)?, reference::auroc(&scores, &truth)));
    }

    #[test]
    fn auroc_of_negated_scores_is_the_rest_to_one((scores, truth) in scored()) {
        let negated: Vec<f32> = scores.iter().map(|score| -score).collect();
        prop_assert!(close(auroc(&scores, &truth)? + auroc(&negated, &truth)?, 1.0));
    }

    #[test]
    fn average_precision_sums_steps((scores, truth) in scored()) {
        prop_assert!(close(average_precision(&scores, &truth)?, reference::average_precision(&scores, &truth)));
    }

    #[test]
    fn f1_max_is_the_best_of_all_thresholds((scores, truth) in scored()) {
        let found = f1_max(&scores, &truth)?;
        let ((hits, of), threshold) = reference::f1_max(&scores, &truth);
        prop_assert_eq!(found.f1, hits as f64 / of as f64);
        prop_assert_eq!(found.threshold, threshold);
        prop_assert_eq!(found.confusion, Confusion::at(&scores, &truth, threshold)?);
        let (hits, alarms) = reference::positives(&scores, &truth, threshold);
        prop_assert_eq!((found.confusion.true_positives, found.confusion.false_positives), (hits, alarms));
    }

    #[test]
    fn combined_metrics_are_the_single_ones((scores, truth) in scored()) {
        let together = image_metrics(&scores, &truth)?;
        let best = f1_max(&scores, &truth)?;
        prop_assert_eq!(together.auroc, auroc(&scores, &truth)?);
        prop_assert_eq!(together.average_precision, average_precision(&scores, &truth)?);
        prop_assert_eq!((together.f1_max, together.f1_threshold), (best.f1, best.threshold));

        let shape = MapShape { images: 1, height: 1, width: scores.len() };
        let pixels = pixel_metrics(&scores, &truth, shape, 0.3)?;
        prop_assert_eq!(pixels.auroc, together.auroc);
        prop_assert_eq!(pixels.average_precision, together.average_precision);
        prop_assert_eq!((pixels.f1_max, pixels.f1_threshold), (best.f1, best.threshold));
        prop_assert_eq!(pixels.aupro, aupro(&scores, &truth, shape, 0.3)?);
    }

    #[test]
    fn regions_are_those_of_a_flood_fill((_, masks, shape) in maps(Just(0.0))) {
        let (labels, count) = reference::regions(&masks, shape);
        let found = Regions::find(&masks, shape)?;
        prop_assert_eq!(found.areas.len(), count);
        let mut painted = vec![None; masks.len()];
        for run in &found.runs {
            painted[run.start..run.end].fill(Some(run.region as usize));
        }
        prop_assert_eq!(&painted, &labels);
        for (region, &area) in found.areas.iter().enumerate() {
            prop_assert_eq!(area, labels.iter().filter(|label| **label == Some(region)).count() as u64);
        }
    }

    #[test]
    fn aupro_tries_every_threshold((maps, masks, shape) in maps(score()), limit in prop::sample::select(vec![0.05, 0.3, 0.5, 1.0])) {
        prop_assert!(close(aupro(&maps, &masks, shape, limit)?, reference::aupro(&maps, &masks, shape, limit)));
    }

    /// Pixels outside are not there: whatever they score, and whatever their masks say.
    #[test]
    fn only_pixels_within_count((maps, masks, shape) in maps(score()), seed in any::<u64>(), limit in prop::sample::select(vec![0.3, 1.0])) {
        let mut masks = masks;
        let within: Vec<bool> = (0..maps.len()).map(|pixel| seed.rotate_left(pixel as u32) & 3 != 0).collect();
        let inside: Vec<usize> = (0..maps.len()).filter(|&pixel| within[pixel]).collect();
        prop_assume!(inside.len() > 1);
        masks[inside[0]] = true;
        masks[inside[1]] = false;
        let scores: Vec<f32> = inside.iter().map(|&pixel| maps[pixel]).collect();
        let truth: Vec<bool> = inside.iter().map(|&pixel| masks[pixel]).collect();
        let found = pixel_metrics_within(&maps, &masks, &within, shape, limit)?;
        prop_assert_eq!(found.auroc, auroc(&scores, &truth)?);
        prop_assert_eq!(found.average_precision, average_precision(&scores, &truth)?);
        prop_assert!(close(found.aupro, reference::aupro_within(&maps, &masks, &within, shape, limit)));
        let whole = pro_curve_within(&maps, &masks, &within, shape, usize::MAX)?;
        if limit == 1.0 {
            prop_assert!(close(area(&whole), found.aupro));
        }
        let all = vec![true; maps.len()];
        prop_assert_eq!(pixel_metrics_within(&maps, &masks, &all, shape, limit)?, pixel_metrics(&maps, &masks, shape, limit)?);
    }

    #[test]
    fn aupro_of_all_equal_maps_is_half_the_limit((maps, masks, shape) in maps(Just(0.7)), limit in 0.01..=1.0) {
        prop_assert!(close(aupro(&maps, &masks, shape, limit)?, limit / 2.0));
    }

    #[test]
    fn the_authors_pro_is_their_program((maps, masks, shape) in maps(-1.0_f32..1.0), soften in prop::collection::vec(0_u8..6, 4 * 81)) {
        // Mask edges as a resize leaves them: one of six pixels is neither 0 nor 1.
        let fractions: Vec<f32> = masks.iter().zip(soften)
            .map(|(&mask, soften)| if soften == 0 { 0.25 } else { f32::from(u8::from(mask)) }).collect();
        let expected = fractions.contains(&1.0).then(|| reference::pro_code(&maps, &fractions, shape)).flatten();
        match (pro_code(&maps, &fractions, shape), expected) {
            (Ok(found), Some(expected)) => prop_assert!(close(found, expected), "{found} {expected}"),
            (found, expected) => prop_assert!(found.is_err() && expected.is_none(), "{found:?} {expected:?}"),
        }
    }

    #[test]
    fn curves_enclose_their_metric_however_few_points((maps, masks, shape) in maps(score()), max_points in 3_usize..40) {
        let roc = roc_curve(&maps, &masks, max_points)?;
        let pro = pro_curve(&maps, &masks, shape, max_points)?;
        let precision_recall = precision_recall_curve(&maps, &masks, max_points)?;
        prop_assert!(close(area(&roc), auroc(&maps, &masks)?));
        prop_assert!(close(area(&pro), aupro(&maps, &masks, shape, 1.0)?));
        let steps: f64 = precision_recall.windows(2).map(|pair| (pair[1].x - pair[0].x) * pair[1].y).sum();
        prop_assert!(close(steps, average_precision(&maps, &masks)?));

        for curve in [&roc, &pro] {
            prop_assert!(curve.len() <= max_points);
            prop_assert_eq!(curve.first(), Some(&CurvePoint { x: 0.0, y: 0.0 }));
            prop_assert_eq!(curve.last(), Some(&CurvePoint { x: 1.0, y: 1.0 }));
            prop_assert!(curve.windows(2).all(|pair| pair[0].x <= pair[1].x && pair[0].y <= pair[1].y));
        }
        prop_assert!(precision_recall.len() <= max_points);
        prop_assert_eq!(precision_recall.last().map(|point| point.x), Some(1.0));
        prop_assert!(precision_recall.windows(2).all(|pair| pair[0].x <= pair[1].x));
    }
}
