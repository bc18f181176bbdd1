use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use simplenet_kernels::isa::Isa;

use crate::support::{command, factory, lines, names, pictures, scores, simplenet, stderr, stdout};

fn predict(rest: &[&OsStr]) -> std::process::Output {
    let mut arguments = vec!["predict".as_ref(), factory().detector.as_os_str()];
    arguments.extend(rest);
    simplenet(&arguments)
}

#[test]
fn a_folder_becomes_lines_pictures_and_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let (maps, masks) = (folder.path().join("maps"), folder.path().join("masks"));
    let csv = folder.path().join("all.csv");
    let test = factory().ring.join("test");
    let out = predict(&[
        test.as_ref(),
        "--heatmaps".as_ref(),
        maps.as_ref(),
        "--masks".as_ref(),
        masks.as_ref(),
        "--csv".as_ref(),
        csv.as_ref(),
    ]);
    assert!(out.status.success(), "{}", stderr(&out));
    let lines = lines(&out);
    assert_eq!(lines.len(), 6); // two good ones, four defects
    for line in &lines {
        let path = Path::new(line["file"].as_str().unwrap());
        let label = path.strip_prefix(&test).unwrap();
        let heatmap = image::open(maps.join(label)).unwrap();
        assert_eq!((heatmap.width(), heatmap.height()), (256, 256));
        let mask = image::open(masks.join(label)).unwrap().to_luma8();
        let marked = mask.pixels().filter(|pixel| pixel.0[0] == 255).count();
        let regions = line["regions"].as_array().unwrap();
        assert_eq!(marked > 0, line["verdict"] == "defect", "{line}");
        let area: u64 = regions.iter().map(|region| region["area"].as_u64().unwrap()).sum();
        // The picture is seen as large as it is, so both are the same pixels.
        assert_eq!(marked as u64, area);
        assert!(
            line["absence"]
                .as_f64()
                .is_some_and(|absence| absence > 0.0 && absence < 1.0),
            "{line}"
        );
        assert_eq!(
            (&line["inspected"]["x"], &line["inspected"]["width"]),
            (&Value::from(0), &Value::from(256))
        );
    }
    let table = std::fs::read_to_string(csv).unwrap();
    assert_eq!(table.lines().count(), 7);
    assert!(
        table
            .starts_with("file,verdict,score,threshold,regions,too_small,x,y,width,height,area,error,absence,absent\n")
    );
}

#[test]
fn the_exit_code_says_what_was_seen() {
    let good = factory().test("good/000.png");
    let code = |rest: &[&OsStr]| predict(rest).status.code();
    let with_code: &OsStr = "--exit-code".as_ref();
    let defect = factory()
        .ring
        .join("test")
        .join(simplenet_data::toy::CATEGORIES[2].defects[1])
        .join("000.png");
    // Whether this little training finds the defect is not the point: the code has to follow the verdict.
    let is_defect = lines(&predict(&[defect.as_ref()]))[0]["verdict"] == "defect";
    assert_eq!(code(&[defect.as_ref(), with_code]), Some(i32::from(is_defect)));
    assert_eq!(code(&[good.as_ref()]), Some(0));

    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.png");
    std::fs::write(&broken, "half a picture").unwrap();
    assert_eq!(code(&[broken.as_ref(), good.as_ref(), with_code]), Some(2));
    assert_eq!(code(&[broken.as_ref()]), Some(1));
    let out = predict(&[broken.as_ref(), good.as_ref()]);
    let lines = lines(&out);
    let error = lines[0]["error"].as_str().unwrap();
    assert!(error.contains("broken.png") && !error.contains("hint"), "{error}");
    assert!(lines[0]["hint"].is_string());
    assert!(lines[1]["score"].is_number());
}

