//! What a run writes: refused before any work where it cannot be written, or would replace what is judged.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::support::{command, factory, lines, names, simplenet, stderr};

fn run(verb: &str, rest: &[&Path]) -> Output {
    let mut arguments: Vec<&OsStr> = vec![verb.as_ref(), factory().detector.as_ref()];
    arguments.extend(rest.iter().map(|path| path.as_os_str()));
    simplenet(&arguments)
}

fn predict(rest: &[&Path]) -> Output {
    run("predict", rest)
}

/// A folder with the photograph `new/a.png`, and its bytes.
fn photographs() -> (tempfile::TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("new")).unwrap();
    let bytes = std::fs::read(factory().test("good/000.png")).unwrap();
    std::fs::write(folder.path().join("new/a.png"), &bytes).unwrap();
    (folder, bytes)
}

#[test]
fn nothing_that_is_judged_is_replaced() {
    let (folder, bytes) = photographs();
    let new = folder.path().join("new");
    let (photo, around, other) = (new.join("a.png"), new.join("../new"), folder.path().join("maps"));
    let detector = std::fs::read(&factory().detector).unwrap();
    let option = Path::new;
    let page = factory().test("good/001.png");
    for (out, expected) in [
        (
            predict(&[&new, option("--heatmaps"), &new]),
            "replace the image to judge",
        ),
        (
            predict(&[&photo, option("--masks"), &around]),
            "replace the image to judge",
        ),
        (
            predict(&[&new, option("--heatmaps"), &other, option("--masks"), &other]),
            "name two folders",
        ),
        (
            predict(&[&new, option("--csv"), &photo]),
            "would replace the image to judge",
        ),
        (
            predict(&[&new, option("--csv"), &factory().detector]),
            "would replace the detector",
        ),
        (
            predict(&[&new, option("--page"), &photo]),
            "would replace the image to judge",
        ),
        (
            predict(&[&new, option("--csv"), &other, option("--page"), &other]),
            "would replace the file of `--csv`",
        ),
        (
            run("evaluate", &[&factory().ring, option("--page"), &factory().detector]),
            "would replace the detector",
        ),
        (
            run("evaluate", &[&factory().ring, option("--curves"), &page]),
            "would replace the image",
        ),
    ] {
        let message = stderr(&out);
        assert_eq!(out.status.code(), Some(1), "{message}");
        assert!(
            message.contains(expected) && message.contains("\n\nhint: "),
            "{message}"
        );
        assert!(out.stdout.is_empty(), "judged before it was refused");
    }
    assert_eq!(std::fs::read(&photo).unwrap(), bytes);
    assert_eq!(std::fs::read(&factory().detector).unwrap(), detector);
    assert_eq!(names(&new), ["a.png"]);
}

#[test]
fn a_streamed_photograph_is_not_replaced_and_the_next_one_is_judged() {
    let (folder, bytes) = photographs();
    let elsewhere = tempfile::tempdir().unwrap();
    let next = elsewhere.path().join("b.png");
    std::fs::write(&next, &bytes).unwrap();
    let arguments: [&OsStr; 5] = [
        "predict".as_ref(),
        factory().detector.as_ref(),
        "-".as_ref(),
        "--heatmaps".as_ref(),
        ".".as_ref(),
    ];
    let mut child = command(&arguments)
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "new/a.png\n{}", next.display()).unwrap();
    drop(stdin);
    let out = child.wait_with_output().unwrap();
    let lines = lines(&out);
    assert!(lines[0]["error"].as_str().unwrap().contains("replace"), "{}", lines[0]);
    assert!(lines[1]["score"].is_number(), "{}", lines[1]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(std::fs::read(folder.path().join("new/a.png")).unwrap(), bytes);
}

#[test]
fn every_image_has_a_picture_of_its_own() {
    let (folder, bytes) = photographs();
    let new = folder.path().join("new");
    let maps = folder.path().join("maps");
    let option = Path::new("--heatmaps");
    // Formats are told by their content, so a name is only a name.
    for name in ["x.bmp", "x.bmp.png"] {
        std::fs::write(new.join(name), &bytes).unwrap();
    }
    let out = predict(&[&new, option, &maps]);
    assert!(out.status.success(), "{}", stderr(&out));
    assert_eq!(names(&maps), ["a.png", "x.bmp.png", "x.bmp.png.png"]);

    let bare = new.join("a");
    std::fs::write(&bare, &bytes).unwrap();
    let out = predict(&[&bare, &new.join("a.png"), option, &maps]);
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).contains("replace that of"), "{}", stderr(&out));
    assert!(out.stdout.is_empty());
}

