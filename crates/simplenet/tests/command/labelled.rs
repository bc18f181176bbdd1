use std::ffi::OsStr;
use std::path::Path;

use serde_json::Value;

use crate::support::{factory, simplenet, stderr, stdout};

/// Two good parts and one that is not, in a folder for each.
fn lay_out(folder: &Path) {
    let defect = simplenet_data::toy::CATEGORIES[2].defects[1];
    for (from, to) in [
        ("good/000.png".to_string(), "good/0.png"),
        ("good/001.png".to_string(), "good/1.png"),
        (format!("{defect}/000.png"), "bad/0.png"),
    ] {
        let to = folder.join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(factory().test(&from), to).unwrap();
    }
}

/// As the help of these commands promises, without any images to learn from.
#[test]
fn labelled_images_are_found_in_the_folder_or_in_its_folder_test() {
    let folder = tempfile::tempdir().unwrap();
    let (direct, inside) = (folder.path().join("direct"), folder.path().join("inside"));
    lay_out(&direct);
    lay_out(&inside.join("test"));
    let copy = folder.path().join("copy.simplenet");
    for labels in [&direct, &inside, &inside.join("test")] {
        let detector = factory().detector.as_os_str();
        let out = simplenet(&["evaluate".as_ref(), detector, labels.as_ref(), "--json".as_ref()]);
        assert!(out.status.success(), "{}", stderr(&out));
        let report: Value = serde_json::from_str(&stdout(&out)).unwrap();
        assert_eq!(
            (&report["good"]["images"], &report["defects"]["images"]),
            (&Value::from(2), &Value::from(1))
        );
        let out = simplenet(&[
            "threshold".as_ref(),
            detector,
            "--from-test".as_ref(),
            labels.as_ref(),
            "--out".as_ref(),
            copy.as_ref(),
            "--json".as_ref(),
        ]);
        assert!(out.status.success(), "{}", stderr(&out));
        let threshold: Value = serde_json::from_str(&stdout(&out)).unwrap();
        assert_eq!(threshold["from-test"]["defective"], 1);
    }
    // The masks of a category are those of its test images too.
    let test = factory().ring.join("test");
    let out = simplenet(&[
        "evaluate".as_ref(),
        factory().detector.as_ref(),
        test.as_ref(),
        "--json".as_ref(),
    ]);
    let report: Value = serde_json::from_str(&stdout(&out)).unwrap();
    assert!(report["aupro"].is_number(), "{}", stderr(&out));
}

/// Under any name: the content counts.
#[test]
fn pictures_that_were_learnt_from_are_spoken_of() {
    let folder = tempfile::tempdir().unwrap();
    let (labels, copy) = (folder.path().join("labels"), folder.path().join("copy.simplenet"));
    lay_out(&labels);
    let detector = factory().detector.as_os_str();
    let run = |arguments: &[&OsStr]| {
        let out = simplenet(arguments);
        assert!(out.status.success(), "{}", stderr(&out));
        out
    };
    let said = || {
        let page = folder.path().join("page.html");
        let evaluate = ["evaluate".as_ref(), detector, labels.as_os_str(), "--json".as_ref()];
        let evaluated = run(&[&evaluate[..], &["--page".as_ref(), page.as_os_str()]].concat());
        let report: Value = serde_json::from_str(&stdout(&evaluated)).unwrap();
        let threshold = [
            "threshold".as_ref(),
            detector,
            "--from-test".as_ref(),
            labels.as_os_str(),
        ];
        let threshold = run(&[&threshold[..], &["--out".as_ref(), copy.as_os_str()]].concat());
        let page = std::fs::read_to_string(page).unwrap();
        (
            report["learnt_from"].clone(),
            [stderr(&evaluated), stderr(&threshold), page],
        )
    };
    let (count, texts) = said();
    assert_eq!(count, 0);
    assert!(texts.iter().all(|text| !text.contains("learnt from")), "{texts:?}");

    let learnt = factory().ring.join("train/good/003.png");
    std::fs::copy(learnt, labels.join("good/another.png")).unwrap();
    let (count, texts) = said();
    assert_eq!(count, 1);
    for text in texts {
        assert!(
            text.contains("1 of 4 labelled pictures is among those that were learnt from, such as ")
                && text.contains("another.png: they score lower"),
            "{text}"
        );
    }
}