#[test]
fn scores_do_not_depend_on_place_threads_or_company() {
    let folder = tempfile::tempdir().unwrap();
    let moved = folder.path().join("moved.simplenet");
    std::fs::copy(&factory().detector, &moved).unwrap();
    let test = factory().ring.join("test");
    let here = lines(&predict(&[test.as_ref()]));
    for threads in ["1", "3"] {
        let out = simplenet(&[
            "predict".as_ref(),
            moved.as_ref(),
            test.as_ref(),
            "--threads".as_ref(),
            threads.as_ref(),
        ]);
        for (here, there) in here.iter().zip(lines(&out)) {
            assert_eq!(
                (&here["score"], &here["regions"]),
                (&there["score"], &there["regions"]),
                "{threads} threads"
            );
        }
    }
    let file = here[4]["file"].as_str().unwrap();
    let alone = lines(&predict(&[file.as_ref()]));
    assert_eq!((&alone[0]["score"], alone.len()), (&here[4]["score"], 1));
}

/// Loading scores the reference pictures again, and refuses a detector whose scores have moved.
#[test]
fn a_detector_opens_on_every_instruction_set() {
    let folder = tempfile::tempdir().unwrap();
    let in_bf16 = folder.path().join("bf16.simplenet");
    let out = simplenet(&[
        "train".as_ref(),
        factory().ring.as_os_str(),
        "--out".as_ref(),
        in_bf16.as_ref(),
        "--folds".as_ref(),
        "2".as_ref(),
        "--precision".as_ref(),
        "bf16".as_ref(),
    ]);
    assert!(out.status.success(), "{}", stderr(&out));
    for (detector, tolerance) in [(&factory().detector, 1e-3), (&in_bf16, 3e-2)] {
        let picture = factory().test("good/000.png");
        let score = |isa: &str| {
            let out = command(&["predict".as_ref(), detector.as_ref(), picture.as_ref()])
                .env("SIMPLENET_ISA", isa)
                .output()
                .unwrap();
            assert!(out.status.success(), "{isa}: {}", stderr(&out));
            lines(&out)[0]["score"].as_f64().unwrap()
        };
        let here = score("");
        for isa in Isa::supported() {
            let there = score(isa.name());
            assert!(
                (there - here).abs() < tolerance * here.abs(),
                "{isa}: {there}, not {here}"
            );
        }
    }
}