#[test]
fn what_cannot_be_written_is_said_before_the_work() {
    let (folder, _) = photographs();
    let new = folder.path().join("new");
    let file = folder.path().join("file");
    std::fs::write(&file, "a file").unwrap();
    let missing = folder.path().join("none/x");
    for (option, path, expected) in [
        ("--csv", &missing, "none is not there"),
        ("--csv", &new, "it is a folder"),
        ("--page", &missing, "none is not there"),
        ("--heatmaps", &file, "it is no folder"),
        ("--masks", &file, "it is no folder"),
    ] {
        let out = predict(&[&new, Path::new(option), path]);
        let message = stderr(&out);
        let named = format!("`{option}` {}", path.display());
        assert_eq!(out.status.code(), Some(1), "{message}");
        assert!(message.contains(expected) && message.contains(&named), "{message}");
        assert!(
            message.contains("\n\nhint: ") && !message.contains(" at path "),
            "{message}"
        );
        assert!(out.stdout.is_empty(), "judged before it was refused");
    }
    let page = run("evaluate", &[&factory().ring, Path::new("--page"), &missing]);
    assert!(stderr(&page).contains("cannot write `--page`"), "{}", stderr(&page));

    let part = folder.path().join("part.simplenet");
    let train = |out: &Path, test: Option<&Path>| {
        let ring = factory().ring.as_os_str();
        let mut arguments = vec!["train".as_ref(), ring, "--out".as_ref(), out.as_os_str()];
        arguments.extend(test.iter().flat_map(|test| ["--test".as_ref(), test.as_os_str()]));
        let out = simplenet(&arguments);
        assert_eq!(out.status.code(), Some(1));
        stderr(&out)
    };
    for (message, expected) in [
        (train(&missing, None), "none is not there"),
        (train(&new, None), "it is a folder"),
        (
            train(&factory().ring.join("train/good/000.png"), None),
            "would replace the image",
        ),
        (train(&part, Some(&folder.path().join("no-test"))), "no-test"),
    ] {
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(names(folder.path()), ["file", "new"]);
}

#[test]
fn a_verdict_stands_without_its_picture() {
    let (folder, bytes) = photographs();
    let (new, maps) = (folder.path().join("new"), folder.path().join("maps"));
    std::fs::write(new.join("b.png"), &bytes).unwrap();
    // A folder of the picture's name stands for a full disk.
    std::fs::create_dir_all(maps.join("a.png/full")).unwrap();
    let csv = folder.path().join("all.csv");
    let out = predict(&[&new, Path::new("--heatmaps"), &maps, Path::new("--csv"), &csv]);
    assert_eq!(out.status.code(), Some(1));
    let check = |lines: &[serde_json::Value]| {
        assert!(lines[0]["verdict"].is_string() && lines[1]["verdict"].is_string());
        let error = lines[0]["picture_error"].as_str().unwrap();
        assert!(error.starts_with("cannot write ") && error.contains("a.png"), "{error}");
        assert!(lines[1]["picture_error"].is_null());
    };
    check(&lines(&out));
    assert!(std::fs::read_to_string(csv).unwrap().contains("cannot write "));
    assert_eq!(names(&maps), ["a.png", "b.png"]);

    let judged = folder.path().join("judged");
    let options = [
        Path::new("--out"),
        &judged,
        Path::new("--heatmaps"),
        &maps,
        Path::new("--settle"),
        Path::new("0"),
        Path::new("--once"),
    ];
    let out = run("watch", &[&[new.as_path()], &options[..]].concat());
    assert_eq!(out.status.code(), Some(1));
    check(&lines(&out));
    assert_eq!(
        std::fs::read(judged.join("judged.jsonl")).unwrap(),
        out.stdout,
        "the log has what was printed"
    );
}
