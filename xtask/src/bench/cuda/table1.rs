//! Table 1 for SimpleNet: categories of MVTec AD's sizes one after the other, each from files to metrics.
//!
//! The categories share their files, which the system holds in memory after the first: the disk is hardly in the times.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use simplenet_backbone::{Arch, Precision};
use simplenet_data::Dataset;
use simplenet_report::Benchmark;

use super::category::{category_once, paper, rows};
use super::features::network;
use super::procedural::Drawing;
use super::run::Bench;

/// MVTec AD's training images, good and defective test images.
const IMAGES: [(&str, [usize; 3]); 15] = [
    ("bottle", [209, 20, 63]),
    ("cable", [224, 58, 92]),
    ("capsule", [219, 23, 109]),
    ("carpet", [280, 28, 89]),
    ("grid", [264, 21, 57]),
    ("hazelnut", [391, 40, 70]),
    ("leather", [245, 32, 92]),
    ("metal_nut", [220, 22, 93]),
    ("pill", [267, 26, 141]),
    ("screw", [320, 41, 119]),
    ("tile", [230, 33, 84]),
    ("toothbrush", [60, 12, 30]),
    ("transistor", [213, 60, 40]),
    ("wood", [247, 19, 60]),
    ("zipper", [240, 32, 119]),
];

/// As large as MVTec AD's largest images, and of each sort as many as the category that has most.
const DRAWING: Drawing = Drawing {
    name: "weave-1024",
    side: 1024,
    counts: [391, 60, 141],
};

pub(super) fn run(bench: &mut Bench, given: &[(Arch, PathBuf)]) -> Result<()> {
    let drawn = DRAWING.load(&bench.cache)?;
    let datasets = IMAGES.map(|(category, counts)| first(&drawn, category, counts));
    let train: usize = datasets.iter().map(|dataset| dataset.train.len()).sum();
    let test: usize = datasets.iter().map(|dataset| dataset.test.len()).sum();
    let (weights, backbone) = network(bench, Arch::WideResNet50_2, given)?;
    for (precision, name) in [(Precision::Bf16, "bf16"), (Precision::F32, "f32")] {
        let config = paper(precision)?;
        let mut sums = [Duration::ZERO; 3];
        for dataset in &datasets {
            let times = category_once(bench, &config, dataset, &backbone)?;
            let whole: Duration = times.iter().sum();
            errln!("table 1: {}, {name}: {:.1} s", dataset.category, whole.as_secs_f64());
            for (sum, time) in sums.iter_mut().zip(times) {
                *sum += time;
            }
        }
        let row = Benchmark {
            model: format!(
                "{} categories of MVTec AD's sizes, {train}+{test} images of {} px, {} epochs",
                datasets.len(),
                DRAWING.side,
                config.train.epochs
            ),
            weights: weights.clone(),
            ..bench.row("table 1", name, train + test)
        };
        bench.push(rows(&row, sums))?;
    }
    Ok(())
}

/// A category of the first so many images of each sort.
fn first(drawn: &Dataset, category: &str, [train, good, defective]: [usize; 3]) -> Dataset {
    let test = |anomalous: bool, count: usize| {
        let of_sort = drawn.test.iter().filter(move |sample| sample.anomalous == anomalous);
        of_sort.take(count).cloned()
    };
    Dataset {
        name: drawn.name.clone(),
        category: category.into(),
        train: drawn.train.iter().take(train).cloned().collect(),
        test: test(true, defective).chain(test(false, good)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_add_up_to_mvtec_ad_and_none_exceeds_what_is_drawn() {
        let of_sort = |sort: usize| IMAGES.map(|(_, counts)| counts[sort]);
        let sums = [0, 1, 2].map(|sort| of_sort(sort).iter().sum::<usize>());
        assert_eq!(sums, [3629, 467, 1258]);
        assert_eq!(sums[1] + sums[2], 1725);
        let most = [0, 1, 2].map(|sort| of_sort(sort).into_iter().max());
        assert_eq!(most, DRAWING.counts.map(Some));
    }
}
