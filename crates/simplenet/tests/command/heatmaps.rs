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

/// Also where the picture is as white as the outline, and where it has fewer pixels than the map.
#[test]
fn an_outline_is_white_all_around_with_a_dark_rim() {
    let folder = tempfile::tempdir().unwrap();
    let maps = folder.path().join("maps");
    // White, with a black square in it.
    for side in [100_u32, 256, 700] {
        let middle = 2 * side / 5..3 * side / 5;
        let white = image::GrayImage::from_fn(side, side, |x, y| {
            let is_black = middle.contains(&x) && middle.contains(&y);
            image::Luma([if is_black { 0 } else { 255 }])
        });
        white.save(folder.path().join(format!("{side}.png"))).unwrap();
    }
    let out = simplenet(&[
        "predict".as_ref(),
        factory().detector.as_ref(),
        folder.path().as_ref(),
        "--heatmaps".as_ref(),
        maps.as_ref(),
        "--masks".as_ref(),
        folder.path().join("masks").as_ref(),
    ]);
    assert!(out.status.success(), "{}", stderr(&out));
    for side in [100_u32, 256, 700] {
        let name = format!("{side}.png");
        let heatmap = image::open(maps.join(&name)).unwrap().to_rgb8();
        let mask = image::open(folder.path().join("masks").join(&name)).unwrap().to_luma8();
        let mut ends = 0;
        for (x, y) in (1..side).flat_map(|x| (1..side).map(move |y| (x, y))) {
            for before in [(x - 1, y), (x, y - 1)] {
                let (here, before) = match mask.get_pixel(x, y).0 {
                    [255] => ((x, y), before),
                    _ => (before, (x, y)),
                };
                if mask.get_pixel(here.0, here.1) != mask.get_pixel(before.0, before.1) {
                    let [inside, outside] = [here, before].map(|(x, y)| heatmap.get_pixel(x, y).0);
                    assert_eq!(inside, [255; 3], "{name}: {here:?}");
                    assert!(
                        outside.iter().all(|&channel| channel < 80),
                        "{name}: {before:?} {outside:?}"
                    );
                    ends += 1;
                }
            }
        }
        assert!(ends > 100, "{name}: {ends}");
    }
}
