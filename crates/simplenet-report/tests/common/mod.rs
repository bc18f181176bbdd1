use simplenet_report::{Row, Selection};

/// A finished cell with plausible values everywhere.
pub(crate) fn row(category: &str, seed: u64, selection: Selection, image: f64, pixel: f64) -> Row {
    Row {
        experiment: "table1".into(),
        variant: "simplenet".into(),
        protocol: "paper".into(),
        dataset: "mvtec".into(),
        category: category.into(),
        backbone: "wide_resnet50_2".into(),
        seed,
        selection,
        epoch: Some(160),
        image_auroc: Some(image),
        pixel_auroc: Some(pixel),
        aupro: Some(0.9),
        image_f1_max: Some(0.95),
        pixel_ap: Some(0.5),
        extract_seconds: Some(1.2345),
        train_seconds: Some(60.0),
        ms_per_image: Some(9.31249),
        device: "cpu".into(),
        threads: 2,
        commit: "0123abc".into(),
        config_sha256: "1234567890".into(),
        error: None,
    }
}
