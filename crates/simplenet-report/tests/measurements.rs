//! The CSV file of curves and lists: round trip, replacement, refusals.

use simplenet_report::{Measurement, measurements};

fn measurement(variant: &str, quantity: &str, x: u64, value: f64) -> Measurement {
    Measurement {
        experiment: "fig7".into(),
        variant: variant.into(),
        protocol: "paper".into(),
        dataset: "mvtec".into(),
        category: "screw".into(),
        backbone: "resnet18".into(),
        seed: 0,
        config_sha256: "0123".into(),
        quantity: quantity.into(),
        x,
        value,
    }
}

#[test]
fn a_cell_that_is_measured_again_replaces_its_numbers_and_no_others() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("fig7.measurements.csv");
    assert_eq!(measurements::read_or_empty(&path).expect("nothing there"), []);
    let first = [
        measurement("a", "loss", 1, 0.1 + 0.2),
        measurement("a", "loss", 2, 1e-9),
    ];
    let other = [measurement("b", "loss", 1, 3.0)];
    measurements::replace(&path, &first).expect("written");
    measurements::replace(&path, &other).expect("written");
    let again = [measurement("a", "loss", 1, -0.25)];
    measurements::replace(&path, &again).expect("written");
    let all = measurements::read_or_empty(&path).expect("readable");
    assert_eq!(all, [other, again].concat());
}

#[test]
fn numbers_that_are_none_and_broken_files_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("fig7.measurements.csv");
    let error = measurements::replace(&path, &[measurement("a", "loss", 1, f64::NAN)]).expect_err("refused");
    assert!(error.to_string().contains("NaN"), "{error}");
    assert!(!path.exists());
    measurements::replace(&path, &[measurement("a", "loss", 1, 1.0)]).expect("written");
    let text = std::fs::read_to_string(&path).expect("readable").replace(",1.0", ",x");
    std::fs::write(&path, text).expect("written");
    let message = measurements::read_or_empty(&path).expect_err("refused").to_string();
    assert!(message.contains("line 2") && message.contains("`value`"), "{message}");
}