/// Defects whose masks are black, as where they lie outside of what is judged: the other kinds still have numbers.
#[test]
fn a_kind_of_defect_without_a_white_pixel_has_no_pixel_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let ring = folder.path().join("ring");
    let defect = simplenet_data::toy::CATEGORIES[2].defects[1];
    for part in [
        "test/good",
        &format!("test/{defect}"),
        &format!("ground_truth/{defect}"),
    ] {
        std::fs::create_dir_all(ring.join(part)).unwrap();
        for entry in std::fs::read_dir(factory().ring.join(part)).unwrap() {
            let from = entry.unwrap().path();
            std::fs::copy(&from, ring.join(part).join(from.file_name().unwrap())).unwrap();
        }
    }
    let hidden = ring.join("test/hidden");
    std::fs::create_dir_all(&hidden).unwrap();
    std::fs::create_dir_all(ring.join("ground_truth/hidden")).unwrap();
    let image = ring.join(format!("test/{defect}/000.png"));
    std::fs::copy(&image, hidden.join("000.png")).unwrap();
    let (width, height) = image::image_dimensions(&image).unwrap();
    let black = image::GrayImage::new(width, height);
    black.save(ring.join("ground_truth/hidden/000_mask.png")).unwrap();
    let out = simplenet(&[
        "evaluate".as_ref(),
        factory().detector.as_ref(),
        ring.as_ref(),
        "--json".as_ref(),
    ]);
    assert!(out.status.success(), "{}", stderr(&out));
    assert!(
        stderr(&out).contains("no mask of `hidden` has a white pixel"),
        "{}",
        stderr(&out)
    );
    let report: Value = serde_json::from_str(&stdout(&out)).unwrap();
    assert!(report["pixel_auroc"].is_number(), "{report}");
    let kind = |name: &str| {
        let mut kinds = report["kinds"].as_array().unwrap().iter();
        kinds.find(|kind| kind["defect"] == name).unwrap().clone()
    };
    assert!(kind(defect)["aupro"].is_number());
    assert!(kind("hidden")["aupro"].is_null() && kind("hidden")["image_auroc"].is_number());
}

/// Before anything is learnt: training takes minutes.
#[test]
fn labelled_images_of_one_kind_are_refused_by_all_commands() {
    let folder = tempfile::tempdir().unwrap();
    let labels = folder.path().join("labels");
    lay_out(&labels);
    std::fs::remove_dir_all(labels.join("bad")).unwrap();
    let out_file = folder.path().join("part.simplenet");
    let (detector, labels) = (factory().detector.as_os_str(), labels.as_os_str());
    let train = [
        factory().ring.as_os_str(),
        "--out".as_ref(),
        out_file.as_ref(),
        "--test".as_ref(),
        labels,
    ];
    let commands: [(&str, &[&OsStr]); 3] = [
        ("train", &train),
        ("evaluate", &[detector, labels]),
        ("threshold", &[detector, "--from-test".as_ref(), labels]),
    ];
    for (verb, rest) in commands {
        let mut arguments = vec![OsStr::new(verb)];
        arguments.extend(rest);
        let out = simplenet(&arguments);
        let message = stderr(&out);
        assert!(
            out.status.code() == Some(1) && message.contains("a folder for each kind of defect"),
            "{verb}: {message}"
        );
    }
    assert!(!out_file.exists());
}

