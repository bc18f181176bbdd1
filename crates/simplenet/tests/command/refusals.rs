use crate::support::{factory, names, simplenet, stderr, stdout};

#[test]
fn a_damaged_detector_is_named_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.simplenet");
    let whole = std::fs::read(&factory().detector).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let out = simplenet(&["inspect".as_ref(), path.as_ref()]);
    assert_eq!(out.status.code(), Some(1));
    let message = stderr(&out);
    assert!(message.starts_with("error: ") && message.contains("cut.simplenet is not a whole detector file"));
    assert!(message.contains("\n\nhint: "), "{message}");
    let image = factory().test("good/000.png");
    let out = simplenet(&[
        "predict".as_ref(),
        path.as_ref(),
        image.as_ref(),
        "--exit-code".as_ref(),
    ]);
    assert_eq!(out.status.code(), Some(2));
}

#[test]
fn training_on_nothing_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out_file = folder.path().join("part.simplenet");
    let empty = folder.path().join("good");
    std::fs::create_dir(&empty).unwrap();
    let train =
        |good: &std::path::Path| simplenet(&["train".as_ref(), good.as_ref(), "--out".as_ref(), out_file.as_ref()]);
    assert!(stderr(&train(&empty)).contains("no images in"));
    let broken = empty.join("one.png");
    std::fs::write(&broken, "no picture").unwrap();
    let message = stderr(&train(&empty));
    assert!(message.contains("0 images can be read and 1 cannot"), "{message}");
    assert!(stderr(&train(&broken)).contains("name the folder"));
    assert!(stderr(&train(&folder.path().join("none"))).contains("is not there"));
    assert_eq!(names(folder.path()), ["good"]);
}

#[test]
fn usage_errors_are_1_and_help_is_0() {
    assert_eq!(simplenet(&["predict".as_ref()]).status.code(), Some(1));
    assert_eq!(
        simplenet(&["predict".as_ref(), "--exit-code".as_ref()]).status.code(),
        Some(2)
    );
    let help = simplenet(&["--help".as_ref()]);
    assert!(help.status.success() && stdout(&help).contains("simplenet train good/"));
    let none = simplenet(&[
        "inspect".as_ref(),
        factory().detector.as_ref(),
        "--threads".as_ref(),
        "0".as_ref(),
    ]);
    assert_eq!(none.status.code(), Some(1));
}

#[test]
fn quiet_means_data_only() {
    let out = simplenet(&["inspect".as_ref(), factory().detector.as_ref(), "--quiet".as_ref()]);
    assert!(stderr(&out).is_empty() && stdout(&out).starts_with("images "));
}
