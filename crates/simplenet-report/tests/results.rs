//! The CSV file: round trip, refusals, many writers.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use common::row;
use simplenet_report::{COLUMNS, Error, Row, Selection, results};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn expect_error(path: &Path, text: &str, expected: &[&str]) {
    fs::write(path, text).expect("written");
    let message = results::read(path).expect_err("refused").to_string();
    for part in expected {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn rows_survive_the_round_trip() {
    let folder = folder();
    let path = folder.path().join("rows.csv");
    let awkward = Row {
        variant: "a \"quoted\", comma".into(),
        image_auroc: Some(0.1 + 0.2),
        pixel_auroc: Some(1.0),
        aupro: Some(1e-7),
        seed: u64::MAX,
        error: Some("first line\nsecond, with \"quotes\"\r\nthird |".into()),
        ..row("screw", 0, Selection::Best, 0.5, 0.5)
    };
    let bare = Row {
        epoch: None,
        image_auroc: None,
        pixel_auroc: None,
        aupro: None,
        image_f1_max: None,
        pixel_ap: None,
        extract_seconds: None,
        train_seconds: None,
        ms_per_image: None,
        ..row("bottle", 1, Selection::Last, 0.0, 0.0)
    };
    results::append(&path, std::slice::from_ref(&awkward)).expect("appended");
    results::append(&path, std::slice::from_ref(&bare)).expect("appended");
    let read = results::read(&path).expect("read");
    // Times are kept to three decimals.
    let rounded = Row {
        extract_seconds: Some(1.235),
        ms_per_image: Some(9.312),
        ..awkward
    };
    assert_eq!(read, [rounded, bare]);
}

#[test]
fn the_file_is_stable_text() {
    let folder = folder();
    let path = folder.path().join("rows.csv");
    results::append(&path, &[row("bottle", 0, Selection::Last, 0.9975, 1.0)]).expect("appended");
    insta::assert_snapshot!(fs::read_to_string(&path).expect("text"), @r#"
    experiment,variant,protocol,dataset,category,backbone,seed,selection,epoch,image_auroc,pixel_auroc,aupro,image_f1_max,pixel_ap,extract_seconds,train_seconds,ms_per_image,device,threads,commit,config_sha256,error
    table1,simplenet,paper,mvtec,bottle,wide_resnet50_2,0,last,160,0.9975,1.0,0.9,0.95,0.5,1.235,60.0,9.312,cpu,2,0123abc,1234567890,
    "#);
    let before = fs::read(&path).expect("bytes");
    results::append(&path, &[]).expect("appended nothing");
    assert_eq!(fs::read(&path).expect("bytes"), before);
}

#[test]
fn a_line_number_counts_the_breaks_inside_quotes() {
    let folder = folder();
    let path = folder.path().join("rows.csv");
    let failed = Row {
        error: Some("one\ntwo".into()),
        ..row("bottle", 0, Selection::Last, 0.5, 0.5)
    };
    results::append(&path, &[failed, row("screw", 0, Selection::Last, 0.75, 0.5)]).expect("appended");
    let text = fs::read_to_string(&path).expect("text").replace("0.75", "abc");
    expect_error(&path, &text, &["line 4", "`image_auroc`", "`abc`", "from 0 to 1"]);
}

#[test]
fn wrong_cells_are_refused_with_their_place() {
    let folder = folder();
    let path = folder.path().join("rows.csv");
    results::append(&path, &[row("bottle", 7, Selection::Last, 0.625, 0.5)]).expect("appended");
    let good = fs::read_to_string(&path).expect("text");
    expect_error(
        &path,
        &good.replace("0.625", "1.5"),
        &["rows.csv, line 2", "`image_auroc`", "`1.5`"],
    );
    expect_error(&path, &good.replace("0.625", "NaN"), &["`image_auroc`", "`NaN`"]);
    expect_error(&path, &good.replace(",7,", ",-7,"), &["`seed`", "`-7`", "whole number"]);
    expect_error(
        &path,
        &good.replace(",last,", ",first,"),
        &["`selection`", "`first`", "`last` or `best`"],
    );
    expect_error(&path, &good.replace(",bottle,", ",,"), &["`category`", "found nothing"]);
    expect_error(&path, &good.replace("table1,simplenet", "table1"), &["line 2"]);
    expect_error(
        &path,
        &good.replace("0.625", "0.625,1"),
        &["not a well-formed CSV file"],
    );
}

#[test]
fn wrong_columns_are_refused() {
    let folder = folder();
    let path = folder.path().join("rows.csv");
    let header = COLUMNS.join(",");
    expect_error(&path, "", &["line 1", "missing: experiment"]);
    expect_error(&path, &header.replace(",aupro", ""), &["line 1", "missing: aupro"]);
    expect_error(&path, &format!("{header},more\n"), &["not known: more"]);
    expect_error(
        &path,
        &header.replace("seed,selection", "selection,seed"),
        &["the order is wrong"],
    );
    expect_error(&path, &format!("{header},seed\n"), &["line 1", "not known: seed"]);
    fs::write(&path, format!("{header}\n")).expect("written");
    assert_eq!(results::read(&path).expect("no rows"), []);
}

#[test]
fn two_rows_with_one_key_are_refused() {
    let folder = folder();
    let path = folder.path().join("rows.csv");
    let first = row("bottle", 0, Selection::Last, 0.5, 0.5);
    results::append(&path, std::slice::from_ref(&first)).expect("appended");
    let before = fs::read(&path).expect("bytes");
    let error = results::append(
        &path,
        &[Row {
            image_auroc: None,
            ..first.clone()
        }],
    )
    .expect_err("refused");
    assert!(
        error.to_string().contains("mvtec/bottle/wide_resnet50_2/seed 0/last"),
        "{error}"
    );
    assert_eq!(fs::read(&path).expect("bytes"), before);
    results::append(
        &path,
        &[Row {
            config_sha256: "other".into(),
            ..first
        }],
    )
    .expect("another config is another cell");
}

#[test]
fn a_failed_cell_can_be_replaced_and_no_other() {
    let folder = folder();
    let path = folder.path().join("rows.csv");
    let good = row("bottle", 0, Selection::Last, 0.5, 0.5);
    let failed = Row {
        error: Some("out of memory".into()),
        ..row("screw", 0, Selection::Last, 0.5, 0.5)
    };
    let retried = Row {
        error: None,
        ..failed.clone()
    };
    results::append(&path, &[good.clone(), failed]).expect("appended");
    results::replace_failed(&path, std::slice::from_ref(&retried)).expect("replaced");
    let read = results::read(&path).expect("read");
    assert_eq!(
        read.iter().map(|r| r.error.as_deref()).collect::<Vec<_>>(),
        [None, None]
    );
    assert!(matches!(
        results::replace_failed(&path, &[good]),
        Err(Error::Duplicate { .. })
    ));
}

#[test]
fn what_could_not_be_read_is_not_written() {
    let folder = folder();
    let path = folder.path().join("rows.csv");
    let good = row("bottle", 0, Selection::Last, 0.5, 0.5);
    let bad = [
        Row {
            image_auroc: Some(f64::NAN),
            ..good.clone()
        },
        Row {
            pixel_ap: Some(-0.1),
            ..good.clone()
        },
        Row {
            train_seconds: Some(f64::INFINITY),
            ..good.clone()
        },
        Row {
            category: String::new(),
            ..good.clone()
        },
        Row {
            config_sha256: String::new(),
            ..good.clone()
        },
        Row {
            error: Some(String::new()),
            ..good.clone()
        },
    ];
    for row in bad {
        let error = results::append(&path, &[good.clone(), row]).expect_err("refused");
        assert!(matches!(error, Error::Value { .. }), "{error}");
        assert!(!path.exists());
    }
}

#[test]
fn missing_files_and_folders() {
    let folder = folder();
    let path = folder.path().join("none.csv");
    assert!(results::read(&path).is_err());
    assert_eq!(results::read_or_empty(&path).expect("empty"), []);
    // A file where the folder should be cannot be written by any user.
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    let error = results::append(&file.join("rows.csv"), &[row("bottle", 0, Selection::Last, 0.5, 0.5)]);
    assert!(error.expect_err("refused").to_string().contains("rows.csv"));
}

#[test]
fn a_stray_temporary_file_is_ignored() {
    let folder = folder();
    let path = folder.path().join("rows.csv");
    results::append(&path, &[row("bottle", 0, Selection::Last, 0.5, 0.5)]).expect("appended");
    let stray = folder.path().join(".Xy12.tmp");
    fs::write(&stray, "half a li").expect("written");
    results::append(&path, &[row("screw", 0, Selection::Last, 0.5, 0.5)]).expect("appended");
    assert_eq!(results::read(&path).expect("read").len(), 2);
    assert_eq!(fs::read_to_string(&stray).expect("still there"), "half a li");
}

#[test]
fn threads_that_append_at_once_all_land() {
    let folder = folder();
    let path = folder.path().join("rows.csv");
    thread::scope(|scope| {
        for writer in 0..4 {
            let path = &path;
            scope.spawn(move || {
                for seed in 0..5 {
                    let category = format!("writer{writer}");
                    results::append(path, &[row(&category, seed, Selection::Last, 0.5, 0.5)]).expect("appended");
                }
            });
        }
    });
    assert_eq!(results::read(&path).expect("read").len(), 20);
}

const CHILD: &str = "SIMPLENET_REPORT_TEST_APPEND_TO";

#[test]
fn processes_that_append_at_once_all_land() {
    // The test program starts itself; in the child this variable says where to append.
    if let Some(target) = std::env::var_os(CHILD) {
        for seed in 0..5 {
            let category = format!("process{}", std::process::id());
            results::append(Path::new(&target), &[row(&category, seed, Selection::Last, 0.5, 0.5)]).expect("appended");
        }
        return;
    }
    let folder = folder();
    let path = folder.path().join("rows.csv");
    let program = std::env::current_exe().expect("this test program");
    let start = || {
        Command::new(&program)
            .args(["--exact", "processes_that_append_at_once_all_land"])
            .env(CHILD, &path)
            .spawn()
            .expect("started")
    };
    let children = [start(), start(), start()];
    for mut child in children {
        assert!(child.wait().expect("ended").success());
    }
    assert_eq!(results::read(&path).expect("read").len(), 15);
}
