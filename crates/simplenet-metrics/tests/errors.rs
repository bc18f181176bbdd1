//! What has no value is an error that says why.

use simplenet_metrics::{
    Confusion, Error, MapShape, Regions, aupro, auroc, average_precision, f1_max, image_metrics, pixel_metrics,
    pixel_metrics_within, precision_recall_curve, pro_code, pro_curve, roc_curve,
};

const SHAPE: MapShape = MapShape {
    images: 1,
    height: 2,
    width: 3,
};
const MAP: [f32; 6] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6];
const MASK: [bool; 6] = [false, false, false, false, true, true];
const FRACTIONS: [f32; 6] = [0.0, 0.0, 0.0, 0.5, 1.0, 1.0];

/// The same input to every function of scores and truth.
fn refusals(scores: &[f32], truth: &[bool]) -> Vec<Option<Error>> {
    vec![
        auroc(scores, truth).err(),
        average_precision(scores, truth).err(),
        f1_max(scores, truth).err(),
        image_metrics(scores, truth).err(),
        roc_curve(scores, truth, 10).err(),
        precision_recall_curve(scores, truth, 10).err(),
    ]
}

fn all(error: Error) -> Vec<Option<Error>> {
    vec![Some(error); 6]
}

#[test]
fn scores_without_a_value() {
    assert_eq!(refusals(&[], &[]), all(Error::Empty));
    assert_eq!(
        refusals(&[0.1, 0.2], &[true]),
        all(Error::LengthMismatch { scores: 2, truths: 1 })
    );
    assert_eq!(
        refusals(&[0.1, 0.2], &[true; 2]),
        all(Error::OneClass {
            normal: 0,
            anomalous: 2
        })
    );
    assert_eq!(
        refusals(&[0.1, 0.2], &[false; 2]),
        all(Error::OneClass {
            normal: 2,
            anomalous: 0
        })
    );
    let nan = [0.1, f32::NAN, f32::NAN, 0.2];
    assert_eq!(
        refusals(&nan, &[false, true, false, true]),
        all(Error::NotANumber { index: 1, scores: 4 })
    );
    assert_eq!(
        Confusion::at(&nan, &[false; 4], 0.5),
        Err(Error::NotANumber { index: 1, scores: 4 })
    );
    assert_eq!(Confusion::at(&[], &[], 0.5), Err(Error::Empty));
}

#[test]
fn the_first_nan_is_named_far_into_the_maps() {
    let shape = MapShape {
        images: 3,
        height: 301,
        width: 211,
    };
    let pixels = 3 * 301 * 211;
    let mut maps = vec![0.0; pixels];
    let masks: Vec<bool> = (0..pixels).map(|pixel| pixel % 7 == 0).collect();
    maps[150_001] = f32::NAN;
    maps[170_000] = f32::NAN;
    let expected = Error::NotANumber {
        index: 150_001,
        scores: pixels,
    };
    assert_eq!(pixel_metrics(&maps, &masks, shape, 0.3), Err(expected.clone()));
    assert_eq!(pro_code(&maps, &vec![0.0; pixels], shape), Err(expected));
}