/// A camera's program may write `Good`, or a folder for each day.
#[test]
fn labelled_images_that_lie_elsewhere_are_pointed_at() {
    let labels = tempfile::tempdir().unwrap();
    lay_out(labels.path());
    let said = || {
        let out = simplenet(&["evaluate".as_ref(), factory().detector.as_ref(), labels.path().as_ref()]);
        assert_eq!(out.status.code(), Some(1));
        stderr(&out)
    };
    let good = labels.path().join("good");
    let (named, day) = (labels.path().join("GOOD"), good.join("monday"));
    std::fs::rename(&good, &named).unwrap();
    assert!(
        said().contains("its folder GOOD is not `good`, rename it"),
        "{}",
        said()
    );
    // Small and large letters are one on some systems.
    let aside = labels.path().join("aside");
    std::fs::rename(&named, &aside).unwrap();
    std::fs::create_dir(&good).unwrap();
    std::fs::rename(&aside, &day).unwrap();
    assert!(
        said().contains("images further down, as in good/monday, are not looked at"),
        "{}",
        said()
    );
}

/// One damaged picture among the labelled ones is named and left out, and no picture is replaced by a detector.
#[test]
fn a_threshold_is_chosen_on_what_can_be_judged() {
    let folder = tempfile::tempdir().unwrap();
    let labels = folder.path().join("labels");
    lay_out(&labels);
    std::fs::write(labels.join("good/2.png"), "no picture").unwrap();
    let copy = folder.path().join("part.simplenet");
    std::fs::copy(&factory().detector, &copy).unwrap();
    let threshold = |out: &Path| {
        simplenet(&[
            "threshold".as_ref(),
            copy.as_ref(),
            "--json".as_ref(),
            "--from-test".as_ref(),
            labels.as_ref(),
            "--out".as_ref(),
            out.as_ref(),
        ])
    };
    let chosen = threshold(&folder.path().join("other.simplenet"));
    assert_eq!(chosen.status.code(), Some(1), "something could not be judged");
    let said = stderr(&chosen);
    assert!(said.contains("left out") && said.contains("2.png"), "{said}");
    let value: Value = serde_json::from_str(&stdout(&chosen)).unwrap();
    assert_eq!(
        (&value["from-test"]["good"], &value["from-test"]["defective"]),
        (&2.into(), &1.into())
    );
    assert!(said.contains("of these it finds 1 of 1 defective images"), "{said}");
    assert!(folder.path().join("other.simplenet").exists());

    let picture = labels.join("good/0.png");
    let before = std::fs::read(&picture).unwrap();
    let refused = threshold(&picture);
    assert!(
        stderr(&refused).contains("would replace the image"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(std::fs::read(&picture).unwrap(), before);
}

/// A picture above the threshold that is good has a reason, and it is visible wherever the verdict is.
#[test]
fn the_smallest_defect_is_spoken_of_where_it_decides() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.simplenet");
    let run = |arguments: &[&OsStr]| {
        let out = simplenet(arguments);
        assert!(out.status.success(), "{}", stderr(&out));
        stdout(&out)
    };
    let threshold = |rest: &[&str]| {
        let mut arguments = vec!["threshold".as_ref(), copy.as_os_str()];
        arguments.extend(rest.iter().map(OsStr::new));
        run(&arguments)
    };
    std::fs::copy(&factory().detector, &copy).unwrap();
    assert!(!threshold(&[]).contains("--min-defect-area"));
    // Every picture is above this threshold, and no region is as large as this.
    let text = threshold(&["--value", "-1000", "--min-defect-area", "9999999"]);
    assert!(text.contains("at least 9999999 pixels (--min-defect-area)"), "{text}");
    let text = run(&["inspect".as_ref(), copy.as_ref()]);
    assert!(text.contains("at least 9999999 pixels (--min-defect-area)"), "{text}");
    let text = run(&["evaluate".as_ref(), copy.as_ref(), factory().ring.as_ref()]);
    assert!(
        text.contains("yet good, without a region of at least 9999999 pixels (--min-defect-area): 6"),
        "{text}"
    );
    let image = factory().test("good/000.png");
    let line: Value = serde_json::from_str(&run(&["predict".as_ref(), copy.as_ref(), image.as_ref()])).unwrap();
    assert_eq!(line["verdict"], "good");
    assert!(line["too_small"].as_u64().unwrap() > 0, "{line}");
}

/// For a program that reads it: what was learnt and what came of it are one value.
#[test]
fn training_with_a_test_prints_one_value() {
    let folder = tempfile::tempdir().unwrap();
    let out_file = folder.path().join("part.simplenet");
    let ring = factory().ring.as_os_str();
    let mut arguments = vec!["train".as_ref(), ring, "--out".as_ref(), out_file.as_os_str()];
    arguments.extend(["--resize", "64", "--tile", "32", "--folds", "2", "--json", "--test"].map(OsStr::new));
    arguments.push(ring);
    let out = simplenet(&arguments);
    assert!(out.status.success(), "{}", stderr(&out));
    let trained: Value = serde_json::from_str(&stdout(&out)).unwrap();
    assert_eq!(trained["data"]["images"], 12);
    assert_eq!(trained["test"]["defects"]["images"], 4);
    assert_eq!(trained["test"]["learnt_from"], 0);
    assert!(trained["test"]["recall"].is_number() && trained["test"]["aupro"].is_number());
    let text = stdout(&simplenet(&["inspect".as_ref(), out_file.as_ref()]));
    assert!(
        text.contains("seen as 64 x 64 in squares of 32 that share 8 (--tile, --overlap)"),
        "{text}"
    );
}

/// Where no mask marks anything there is no pixel metric, and that is said for every kind.
#[test]
fn masks_that_are_all_black_are_spoken_of() {
    let folder = tempfile::tempdir().unwrap();
    lay_out(&folder.path().join("test"));
    let masks = folder.path().join("ground_truth/bad");
    std::fs::create_dir_all(&masks).unwrap();
    let (width, height) = image::image_dimensions(folder.path().join("test/bad/0.png")).unwrap();
    image::GrayImage::new(width, height).save(masks.join("0.png")).unwrap();
    let out = simplenet(&[
        "evaluate".as_ref(),
        factory().detector.as_ref(),
        folder.path().as_ref(),
        "--json".as_ref(),
    ]);
    assert!(out.status.success(), "{}", stderr(&out));
    assert!(
        stderr(&out).contains("no mask of `bad` has a white pixel"),
        "{}",
        stderr(&out)
    );
    let report: Value = serde_json::from_str(&stdout(&out)).unwrap();
    assert!(report["aupro"].is_null() && report["unmarked"][0] == "bad", "{report}");
}

/// A defect without a region as large as a defect must be is found at no threshold, so none is chosen for it.
#[test]
fn the_best_threshold_is_one_that_finds_a_defect() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.simplenet");
    let choose = |area: &str| {
        let (detector, ring) = (factory().detector.as_os_str(), factory().ring.as_os_str());
        let mut arguments = vec!["threshold".as_ref(), detector, "--from-test".as_ref(), ring];
        arguments.extend(["--min-defect-area", area, "--json", "--out"].map(OsStr::new));
        arguments.push(copy.as_os_str());
        simplenet(&arguments)
    };
    let out = choose("10");
    assert!(out.status.success(), "{}", stderr(&out));
    let chosen: Value = serde_json::from_str(&stdout(&out)).unwrap();
    let out = simplenet(&[
        "evaluate".as_ref(),
        copy.as_ref(),
        factory().ring.as_ref(),
        "--json".as_ref(),
    ]);
    let report: Value = serde_json::from_str(&stdout(&out)).unwrap();
    assert_eq!(chosen["from-test"]["f1"], report["f1"], "{report}");
    assert!(report["defects"]["rejected"].as_u64().unwrap() > 0, "{report}");

    std::fs::remove_file(&copy).unwrap();
    let out = choose("9999999");
    assert_eq!(out.status.code(), Some(1));
    assert!(
        stderr(&out).contains("no defective image has a region of at least 9999999 pixels"),
        "{}",
        stderr(&out)
    );
    assert!(!copy.exists());
}