#[test]
fn a_stream_of_names_is_answered_line_by_line() {
    let (detector, dash): (&OsStr, &OsStr) = (factory().detector.as_ref(), "-".as_ref());
    // The one thread both waits for names and judges.
    let mut child = command(&["predict".as_ref(), detector, dash])
        .args(["--threads", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut answers = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    for name in ["good/000.png", "good/none.png", "good/001.png"] {
        let path = factory().test(name);
        writeln!(stdin, "{}", path.display()).unwrap();
        // The answer comes before the next question.
        let answer: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
        assert_eq!(answer["file"], path.display().to_string());
        assert_eq!(answer["error"].is_string(), name.contains("none"));
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn what_is_hidden_is_not_meant() {
    let folder = tempfile::tempdir().unwrap();
    let image = factory().test("good/000.png");
    for name in ["a.png", "._a.png", ".thumbnails/a.png", "monday/b.png"] {
        let to = folder.path().join(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(&image, to).unwrap();
    }
    let pattern = folder.path().join("**/*");
    let files = |out: &std::process::Output| -> Vec<String> {
        let files = lines(out)
            .into_iter()
            .map(|line| line["file"].as_str().unwrap().to_string());
        let mut files: Vec<String> = files.collect();
        files.sort();
        files
    };
    let found = files(&predict(&[pattern.as_ref()]));
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found, files(&predict(&[folder.path().as_ref()])));
    // Small and large letters differ, as in a shell.
    let upper = folder.path().join("A*");
    assert!(
        files(&predict(&[upper.as_ref()]))
            .iter()
            .all(|file| file.ends_with("A*"))
    );
}

#[test]
fn globs_and_folders_find_the_same_files() {
    let pattern = factory().ring.join("test/*/000.png");
    let by_glob = predict(&[pattern.as_ref()]);
    assert_eq!(lines(&by_glob).len(), 5);
    // Where names are the same in several folders, all keep as much of their paths as tells those apart.
    let maps = tempfile::tempdir().unwrap();
    let pattern = factory().ring.join("test/*/00?.png");
    predict(&[pattern.as_ref(), "--heatmaps".as_ref(), maps.path().as_ref()]);
    for name in ["good/000.png", "good/001.png"] {
        assert!(maps.path().join(name).is_file(), "{:?}", names(maps.path()));
    }
    let nothing = factory().ring.join("test/*/none*.png");
    let out = predict(&[nothing.as_ref()]);
    assert_eq!(out.status.code(), Some(1));
    let error = &lines(&out)[0]["error"];
    assert!(error.as_str().unwrap().contains("no image matches"), "{error}");
}

#[test]
fn the_threshold_can_be_shown_chosen_and_set() {
    let folder = tempfile::tempdir().unwrap();
    let detector = folder.path().join("part.simplenet");
    std::fs::copy(&factory().detector, &detector).unwrap();
    let threshold = |rest: &[&str]| {
        let mut arguments = vec!["threshold".as_ref(), detector.as_os_str(), "--json".as_ref()];
        arguments.extend(rest.iter().map(OsStr::new));
        let out = simplenet(&arguments);
        assert!(out.status.success(), "{}", stderr(&out));
        serde_json::from_str::<Value>(&stdout(&out)).unwrap()
    };
    let first = threshold(&[]);
    assert_eq!(first["contract"]["held-out"], 12);
    let looser = threshold(&["--max-false-reject", "0.4"]);
    assert_eq!(looser["contract"]["method"], "order-statistic");
    assert!(looser["contract"]["threshold"].as_f64() <= first["contract"]["threshold"].as_f64());
    let confident = threshold(&["--confident"]);
    assert_eq!(
        (
            &confident["contract"]["max-false-reject"],
            &confident["contract"]["confident"]
        ),
        (&0.4.into(), &true.into())
    );
    let fixed = threshold(&["--value", "-0.25"]);
    assert_eq!(fixed["fixed"]["threshold"], -0.25);
    assert_eq!(threshold(&[]), fixed);
    let ring = factory().ring.display().to_string();
    // Where pixels are marked is shown, and set by itself.
    let inspected = || {
        let out = simplenet(&["inspect".as_ref(), detector.as_os_str()]);
        stdout(&out)
    };
    assert!(inspected().contains("marked from "), "{}", inspected());
    assert_eq!(threshold(&["--pixel-value", "0.75"]), fixed);
    assert!(inspected().contains("marked from 0.7500 on"), "{}", inspected());
    // What is absent is judged after training, and no longer where nobody wants it.
    assert!(
        inspected().contains("a defect from 1 on (--max-absence)"),
        "{}",
        inspected()
    );
    assert_eq!(threshold(&["--max-absence", "off"]), fixed);
    assert!(
        inspected().contains("never a defect (--max-absence)"),
        "{}",
        inspected()
    );
    assert_eq!(threshold(&["--max-absence", "2.5"]), fixed);
    assert!(inspected().contains("a defect from 2.5 on"), "{}", inspected());
    for wrong in ["none", "0"] {
        let out = simplenet(&[
            "threshold".as_ref(),
            detector.as_os_str(),
            "--max-absence".as_ref(),
            wrong.as_ref(),
        ]);
        assert!(
            !out.status.success() && stderr(&out).contains("above 0"),
            "{}",
            stderr(&out)
        );
    }
    // Every held-out score is above a threshold that is so low.
    let out = simplenet(&["threshold".as_ref(), detector.as_os_str()]);
    assert!(
        stderr(&out).contains("held-out scores of good parts are at or above -0.2500"),
        "{}",
        stderr(&out)
    );
    let from_test = threshold(&["--from-test", &ring]);
    assert_eq!(
        (&from_test["from-test"]["good"], &from_test["from-test"]["defective"]),
        (&Value::from(2), &Value::from(4))
    );
    // Written in place, whole, with nothing beside it.
    assert_eq!(names(folder.path()), ["part.simplenet"]);
}

/// A value with a zero too many, or of another detector.
#[test]
fn a_threshold_far_from_the_scores_of_good_parts_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.simplenet");
    let detector = factory().detector.as_os_str();
    let inspected = simplenet(&["inspect".as_ref(), detector, "--json".as_ref()]);
    assert!(stderr(&inspected).contains("warning: with 12 held-out images"));
    let inspected: Value = serde_json::from_str(&stdout(&inspected)).unwrap();
    let held_out = inspected["card"]["calibration"]["held-out"].as_array().unwrap();
    let highest = |key: &str| {
        let values = held_out.iter().map(|image| image[key].as_f64().unwrap());
        values.fold(f64::MIN, f64::max)
    };
    let said = |option: &str, value: f64| {
        let mut arguments = vec!["threshold".as_ref(), detector, "--out".as_ref(), copy.as_os_str()];
        let value = value.to_string();
        arguments.extend([option, &value].map(OsStr::new));
        let out = simplenet(&arguments);
        assert!(out.status.success(), "{}", stderr(&out));
        stderr(&out)
    };
    for (option, key, what) in [
        ("--value", "score", "held-out scores"),
        ("--pixel-value", "peak", "pixels of held-out pictures"),
    ] {
        let highest = highest(key);
        assert_eq!(said(option, highest * 1.01), "");
        let far = said(option, highest * 4.0);
        let expected = format!("is far above all {what} of good parts (highest {highest:.4})");
        assert!(far.contains(&expected), "{far}");
    }
    let low = said("--pixel-value", 0.0);
    assert!(
        low.contains("12 of the 12 held-out pictures of good parts have pixels at or above 0.0000"),
        "{low}"
    );
    let low = said("--value", 0.0);
    assert!(low.contains("12 of the 12 held-out scores of good parts"), "{low}");
}

/// What was missed is on the page, as it is and under its map.
#[test]
fn the_page_of_an_evaluation_shows_what_went_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let (detector, page) = (folder.path().join("part.simplenet"), folder.path().join("page.html"));
    std::fs::copy(&factory().detector, &detector).unwrap();
    // Nothing scores as high.
    let value = simplenet(&[
        "threshold".as_ref(),
        detector.as_ref(),
        "--value".as_ref(),
        "1e9".as_ref(),
    ]);
    assert!(value.status.success(), "{}", stderr(&value));
    let out = simplenet(&[
        "evaluate".as_ref(),
        detector.as_ref(),
        factory().ring.as_ref(),
        "--page".as_ref(),
        page.as_ref(),
    ]);
    assert!(out.status.success(), "{}", stderr(&out));
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.contains("Good parts rejected: 0") && page.contains("Defects missed: 4"),
        "{page}"
    );
    let pictures = pictures(&page);
    assert_eq!(pictures.len(), 8);
    for picture in pictures {
        assert_eq!(picture.dimensions(), (400, 400));
        assert!(has_blue_line(&picture), "its mask has an outline");
    }
}

/// The line around a mask, which no picture and no map has.
fn has_blue_line(picture: &image::RgbImage) -> bool {
    let is_blue = |pixel: &&image::Rgb<u8>| matches!(pixel.0, [0..=60, 170..=230, 225..=255]);
    picture.pixels().filter(is_blue).count() > 20
}

/// A person sees whether detections lie on the defects where it is hardest.
#[test]
fn the_page_of_an_evaluation_shows_what_was_only_just_found() {
    let folder = tempfile::tempdir().unwrap();
    let (detector, page) = (folder.path().join("part.simplenet"), folder.path().join("page.html"));
    let labels = folder.path().join("labels");
    for kind in ["good", "bad", "ground_truth/bad"] {
        std::fs::create_dir_all(labels.join(kind)).unwrap();
    }
    for index in 0..13 {
        let defect = simplenet_data::toy::CATEGORIES[2].defects[index % 4];
        for (from, to) in [
            (format!("test/{defect}/000.png"), format!("bad/{index}.png")),
            (
                format!("ground_truth/{defect}/000_mask.png"),
                format!("ground_truth/bad/{index}.png"),
            ),
        ] {
            std::fs::copy(factory().ring.join(from), labels.join(to)).unwrap();
        }
    }
    std::fs::copy(factory().test("good/000.png"), labels.join("good/0.png")).unwrap();
    let threshold = ["threshold".as_ref(), factory().detector.as_os_str(), "--value".as_ref()];
    let out = ["0.001".as_ref(), "--out".as_ref(), detector.as_os_str()];
    assert!(simplenet(&[threshold, out].concat()).status.success());
    let evaluate = ["evaluate".as_ref(), detector.as_os_str(), labels.as_os_str()];
    let out = simplenet(&[&evaluate[..], &["--page".as_ref(), page.as_os_str()]].concat());
    assert!(out.status.success(), "{}", stderr(&out));
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("Good parts rejected: 1<") && page.contains("Defects found: 13<"));
    assert!(page.contains("<p>The 12 with the lowest scores:"));
    let lines: Vec<bool> = pictures(&page).iter().map(has_blue_line).collect();
    assert_eq!(
        lines,
        [[false; 2].as_slice(), &[true; 24]].concat(),
        "a good part has no mask"
    );
    let scores = scores(&page, "<figcaption>bad, ");
    assert!(scores.len() == 12 && scores.is_sorted(), "{scores:?}");
}

