//! All pixel metrics of a test set of MVTec AD's size.

use anyhow::Result;
use simplenet_heads::Precision;
use simplenet_kernels::maps::anomaly_maps;
use simplenet_kernels::noise::{NoiseKey, fill_normal};
use simplenet_metrics::{MapShape, pixel_metrics};
use simplenet_report::Benchmark;

use super::{Bench, SIDE, pool};
use crate::bench::measure::measure;

/// Images of the test set of `bottle`.
const IMAGES: usize = 83;

/// False-positive rate up to which AUPRO integrates.
const LIMIT: f64 = 0.3;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let mut patches = vec![0.0; IMAGES * 28 * 28];
    fill_normal(&mut patches, NoiseKey { seed: 3, stream: 0 }, 0, 1.0);
    let maps = anomaly_maps(&patches, [IMAGES, 28, 28], [SIDE, SIDE], 4.0)?;
    // A square defect on two images of three, which the maps see a little.
    let defective = |place: usize| {
        let (image, y, x) = (place / (SIDE * SIDE), place / SIDE % SIDE, place % SIDE);
        image % 3 != 0 && (60..110).contains(&y) && (80..130).contains(&x)
    };
    let masks: Vec<bool> = (0..maps.len()).map(defective).collect();
    let maps: Vec<f32> = maps
        .iter()
        .zip(&masks)
        .map(|(&value, &defective)| value + 0.2 * f32::from(u8::from(defective)))
        .collect();
    let shape = MapShape {
        images: IMAGES,
        height: SIDE,
        width: SIDE,
    };
    for threads in bench.threads.clone() {
        let timing =
            pool(threads)?.install(|| measure(bench.budget, || Ok(pixel_metrics(&maps, &masks, shape, LIMIT)?)))?;
        let row = Benchmark {
            model: format!("P-AUROC, P-AP and AUPRO of {IMAGES} maps of {SIDE} × {SIDE}"),
            weights: "none".into(),
            peak_gflops: None,
            ..bench.row("metrics", Precision::F32, threads, IMAGES)
        };
        bench.push(vec![timing.fill(row)])?;
    }
    Ok(())
}