/// What `evaluate` says on stderr and on its page, at a threshold, of labelled images.
fn said_at(value: &str, area: &str, labels: &Path) -> [String; 2] {
    let folder = tempfile::tempdir().unwrap();
    let (copy, page) = (folder.path().join("copy.simplenet"), folder.path().join("page.html"));
    let mut set = vec!["threshold".as_ref(), factory().detector.as_os_str()];
    set.extend(["--value", value, "--min-defect-area", area, "--out"].map(OsStr::new));
    set.push(copy.as_os_str());
    let out = simplenet(&set);
    assert!(out.status.success(), "{}", stderr(&out));
    let evaluate = ["evaluate".as_ref(), copy.as_os_str(), labels.as_os_str()];
    let out = simplenet(&[&evaluate[..], &["--page".as_ref(), page.as_os_str()]].concat());
    assert!(out.status.success(), "{}", stderr(&out));
    [stderr(&out), std::fs::read_to_string(page).unwrap()]
}

/// Defects that score higher than good parts are found by a lower threshold, and nobody sees that in the verdicts.
#[test]
fn a_threshold_that_would_find_more_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let labels = folder.path().join("labels");
    lay_out(&labels);
    let defect = labels.join("bad/0.png");
    let out = simplenet(&["predict".as_ref(), factory().detector.as_ref(), defect.as_ref()]);
    let best = crate::support::lines(&out)[0]["score"].as_f64().unwrap();

    // Rounded down, so that who types it finds the defect.
    let rounded = (best * 1e4).floor() / 1e4;
    let expected = format!(
        "a threshold of {rounded:.4} would find 1 of 1 defects and reject 0 of 2 of these good parts; 2 good parts say little"
    );
    let [said, page] = said_at("1e9", "0", &labels);
    assert!(said.contains(&format!("note: {expected}")), "{said}");
    assert!(page.contains(&expected.replacen('a', "<p>A", 1)), "{page}");

    let [said, page] = said_at(&best.to_string(), "0", &labels);
    assert!(!said.contains("would find") && !page.contains("would find"), "{said}");
    // The area decides, and not the threshold.
    let [said, _] = said_at("-1000", "9999999", &labels);
    assert!(!said.contains("would find"), "{said}");
}