/// For whoever looks through a folder: the page is one file, with all in it, the oddest first.
#[test]
fn a_folder_becomes_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let (new, page) = (folder.path().join("new"), folder.path().join("page.html"));
    std::fs::create_dir(&new).unwrap();
    std::fs::write(new.join("a&b.png"), "no picture").unwrap();
    let write = |arguments: &[&OsStr]| {
        let out = predict(&[&[new.as_os_str(), "--page".as_ref(), page.as_ref()], arguments].concat());
        (lines(&out), std::fs::read_to_string(&page).unwrap())
    };
    let (lines, text) = write(&[factory().ring.join("test").as_ref()]);
    let count = |verdict: &str| lines.iter().filter(|line| line["verdict"] == verdict).count();
    let (good, defects) = (count("good"), count("defect"));
    assert!(good > 1 && defects > 1, "{lines:?}");
    for expected in [
        format!("<td>good<td>{good}<"),
        format!("<td>defects<td>{defects}<"),
        "<td>could not be judged<td>1<".into(),
        "a&amp;b.png is not an image".into(),
    ] {
        assert!(text.contains(&expected), "{expected}: {text}");
    }
    assert!(
        !text.contains("http") && !text.contains("a&b"),
        "nothing lies elsewhere"
    );
    let pictures = pictures(&text);
    assert_eq!(pictures.len(), 12);
    assert!(pictures.iter().all(|picture| picture.dimensions() == (400, 400)));
    let (of_defects, of_good) = (
        scores(&text, "<figcaption>defect, "),
        scores(&text, "<figcaption>good, "),
    );
    assert_eq!((of_defects.len(), of_good.len()), (defects, good));
    let all = [of_defects, of_good].concat();
    assert!(all.is_sorted_by(|a, b| a >= b), "{all:?}");
}

