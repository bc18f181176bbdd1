//! The other tables and figures as a user runs them, on small procedural sets.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{cells, data, stderr};
use tempfile::TempDir;

/// Two epochs with the embedded backbone.
fn run(id: &str, out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command
        .args([
            "reproduce",
            id,
            "--backbone",
            "efficientnet_lite0",
            "--epochs",
            "2",
            "--out",
        ])
        .arg(out)
        .args(more)
        .env_remove("MVTEC_AD")
        .env_remove("CIFAR10");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

/// A category that has the name of one of MVTec AD.
fn one_category(folder: &Path) -> String {
    let data = data(folder, &["ring"]);
    fs::rename(data.join("ring"), data.join("bottle")).unwrap();
    data.to_str().unwrap().to_string()
}

#[test]
fn variants_that_differ_in_the_head_share_one_extraction() {
    let folder = TempDir::new().unwrap();
    let (data, out) = (one_category(folder.path()), folder.path().join("out"));
    let output = run("table3", &out, &["--data", &data]);
    let rows = cells(&out.join("table3.csv"), &["variant", "selection", "extract_seconds"]);
    let variants: Vec<&str> = rows.iter().step_by(2).map(|row| row[0].as_str()).collect();
    assert_eq!(
        variants,
        ["linear-adaptor", "complex-adaptor", "without-adaptor", "cross-entropy"]
    );
    assert!(
        rows.iter().all(|row| row[2] == rows[0][2]),
        "one measured time is all rows'"
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("Ours-CE") && text.contains("99.4*"),
        "the paper's names and numbers: {text}"
    );
    assert!(
        text.contains("mvtec-part") && text.contains("these are not the benchmark's numbers"),
        "{text}"
    );
}

#[test]
fn the_convergence_has_every_epoch_and_the_figures_show_it() {
    let folder = TempDir::new().unwrap();
    let (data, out) = (one_category(folder.path()), folder.path().join("out"));
    run("fig7", &out, &["--data", &data]);
    let points = cells(&out.join("fig7.measurements.csv"), &["variant", "quantity", "x"]);
    for variant in ["with-adaptor", "without-adaptor"] {
        for quantity in ["loss", "image_auroc"] {
            let epochs = points
                .iter()
                .filter(|point| point[0] == variant && point[1] == quantity);
            assert_eq!(epochs.map(|point| point[2].as_str()).collect::<Vec<_>>(), ["1", "2"]);
        }
    }
    let svg = fs::read_to_string(out.join("figures/fig7-auroc.svg")).unwrap();
    assert!(svg.contains("image AUROC (%)") && svg.contains("without-adaptor"));
    assert!(out.join("figures/fig7-loss.png").is_file());
}

#[test]
fn every_dimension_has_a_deviation_before_and_after_the_adaptor() {
    let folder = TempDir::new().unwrap();
    let (data, out) = (one_category(folder.path()), folder.path().join("out"));
    run("fig4", &out, &["--data", &data]);
    let points = cells(&out.join("fig4.measurements.csv"), &["quantity", "value"]);
    for quantity in ["deviation_before", "deviation_after"] {
        let values: Vec<f64> = points
            .iter()
            .filter(|point| point[0] == quantity)
            .map(|p| p[1].parse().unwrap())
            .collect();
        // 40 channels of the second stage and 112 of the third.
        assert_eq!(values.len(), 152);
        assert!(values.iter().all(|&value| value > 0.0));
    }
    assert!(out.join("figures/fig4-bottle.svg").is_file());
}

#[test]
fn a_backbone_without_weights_is_named_and_methods_are_timed_whole_and_without_the_backbone() {
    let folder = TempDir::new().unwrap();
    let (data, out) = (one_category(folder.path()), folder.path().join("out"));
    let only = [
        "--only",
        "variant=simplenet-efficientnet_lite0",
        "--only",
        "variant=patchcore-10",
    ];
    let output = run("fig2", &out, &[&["--data", &data], &only[..]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("p99 (ms)") && text.contains("Not run here: "), "{text}");
    assert!(
        text.contains("Published points of the figure are means over all 15 categories"),
        "{text}"
    );
    assert!(
        text.contains("times as fast as patchcore-10 (head ") && text.contains("the paper says nearly 8 times"),
        "{text}"
    );
    assert!(
        stderr(&output).contains("data fetch weights --backbone resnet101"),
        "{}",
        stderr(&output)
    );
    let times = cells(
        &out.join("fig2.measurements.csv"),
        &["variant", "quantity", "x", "value"],
    );
    for variant in ["simplenet-efficientnet_lite0", "patchcore-10"] {
        let of = |quantity: &str| -> Vec<f64> {
            let of = times.iter().filter(|row| row[0] == variant && row[1] == quantity);
            of.map(|row| row[3].parse().unwrap()).collect()
        };
        let (whole, head) = (of("latency_ms"), of("head_ms"));
        assert_eq!((whole.len(), head.len()), (100, 100));
        assert!(
            whole.iter().zip(&head).all(|(whole, head)| head < whole),
            "a part is less than the whole"
        );
    }
}

#[test]
fn three_methods_share_one_extraction_and_only_the_one_with_epochs_selects() {
    let folder = TempDir::new().unwrap();
    let (data, out) = (one_category(folder.path()), folder.path().join("out"));
    let output = run("table1", &out, &["--data", &data]);
    let columns = [
        "variant",
        "selection",
        "epoch",
        "image_auroc",
        "aupro",
        "extract_seconds",
    ];
    let rows = cells(&out.join("table1.csv"), &columns);
    let named: Vec<[&str; 3]> = rows.iter().map(|row| [&*row[0], &*row[1], &*row[2]]).collect();
    assert_eq!(named[0], ["simplenet", "last", "2"]);
    assert_eq!(
        named[2..],
        [
            ["padim", "last", ""],
            ["padim", "best", ""],
            ["patchcore-10", "last", ""],
            ["patchcore-10", "best", ""]
        ]
    );
    assert!(
        rows.iter().all(|row| row[5] == rows[0][5]),
        "one measured time is all rows'"
    );
    assert_eq!(rows[2][3..], rows[3][3..]);
    assert_ne!(
        rows[2][3..5],
        rows[4][3..5],
        "methods that score alike would be one method"
    );

    // 4704 patches of 152 channels: a tenth of them, and a mean and half a matrix of 100 channels for 784 positions.
    let bytes: Vec<usize> = cells(&out.join("table1.measurements.csv"), &["quantity", "value"])
        .iter()
        .filter(|row| row[0] == "model_bytes")
        .map(|row| row[1].parse::<f64>().unwrap() as usize)
        .collect();
    let [_, padim, patchcore] = bytes[..] else {
        panic!("{bytes:?}");
    };
    assert_eq!(patchcore, 470 * 152 * 4);
    assert!((784 * 5150 * 4..784 * 5150 * 4 + 1000).contains(&padim), "{padim}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("peak memory (MB)") && text.contains("patchcore-10"),
        "{text}"
    );
}

#[test]
fn a_sweep_over_the_noise_is_drawn_over_the_numbers_of_its_configurations() {
    let folder = TempDir::new().unwrap();
    let (data, out) = (one_category(folder.path()), folder.path().join("out"));
    let only = [
        "--data",
        &data,
        "--only",
        "variant=x0.5",
        "--only",
        "variant=x1.0",
        "--only",
        "variant=x2.0",
    ];
    run("fig5", &out, &only);
    let svg = fs::read_to_string(out.join("figures/fig5.svg")).unwrap();
    assert!(
        svg.contains("standard deviations") && svg.contains("our choice: 0.3"),
        "{svg}"
    );
    let sha = &cells(&out.join("fig5.csv"), &["config_sha256"])[0][0];
    let config = fs::read_to_string(out.join(format!("configs/{sha}.toml"))).unwrap();
    assert!(config.contains("noise = 0.15"), "{config}");
}

/// CIFAR-10's binary layout with `train` and `test` images per class: noise around a colour of the class.
fn cifar10(folder: &Path, train: usize, test: usize) -> PathBuf {
    let records = |images: usize, salt: usize| -> Vec<u8> {
        let record = |index: usize| {
            let label = index % 10;
            let pixel = move |place: usize| ((place * 31 + index * 17 + salt) % 61 + label * 15) as u8;
            std::iter::once(label as u8).chain((0..3 * 32 * 32).map(pixel))
        };
        (0..10 * images).flat_map(record).collect()
    };
    let root = folder.join("cifar10");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("data_batch_1.bin"), records(train, 5)).unwrap();
    fs::write(root.join("test_batch.bin"), records(test, 11)).unwrap();
    root
}

#[test]
fn one_class_of_cifar10_is_judged_on_a_subset_of_all_classes() {
    let folder = TempDir::new().unwrap();
    let root = cifar10(folder.path(), 5, 3);
    let out = folder.path().join("out");
    let more = [
        "--cifar10",
        root.to_str().unwrap(),
        "--only",
        "category=cat",
        "--only",
        "category=truck",
    ];
    let limits = ["--limit-train", "4", "--limit-test", "20"];
    let output = run("table5", &out, &[&more[..], &limits].concat());
    let rows = cells(
        &out.join("table5.csv"),
        &["dataset", "category", "image_auroc", "pixel_auroc"],
    );
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[0][..2], ["cifar10-part (train 4 test 20)", "cat"]);
    assert!(rows.iter().all(|row| !row[2].is_empty() && row[3].is_empty()));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("average") && text.contains("RevDist 86.5 (third-party"),
        "{text}"
    );
    assert_eq!(
        stderr(&output).matches("warning:").count(),
        0,
        "classes have no masks to miss"
    );
}

#[test]
fn the_segmentations_are_ranked_by_overlap_and_a_page_shows_them() {
    let folder = TempDir::new().unwrap();
    let (data, out) = (one_category(folder.path()), folder.path().join("out"));
    run("fig8", &out, &["--data", &data]);
    assert_eq!(fs::read_dir(out.join("sheets")).unwrap().count(), 1);
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("id=\"galleries\"") && page.contains("data:image/jpeg;base64,"));
    assert!(page.contains("<caption>") && page.contains("Figure 8"));
    for network in ["src=\"http", "href=\"http", "@import", "fetch("] {
        assert!(
            !page.contains(network),
            "the page needs no network, but has `{network}`"
        );
    }
}