/// All that scores high lies in `good`.
#[test]
fn folders_that_are_swapped_are_asked_for() {
    let labels = tempfile::tempdir().unwrap();
    let defect = simplenet_data::toy::CATEGORIES[2].defects[1];
    for (from, to) in [(format!("{defect}/000.png"), "good"), ("good/000.png".into(), "bad")] {
        std::fs::create_dir(labels.path().join(to)).unwrap();
        for index in 0..10 {
            let to = labels.path().join(to).join(format!("{index}.png"));
            std::fs::copy(factory().test(&from), to).unwrap();
        }
    }
    let [said, page] = said_at("1", "0", labels.path());
    let question = "ood parts score higher than defects (I-AUROC 0.0); are the folders swapped?";
    assert!(said.contains(&format!("warning: g{question}")), "{said}");
    assert!(page.contains(&format!("<p>G{question}")), "{page}");
}

/// Grey with a grain of its own for every picture, and two dark squares on it that lie a little elsewhere each time, if it has any.
fn picture(seed: u32, has_part: bool) -> image::RgbImage {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(12345);
    let (left, top) = (90 + seed * 7 % 13, 100 + seed * 5 % 11);
    image::RgbImage::from_fn(256, 256, |x, y| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let is_in = |left: u32, top: u32| x.wrapping_sub(left) < 24 && y.wrapping_sub(top) < 24;
        let is_part = has_part && (is_in(left, top) || is_in(left + 40, top + 10));
        image::Rgb([if is_part { 30 } else { 150 } + (state >> 28) as u8; 3])
    })
}

