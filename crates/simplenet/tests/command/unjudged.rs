//! Names without an image, and pictures that are passed over: nobody may take silence for a verdict.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::support::{command, factory, lines, simplenet, stderr, stdout};

fn predict(rest: &[&Path]) -> Output {
    let mut arguments: Vec<&OsStr> = vec!["predict".as_ref(), factory().detector.as_ref()];
    arguments.extend(rest.iter().map(|path| path.as_os_str()));
    simplenet(&arguments)
}

fn stream(names: &[u8], rest: &[&str]) -> Output {
    let mut child = command(&["predict".as_ref(), factory().detector.as_ref(), "-".as_ref()])
        .args(rest)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(names).unwrap();
    child.wait_with_output().unwrap()
}

/// A detector that calls everything good, so that a code says nothing of verdicts.
fn lenient(folder: &Path) -> std::path::PathBuf {
    with_threshold(folder, "1e30")
}

fn with_threshold(folder: &Path, threshold: &str) -> std::path::PathBuf {
    let detector = folder.join("another.simplenet");
    std::fs::copy(&factory().detector, &detector).unwrap();
    let arguments = [
        "threshold".as_ref(),
        detector.as_os_str(),
        "--value".as_ref(),
        threshold.as_ref(),
    ];
    assert!(simplenet(&arguments).status.success());
    detector
}

#[test]
fn names_without_images_are_rows_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (empty, missing) = (folder.path().join("empty"), folder.path().join("missing.png"));
    std::fs::create_dir(&empty).unwrap();
    let (glob, csv) = (folder.path().join("*.none"), folder.path().join("all.csv"));
    let good = factory().test("good/000.png");
    let out = predict(&[&empty, &glob, &missing, &good, Path::new("--csv"), &csv]);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    let lines = lines(&out);
    for (line, expected) in lines.iter().zip(["no images in", "no image matches", "cannot read"]) {
        assert!(line["error"].as_str().unwrap().contains(expected), "{line}");
    }
    assert_eq!(lines[0]["file"], empty.display().to_string());
    assert!(lines[0]["hint"].is_string());
    assert!(lines.len() == 4 && lines[3]["score"].is_number());
    let table = std::fs::read_to_string(csv).unwrap();
    assert!(
        table.contains("no image matches") && table.contains("000.png"),
        "{table}"
    );
    let with_code = predict(&[&empty, &good, Path::new("--exit-code")]);
    assert_eq!(with_code.status.code(), Some(2));
}

/// `predict ... | head -1`: the table and the code still speak of all pictures.
#[test]
fn files_and_codes_need_no_reader_of_the_lines() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("all.csv");
    let detector = with_threshold(folder.path(), "0");
    let good = factory().ring.join("test/good");
    let mut arguments: Vec<&OsStr> = vec!["predict".as_ref(), detector.as_ref(), good.as_ref()];
    let run = |arguments: &[&OsStr]| {
        let mut child = command(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        drop(child.stdout.take());
        child.wait().expect("it ends").code()
    };
    assert_eq!(run(&arguments), Some(0));
    let page = folder.path().join("page.html");
    let with_page = [&arguments[..], &["--page".as_ref(), page.as_ref()]].concat();
    assert_eq!((run(&with_page), page.exists()), (Some(0), true));
    arguments.extend(["--exit-code", "--csv"].map(OsStr::new));
    arguments.push(csv.as_ref());
    assert_eq!(run(&arguments), Some(1));
    assert_eq!(std::fs::read_to_string(&csv).unwrap().lines().count(), 3);
}

/// For a person; lines are for programs.
#[test]
fn a_folder_ends_with_what_its_lines_come_to() {
    let (ring, missing) = (factory().ring.join("test"), Path::new("missing.png"));
    let out = predict(&[&ring, missing]);
    let lines = lines(&out);
    let count = |verdict: &str| lines.iter().filter(|line| line["verdict"] == verdict).count();
    let (good, defects) = (count("good"), count("defect"));
    assert!(good > 1 && defects > 1 && good + defects == 6, "{lines:?}");
    assert_eq!(
        stderr(&out),
        format!("7 pictures: {good} good, {defects} defects, 1 could not be judged\n")
    );
    assert_eq!(stderr(&predict(&[&ring, Path::new("--quiet")])), "");
    let names = format!("{0}/good/000.png\n{0}/good/001.png\n", ring.display());
    let out = stream(names.as_bytes(), &[]);
    assert_eq!((stdout(&out).lines().count(), stderr(&out)), (2, String::new()));
}

#[test]
fn pictures_of_another_size_are_judged_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let good = factory().test("good/000.png");
    let half = folder.path().join("half.png");
    image::open(&good)
        .unwrap()
        .thumbnail_exact(128, 100)
        .save(&half)
        .unwrap();
    let out = predict(&[&good, &half]);
    assert_eq!((out.status.code(), lines(&out).len()), (Some(0), 2));
    let message = stderr(&out);
    let expected = "note: all that was learnt from is 256 x 256 pixels; 1 picture is of another size, such as ";
    assert!(
        message.starts_with(expected) && message.contains("half.png of 128 x 100"),
        "{message}"
    );
    assert_eq!(stderr(&predict(&[&good])), "");

    // So say those that judge more.
    let labels = folder.path().join("labels");
    for (from, to) in [(&good, "good/0.png"), (&half, "good/half.png"), (&good, "bad/0.png")] {
        let to = labels.join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    }
    let detector = factory().detector.as_os_str();
    let evaluated = simplenet(&["evaluate".as_ref(), detector, labels.as_ref()]);
    let mut watch = vec!["watch".as_ref(), detector, labels.as_os_str()];
    watch.extend(["--once", "--settle", "0", "--out"].map(OsStr::new));
    let judged = folder.path().join("judged");
    watch.push(judged.as_ref());
    for out in [evaluated, simplenet(&watch)] {
        let message = stderr(&out);
        assert_eq!(message.matches(expected).count(), 1, "{message}");
        assert!(message.contains("half.png of 128 x 100"), "{message}");
    }
}

