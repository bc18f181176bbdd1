//! A region of interest decides what is learnt, and not only what is judged.

use simplenet::detector::AnomalyMap;
use simplenet::{Detector, DetectorConfig, LoadOptions, Method, Rgb8, Verdict};

use crate::support::{picture, saved, with};

/// Where the map is highest: column and row.
fn summit(map: &AnomalyMap) -> (usize, usize) {
    let highest = (0..map.values.len()).max_by(|&a, &b| map.values[a].total_cmp(&map.values[b]));
    let highest = highest.unwrap();
    (highest % map.geometry.columns, highest / map.geometry.columns)
}

/// Labels on the right half have spots. The left half has none, and one there is a defect, whatever the right half looks like.
#[test]
fn what_lies_outside_excuses_nothing_inside() {
    let (folder, images) = saved((0..12).map(|index| {
        let spots = [[150 + 3 * index, 20 + 16 * index], [220 - 4 * index, 200 - 11 * index]];
        picture(index, &spots)
    }));
    let roi = folder.path().join("roi.png");
    let left = image::GrayImage::from_fn(256, 256, |x, _| image::Luma([if x < 128 { 255 } else { 0 }]));
    left.save(&roi).unwrap();
    let spotted = picture(99, &[[40, 100]]);
    let spotted = Rgb8::new(256, 256, spotted.into_raw()).unwrap();

    let mut tiled = with(Method::patchcore());
    tiled.model.preprocess.crop = 128;
    for config in [with(Method::patchcore()), tiled, with(Method::SimpleNet)] {
        let name = config.model.method.name();
        let of_all = Detector::train(&images, &config, |_| {}).unwrap();
        let config = DetectorConfig {
            roi: Some(roi.clone()),
            ..config
        };
        let of_left = Detector::train(&images, &config, |_| {}).unwrap();
        let file = of_left.to_bytes().unwrap();
        let of_left = Detector::from_bytes(&file, "memory".as_ref(), &LoadOptions::default()).unwrap();

        assert_eq!(of_all.predict(&spotted).unwrap().verdict, Verdict::Good, "{name}");
        let found = of_left.predict(&spotted).unwrap();
        assert_eq!(found.verdict, Verdict::Defect, "{name}");
        let (x, y) = summit(&found.map);
        assert!((30..75).contains(&x) && (90..135).contains(&y), "{name}: {x}, {y}");
        let good = Rgb8::new(256, 256, picture(77, &[[190, 60]]).into_raw()).unwrap();
        assert_eq!(of_left.predict(&good).unwrap().verdict, Verdict::Good, "{name}");
    }
}