/// Empty pictures score lower than good parts and are rejected all the same: no threshold has to find them.
#[test]
fn what_is_absent_is_found_at_any_threshold() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("parts");
    let labelled = folder.path().join("labelled");
    for (place, first, count, has_part) in [
        (&good, 0, 20, true),
        (&labelled.join("good"), 100, 6, true),
        (&labelled.join("empty"), 200, 6, false),
    ] {
        std::fs::create_dir_all(place).unwrap();
        for index in first..first + count {
            picture(index, has_part)
                .save(place.join(format!("{index}.png")))
                .unwrap();
        }
    }
    let detector = folder.path().join("part.simplenet");
    let run = |verb: &str, rest: &[&OsStr]| {
        let arguments = [&[verb.as_ref(), detector.as_os_str()], rest].concat();
        let out = simplenet(&arguments);
        assert!(out.status.success(), "{}", stderr(&out));
        out
    };
    let trained = simplenet(&["train".as_ref(), good.as_ref(), "--out".as_ref(), detector.as_ref()]);
    assert!(trained.status.success(), "{}", stderr(&trained));
    let report = || -> serde_json::Value {
        let out = run("evaluate", &[labelled.as_os_str(), "--json".as_ref()]);
        serde_json::from_str(&stdout(&out)).unwrap()
    };
    let before = report();
    assert_eq!(before["defects"], serde_json::json!({"images": 6, "rejected": 6}));
    assert_eq!(before["good"]["rejected"], 0);
    assert_eq!(before["absent"], serde_json::json!({"good": 0, "defects": 6}));
    let text = stdout(&run("evaluate", &[labelled.as_os_str()]));
    assert!(
        text.contains("for what is absent (--max-absence): 6 defects, 0 good parts"),
        "{text}"
    );

    let chosen = run("threshold", &["--from-test".as_ref(), labelled.as_os_str()]);
    assert!(stderr(&chosen).contains("no other threshold"), "{}", stderr(&chosen));
    assert_eq!(report()["threshold"], before["threshold"]);

    let empty = run("predict", &[labelled.join("empty").as_os_str()]);
    for line in crate::support::lines(&empty) {
        assert_eq!(
            (&line["verdict"], &line["absent"]),
            (&"defect".into(), &true.into()),
            "{line}"
        );
    }
    let table = folder.path().join("all.csv");
    let maps = folder.path().join("maps");
    let written = [
        "--csv".as_ref(),
        table.as_os_str(),
        "--heatmaps".as_ref(),
        maps.as_os_str(),
    ];
    run("predict", &[&[labelled.as_os_str()], &written[..]].concat());
    // What is absent is absent everywhere: the outline goes around the picture.
    let map = image::open(maps.join("empty/200.png")).unwrap().to_rgb8();
    let (right, lowest) = (map.width() - 1, map.height() - 1);
    let edge = map
        .enumerate_pixels()
        .filter(|(x, y, _)| [0, right].contains(x) || [0, lowest].contains(y));
    assert!(edge.clone().count() > 100 && edge.clone().all(|(_, _, pixel)| pixel.0 == [255; 3]));
    let table = std::fs::read_to_string(table).unwrap();
    let said: Vec<(bool, &str)> = (table.lines().skip(1))
        .map(|line| (line.contains("empty"), line.rsplit(',').next().unwrap()))
        .collect();
    assert_eq!(said.len(), 12);
    for (is_empty, absent) in said {
        assert_eq!(absent, is_empty.to_string(), "{table}");
    }
    // Good parts reach a limit that is so low, and none that is switched off.
    let low = run("threshold", &["--max-absence".as_ref(), "0.01".as_ref()]);
    assert!(
        stderr(&low).contains("from 0.01 on a picture is a defect"),
        "{}",
        stderr(&low)
    );
    let off = run("threshold", &["--max-absence".as_ref(), "Off".as_ref()]);
    assert!(stdout(&off).contains("what is absent is no defect"), "{}", stdout(&off));
    assert_eq!(report()["defects"]["rejected"], 0);
}