#[test]
fn pictures_that_are_passed_over_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new");
    std::fs::create_dir(&new).unwrap();
    std::fs::copy(factory().test("good/000.png"), new.join("a.png")).unwrap();
    std::fs::write(new.join("notes.txt"), "no picture").unwrap();
    let detector = lenient(folder.path());
    let judge = |rest: &[&str]| {
        let mut arguments: Vec<&OsStr> = vec!["predict".as_ref(), detector.as_ref(), new.as_ref()];
        arguments.extend(rest.iter().map(OsStr::new));
        simplenet(&arguments)
    };
    let out = judge(&["--exit-code"]);
    assert_eq!((out.status.code(), stderr(&out)), (Some(0), String::new()));

    std::fs::write(new.join("b.WEBP"), "a picture").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("nowhere", new.join("c.png")).unwrap();
    let count = if cfg!(unix) { "2 pictures are" } else { "1 picture is" };
    let out = judge(&["--exit-code"]);
    let message = stderr(&out);
    assert_eq!(out.status.code(), Some(2), "{message}");
    assert_eq!(message.matches("warning: ").count(), 1, "{message}");
    assert!(
        message.contains(count) && message.contains("b.WEBP: only PNG"),
        "{message}"
    );
    assert_eq!((lines(&out).len(), judge(&[]).status.code()), (1, Some(0)));

    let log = folder.path().join("judged");
    let out = simplenet(&[
        "watch".as_ref(),
        detector.as_ref(),
        new.as_ref(),
        "--out".as_ref(),
        log.as_ref(),
        "--settle".as_ref(),
        // Several looks at the folder, one warning.
        "0.1".as_ref(),
        "--interval".as_ref(),
        "0.02".as_ref(),
        "--once".as_ref(),
    ]);
    assert_eq!(stderr(&out).matches(count).count(), 1, "{}", stderr(&out));
}

#[cfg(unix)]
#[test]
fn links_to_folders_are_not_followed_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new");
    std::fs::create_dir(&new).unwrap();
    std::fs::copy(factory().test("good/000.png"), new.join("a.png")).unwrap();
    let elsewhere = folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::copy(factory().test("good/001.png"), elsewhere.join("b.png")).unwrap();
    // Nothing is missed behind this one.
    std::os::unix::fs::symlink(&new, new.join("circle")).unwrap();
    assert_eq!(stderr(&predict(&[&new])), "");
    std::os::unix::fs::symlink(&elsewhere, new.join("monday.png")).unwrap();
    let out = predict(&[&new, Path::new("--exit-code")]);
    let message = stderr(&out);
    assert_eq!((out.status.code(), lines(&out).len()), (Some(2), 1), "{message}");
    assert!(message.contains("1 link to a folder is not followed"), "{message}");
    assert!(message.contains("hint: "), "{message}");
    // Named by itself it is a folder like any other.
    assert_eq!(lines(&predict(&[&new.join("monday.png")])).len(), 1);
}

#[test]
fn nothing_judged_is_no_success() {
    let out = stream(b"", &["--exit-code"]);
    assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0));
    assert!(stderr(&out).contains("no picture was judged"), "{}", stderr(&out));
    assert_eq!(stream(b"\n", &[]).status.code(), Some(0));
}

#[test]
fn a_stream_has_no_page() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let detector = factory().detector.as_os_str();
    let out = simplenet(&[
        "predict".as_ref(),
        detector,
        "-".as_ref(),
        "--page".as_ref(),
        page.as_ref(),
    ]);
    let message = stderr(&out);
    assert!(
        out.status.code() == Some(1) && message.contains("`-` answers each at once"),
        "{message}"
    );
    assert!(!page.exists());
}

/// A name is bytes on Unix, so such a file can be judged; elsewhere its row says that it cannot.
#[test]
fn a_name_that_is_not_utf8_is_a_row() {
    let good = factory().test("good/000.png").display().to_string();
    let names = [b"none\xff.png\n", good.as_bytes(), b"\r\n"].concat();
    let out = stream(&names, &[]);
    let lines = lines(&out);
    assert_eq!((lines.len(), out.status.code()), (2, Some(1)), "{}", stderr(&out));
    assert!(lines[0]["error"].is_string() && lines[1]["score"].is_number());
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_whose_name_is_not_utf8_is_judged() {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(std::ffi::OsString::from_vec(b"\xff.png".to_vec()));
    std::fs::copy(factory().test("good/000.png"), &path).unwrap();
    let lines = lines(&stream(path.as_os_str().as_bytes(), &[]));
    assert!(lines[0]["score"].is_number(), "{}", lines[0]);
}