/// A page of thousands of pictures would not open.
#[test]
fn a_page_shows_the_good_parts_that_are_nearest_to_the_threshold() {
    let folder = tempfile::tempdir().unwrap();
    let (detector, page) = (folder.path().join("part.simplenet"), folder.path().join("page.html"));
    let threshold = ["threshold".as_ref(), factory().detector.as_os_str(), "--value".as_ref()];
    let out = ["1e9".as_ref(), "--out".as_ref(), detector.as_os_str()];
    assert!(simplenet(&[threshold, out].concat()).status.success());
    let again = folder.path().join("again");
    std::fs::create_dir(&again).unwrap();
    for index in 0..10 {
        let from = factory().ring.join(format!("train/good/{index:03}.png"));
        std::fs::copy(from, again.join(format!("{index}.png"))).unwrap();
    }
    let out = simplenet(&[
        "predict".as_ref(),
        detector.as_os_str(),
        again.as_os_str(),
        factory().ring.join("train").as_ref(),
        factory().ring.join("test").as_ref(),
        "--page".as_ref(),
        page.as_os_str(),
    ]);
    assert!(out.status.success(), "{}", stderr(&out));
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("Good: 28<") && page.contains("Defects: 0<"));
    assert_eq!(pictures(&page).len(), 2 * 24);
    let (shown, listed) = (scores(&page, "<figcaption>good, "), scores(&page, "<li>good, "));
    assert_eq!((shown.len(), listed.len()), (24, 4));
    let all = [shown, listed].concat();
    assert!(all.is_sorted_by(|a, b| a >= b) && all[0] > all[23], "{all:?}");
}