#[test]
fn maps_that_do_not_fill_their_shape() {
    let wrong = MapShape { height: 3, ..SHAPE };
    let expected = Error::ShapeMismatch {
        shape: wrong,
        pixels: 6,
    };
    assert_eq!(aupro(&MAP, &MASK, wrong, 0.3), Err(expected.clone()));
    assert_eq!(pro_code(&MAP, &FRACTIONS, wrong), Err(expected.clone()));
    // More pixels than the shape and its region have, which would be of no map.
    let within = [true; 3];
    let small = MapShape { height: 1, ..SHAPE };
    let too_many = Err(Error::ShapeMismatch {
        shape: small,
        pixels: 6,
    });
    assert_eq!(pixel_metrics_within(&MAP, &MASK, &within, small, 0.3), too_many);
    assert_eq!(Regions::find(&MASK, wrong), Err(expected.clone()));
    assert_eq!(
        expected.to_string(),
        "6 pixels were given for 1 maps of 3 x 3 (height x width)"
    );

    let overflowing = MapShape {
        images: usize::MAX,
        height: 2,
        width: 2,
    };
    assert_eq!(
        aupro(&MAP, &MASK, overflowing, 0.3),
        Err(Error::ShapeMismatch {
            shape: overflowing,
            pixels: 6
        })
    );
    let none = MapShape { images: 0, ..SHAPE };
    assert_eq!(pixel_metrics(&[], &[], none, 0.3), Err(Error::Empty));
    assert_eq!(
        aupro(&MAP, &MASK[1..], SHAPE, 0.3),
        Err(Error::LengthMismatch { scores: 6, truths: 5 })
    );
}

#[test]
fn masks_of_one_class() {
    assert_eq!(
        aupro(&MAP, &[false; 6], SHAPE, 0.3),
        Err(Error::OneClass {
            normal: 6,
            anomalous: 0
        })
    );
    assert_eq!(
        pro_curve(&MAP, &[true; 6], SHAPE, 9),
        Err(Error::OneClass {
            normal: 0,
            anomalous: 6
        })
    );
    assert_eq!(
        pro_code(&MAP, &[0.5; 6], SHAPE),
        Err(Error::OneClass {
            normal: 6,
            anomalous: 0
        })
    );
    assert_eq!(
        pro_code(&MAP, &[1.0; 6], SHAPE),
        Err(Error::OneClass {
            normal: 0,
            anomalous: 6
        })
    );
}

#[test]
fn limits_and_numbers_of_points() {
    for limit in [0.0, -0.1, 1.1, f64::INFINITY] {
        assert_eq!(aupro(&MAP, &MASK, SHAPE, limit), Err(Error::Limit { limit }));
        assert_eq!(pixel_metrics(&MAP, &MASK, SHAPE, limit), Err(Error::Limit { limit }));
    }
    assert!(matches!(aupro(&MAP, &MASK, SHAPE, f64::NAN), Err(Error::Limit { .. })));
    assert_eq!(roc_curve(&MAP, &MASK, 2), Err(Error::CurvePoints { asked: 2 }));
    assert_eq!(pro_curve(&MAP, &MASK, SHAPE, 0), Err(Error::CurvePoints { asked: 0 }));
    assert_eq!(
        precision_recall_curve(&MAP, &MASK, 1),
        Err(Error::CurvePoints { asked: 1 })
    );
}

#[test]
fn what_only_the_authors_pro_refuses() {
    assert_eq!(
        pro_code(&[0.5; 6], &FRACTIONS, SHAPE),
        Err(Error::Constant { scores: 6, value: 0.5 })
    );
    let mut infinite = MAP;
    infinite[3] = f32::NEG_INFINITY;
    assert_eq!(
        pro_code(&infinite, &FRACTIONS, SHAPE),
        Err(Error::Infinite {
            index: 3,
            value: f32::NEG_INFINITY
        })
    );
    assert!(aupro(&infinite, &MASK, SHAPE, 0.3).is_ok());
    for value in [-0.1, 1.5, 255.0, f32::NAN] {
        let mut fractions = FRACTIONS;
        fractions[2] = value;
        assert!(
            matches!(
                pro_code(&MAP, &fractions, SHAPE),
                Err(Error::MaskFraction { index: 2, .. })
            ),
            "{value}"
        );
    }
    // Both classes are told apart without a single false positive below the highest normal score: no rate but 0.
    let separated = [0.0, 0.0, 0.0, 0.0, 1.0, 1.0];
    let expected = Err(Error::NoArea {
        kept: 200,
        limit: 0.3,
        largest: 0.0,
    });
    assert_eq!(pro_code(&separated, &FRACTIONS, SHAPE), expected);
}
