use std::ffi::OsStr;

use simplenet::{Detector, LoadOptions};

use crate::support::{factory, names, simplenet, stderr};

/// Only a marked pixel is more blue than green, which crimson and violet over grey are and yellow and orange are not.
#[test]
fn only_marked_pixels_have_a_marked_colour() {
    let folder = tempfile::tempdir().unwrap();
    let (copy, maps) = (folder.path().join("copy.simplenet"), folder.path().join("maps"));
    let run = |arguments: &[&OsStr]| {
        let out = simplenet(arguments);
        assert!(out.status.success(), "{}", stderr(&out));
    };
    // Looser than usual, so that many pixels lie on either side.
    run(&[
        "threshold".as_ref(),
        factory().detector.as_ref(),
        "--max-false-reject".as_ref(),
        "0.4".as_ref(),
        "--out".as_ref(),
        copy.as_ref(),
    ]);
    let test = factory().ring.join("test");
    run(&[
        "predict".as_ref(),
        copy.as_ref(),
        test.as_ref(),
        "--heatmaps".as_ref(),
        maps.as_ref(),
    ]);
    let detector = Detector::load(&copy, &LoadOptions::default()).unwrap();
    let mark = detector.card().calibration.pixel_threshold;
    let (mut marked, mut coloured) = (0, 0);
    for kind in names(&test) {
        let prediction = detector.predict_file(test.join(&kind).join("000.png")).unwrap();
        let heatmap = image::open(maps.join(&kind).join("000.png")).unwrap().to_rgb8();
        // The picture is seen as large as it is: pixel for pixel.
        for (&value, pixel) in prediction.map.values.iter().zip(heatmap.pixels()) {
            let [red, green, blue] = pixel.0;
            if pixel.0 != [255; 3] {
                assert_eq!(
                    blue > green,
                    value >= mark,
                    "{kind}: {value}, marked from {mark}: {pixel:?}"
                );
                marked += usize::from(blue > green);
                coloured += usize::from(red > green && green > blue);
            }
        }
    }
    assert!(marked > 0 && coloured > 0, "{marked} marked, {coloured} below");
}