/// A defect among the good parts stands first, with the map of a model that had not learnt from it.
#[test]
fn the_page_of_a_training_shows_the_oddest_good_parts() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    std::fs::create_dir(&good).unwrap();
    for entry in std::fs::read_dir(factory().ring.join("train/good")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), good.join(entry.file_name())).unwrap();
    }
    let defect = simplenet_data::toy::CATEGORIES[2].defects[0];
    std::fs::copy(factory().test(&format!("{defect}/000.png")), good.join("005b.png")).unwrap();
    let (detector, page) = (folder.path().join("part.simplenet"), folder.path().join("page.html"));
    let train = |page: &Path| {
        simplenet(&[
            "train".as_ref(),
            good.as_ref(),
            "--out".as_ref(),
            detector.as_ref(),
            "--page".as_ref(),
            page.as_ref(),
        ])
    };
    let out = train(&page);
    assert!(out.status.success(), "{}", stderr(&out));
    let text = std::fs::read_to_string(&page).unwrap();
    let captions: Vec<&str> = text.split("<figcaption>").skip(1).collect();
    assert_eq!(captions.len(), 12);
    assert!(captions[0].contains("005b.png"), "{}", captions[0]);
    assert_eq!(text.matches("data:image/jpeg").count(), 24);
    // One dot for each of thirteen pictures.
    assert_eq!(text.matches("<circle").count(), 13);

    std::fs::remove_file(&detector).unwrap();
    let out = train(&folder.path().join("nowhere/page.html"));
    assert!(
        !out.status.success() && stderr(&out).contains("--page"),
        "{}",
        stderr(&out)
    );
    assert!(!detector.exists());
}

#[test]
fn a_detector_can_be_measured_and_inspected() {
    let detector = factory().detector.as_os_str();
    let out = simplenet(&[
        "evaluate".as_ref(),
        detector,
        factory().ring.as_ref(),
        "--json".as_ref(),
    ]);
    assert!(out.status.success(), "{}", stderr(&out));
    let report: Value = serde_json::from_str(&stdout(&out)).unwrap();
    assert_eq!(report["kinds"].as_array().unwrap().len(), 4);
    assert_eq!(
        (&report["good"]["images"], &report["defects"]["images"]),
        (&Value::from(2), &Value::from(4))
    );
    assert!(report["aupro"].is_number() && report["pixel_auroc"].is_number());
    let folder = tempfile::tempdir().unwrap();
    let (page, curves) = (folder.path().join("page.html"), folder.path().join("curves.csv"));
    let out = simplenet(&[
        "evaluate".as_ref(),
        detector,
        factory().ring.as_ref(),
        "--page".as_ref(),
        page.as_ref(),
        "--curves".as_ref(),
        curves.as_ref(),
    ]);
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(
        (page.matches("<circle").count(), page.matches("<polyline").count()),
        (6, 3)
    );
    assert!(
        std::fs::read_to_string(curves)
            .unwrap()
            .starts_with("curve,x,y\nroc,0,0\n")
    );
    assert!(stdout(&out).contains("good parts rejected: "), "{}", stdout(&out));

    let out = simplenet(&["inspect".as_ref(), detector, "--json".as_ref()]);
    let inspection: Value = serde_json::from_str(&stdout(&out)).unwrap();
    assert_eq!(inspection["card"]["data"]["images"], 12);
    for reference in inspection["references"].as_array().unwrap() {
        assert_eq!(reference["expected"], reference["found"]);
    }
    let image = factory().test("good/000.png");
    let out = simplenet(&[
        "bench".as_ref(),
        detector,
        image.as_ref(),
        "--seconds".as_ref(),
        "0.05".as_ref(),
    ]);
    assert!(stdout(&out).contains("throughput"), "{}", stderr(&out));
}

#[test]
fn the_manual_is_made_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let out = simplenet(&["manual".as_ref(), "--man".as_ref(), folder.path().as_ref()]);
    assert!(out.status.success(), "{}", stderr(&out));
    assert!(names(folder.path()).contains(&"simplenet-predict.1".to_string()));
    let page = std::fs::read_to_string(folder.path().join("simplenet-predict.1")).unwrap();
    assert!(page.contains("exit\\-code"), "{page}");
    let out = simplenet(&["manual".as_ref(), "--completions".as_ref(), "bash".as_ref()]);
    assert!(stdout(&out).contains("complete -F"));
}
