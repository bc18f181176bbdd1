//! Times the pixel metrics of a test set of ordinary size: 83 maps of 224 x 224, a quarter of them without a defect.
//!
//! `cargo run -p simplenet-metrics --example timing`
#![expect(clippy::print_stdout, reason = "a program to be read on a terminal")]

use std::time::Instant;

use simplenet_metrics::{
    Error, MapShape, Regions, auroc, pixel_metrics, precision_recall_curve, pro_code, pro_curve, roc_curve,
};

const SHAPE: MapShape = MapShape {
    images: 83,
    height: 224,
    width: 224,
};

fn main() -> Result<(), Error> {
    let (maps, masks) = smooth_maps_with_round_defects();
    let fractions: Vec<f32> = masks.iter().map(|&mask| f32::from(u8::from(mask))).collect();
    let regions = Regions::find(&masks, SHAPE)?;
    println!(
        "{} pixels, {} of them in {} regions",
        maps.len(),
        regions.areas.iter().sum::<u64>(),
        regions.areas.len()
    );
    println!("{:?}", pixel_metrics(&maps, &masks, SHAPE, 0.3)?);
    time("all pixel metrics", || {
        pixel_metrics(&maps, &masks, SHAPE, 0.3).map(|metrics| metrics.aupro)
    })?;
    time("pixel AUROC alone", || auroc(&maps, &masks))?;
    time("regions alone", || {
        Regions::find(&masks, SHAPE).map(|regions| regions.areas.len() as f64)
    })?;
    time("the authors' PRO", || pro_code(&maps, &fractions, SHAPE))?;
    time("three curves", || {
        let roc = roc_curve(&maps, &masks, 500)?;
        let precision_recall = precision_recall_curve(&maps, &masks, 500)?;
        let pro = pro_curve(&maps, &masks, SHAPE, 500)?;
        Ok((roc.len() + precision_recall.len() + pro.len()) as f64)
    })
}

/// Median of 15 runs.
fn time(what: &str, mut run: impl FnMut() -> Result<f64, Error>) -> Result<(), Error> {
    let mut seconds = Vec::new();
    let mut value = 0.0;
    for _ in 0..15 {
        let start = Instant::now();
        value = run()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    println!("{what:18} {:7.2} ms   {value:.6}", 1e3 * seconds[seconds.len() / 2]);
    Ok(())
}

/// Waves for a background, a raised disc where the defect is, and noise in the low bits so that scores are distinct.
fn smooth_maps_with_round_defects() -> (Vec<f32>, Vec<bool>) {
    let (mut maps, mut masks) = (Vec::new(), Vec::new());
    let mut noise = 1_u32;
    for image in 0..SHAPE.images {
        let (centre_y, centre_x, radius) = (40 + image * 37 % 140, 40 + image * 53 % 140, 6 + image * 7 % 30);
        for y in 0..SHAPE.height {
            for x in 0..SHAPE.width {
                let distance = (y as f32 - centre_y as f32).hypot(x as f32 - centre_x as f32);
                let defect = image % 4 != 0 && distance < radius as f32;
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let wave = (x as f32 / 17.0 + image as f32).sin() * (y as f32 / 23.0).cos();
                let bump = if image % 4 == 0 {
                    0.0
                } else {
                    (-(distance / radius as f32).powi(2)).exp()
                };
                maps.push(0.3 * wave + bump + (noise >> 8) as f32 * 1e-8);
                masks.push(defect);
            }
        }
    }
    (maps, masks)
}
