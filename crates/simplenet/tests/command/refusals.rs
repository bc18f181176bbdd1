use simplenet::DetectorConfig;

use crate::support::{command, factory, names, simplenet, stderr, stdout};

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
fn what_is_no_detector_or_no_picture_says_what_is_expected() {
    let detector = factory().detector.as_os_str();
    let good = factory().ring.join("test/good");
    let say = |arguments: &[&std::ffi::OsStr]| {
        let out = simplenet(arguments);
        assert_eq!(out.status.code(), Some(1));
        stderr(&out)
    };
    let message = say(&["predict".as_ref(), good.as_ref(), detector]);
    assert!(
        message.contains("good is a folder and no detector\n\nhint: "),
        "{message}"
    );
    let message = say(&["predict".as_ref(), "nowhere.simplenet".as_ref(), good.as_ref()]);
    assert!(
        message.contains("there is no detector nowhere.simplenet\n\nhint: "),
        "{message}"
    );
    let message = say(&["bench".as_ref(), detector, good.as_ref()]);
    assert!(
        message.contains("good is a folder\n\nhint: name one picture"),
        "{message}"
    );
    let message = say(&["manual".as_ref()]);
    assert!(message.contains("--man <DIR>|--completions <SHELL>"), "{message}");
}

/// A disk that is full where the lines go.
#[cfg(target_os = "linux")]
#[test]
fn lines_that_cannot_be_written_say_where() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let good = factory().test("good/000.png");
    let arguments = ["predict".as_ref(), factory().detector.as_os_str(), good.as_os_str()];
    let out = command(&arguments).stdout(full).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    let message = stderr(&out);
    assert!(
        message.contains("cannot write the results to standard output: No space left"),
        "{message}"
    );
    assert!(message.contains("\n\nhint: "), "{message}");
}

/// A folder of which half is in another format, and one with nothing else.
#[test]
fn training_says_which_pictures_it_does_not_decode() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    std::fs::create_dir(&good).unwrap();
    std::fs::write(good.join("a.webp"), "a picture").unwrap();
    std::fs::write(good.join("b.HEIC"), "a picture").unwrap();
    let out_file = folder.path().join("part.simplenet");
    let train = || {
        let out = simplenet(&["train".as_ref(), good.as_ref(), "--out".as_ref(), out_file.as_ref()]);
        (out.status.code(), stderr(&out))
    };
    let (code, message) = train();
    assert_eq!(code, Some(1));
    let (reason, hint) = message.split_once("\n\nhint: ").unwrap();
    assert!(reason.starts_with("error: no images in"), "{message}");
    let passed_over = "good: 2 pictures are not decoded, such as";
    assert!(
        reason.contains(passed_over) && !hint.contains("not decoded"),
        "{message}"
    );
    for (index, name) in ["000.png", "001.png", "002.png", "003.png", "004.png"]
        .iter()
        .enumerate()
    {
        let from = factory().ring.join("train/good").join(format!("{index:03}.png"));
        std::fs::copy(from, good.join(name)).unwrap();
    }
    let (code, message) = train();
    assert_eq!(code, Some(0), "{message}");
    assert!(
        message.contains("warning: 2 pictures are not learnt from, such as"),
        "{message}"
    );
    assert!(message.contains("warning: with 5 held-out images"), "{message}");
    assert!(message.contains("defects are likely to be missed"), "{message}");
}

/// Twelve bits in the lower part of sixteen: sixteen grey levels are left.
#[test]
fn training_says_that_pictures_are_too_dark() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    std::fs::create_dir(&good).unwrap();
    for index in 0..5 {
        let name = format!("{index:03}.png");
        let picture = image::open(factory().ring.join("train/good").join(&name))
            .unwrap()
            .to_luma16();
        let dark = image::ImageBuffer::from_fn(picture.width(), picture.height(), |x, y| {
            image::Luma([picture.get_pixel(x, y).0[0] >> 4])
        });
        image::DynamicImage::ImageLuma16(dark).save(good.join(name)).unwrap();
    }
    let out_file = folder.path().join("part.simplenet");
    let out = simplenet(&["train".as_ref(), good.as_ref(), "--out".as_ref(), out_file.as_ref()]);
    assert!(out.status.success(), "{}", stderr(&out));
    assert!(
        stderr(&out).contains("warning: no pixel of any picture is brighter than 1"),
        "{}",
        stderr(&out)
    );
}

/// One that is no good part raises the threshold to its own score.
#[test]
fn training_says_what_a_defect_among_the_good_parts_does_to_the_threshold() {
    let folder = tempfile::tempdir().unwrap();
    let (good, out_file) = (folder.path().join("good"), folder.path().join("part.simplenet"));
    std::fs::create_dir(&good).unwrap();
    for entry in std::fs::read_dir(factory().ring.join("train/good")).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, good.join(from.file_name().unwrap())).unwrap();
    }
    let train = || {
        let out = simplenet(&["train".as_ref(), good.as_ref(), "--out".as_ref(), out_file.as_ref()]);
        assert!(out.status.success(), "{}", stderr(&out));
        stderr(&out)
    };
    let without = "without what looks unlike the others the threshold would be about";
    assert!(!train().contains(without));
    let mut odd = image::open(good.join("000.png")).unwrap().to_rgb8();
    for (x, y) in (60..190).flat_map(|x| (60..190).map(move |y| (x, y))) {
        odd.put_pixel(
            x,
            y,
            image::Rgb(if (x / 5 + y / 5) % 2 == 0 {
                [255, 0, 0]
            } else {
                [0, 0, 255]
            }),
        );
    }
    odd.save(good.join("odd.png")).unwrap();
    let message = train();
    assert!(
        message.contains("odd.png looks unlike the other good parts"),
        "{message}"
    );
    assert!(message.contains(without), "{message}");
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
    // Where the default cannot be told from an option that was given, the text says it.
    let usual = DetectorConfig::default();
    let train = simplenet(&["help".as_ref(), "train".as_ref()]);
    let text = stdout(&train).split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        format!("`{}` if not given", usual.model.method.name()),
        format!("remembers at most; {} if not given", usual.max_vectors),
        format!("after resizing; {} if not given", usual.model.preprocess.resize),
        format!("resized picture; {} if not given", usual.model.preprocess.crop),
    ] {
        assert!(text.contains(&expected), "{expected}: {text}");
    }
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
    let text = stdout(&out);
    assert!(stderr(&out).is_empty() && text.starts_with("images "));
    // What is as usual is not spoken of.
    assert!(!text.contains("--tile") && !text.contains("--layers"), "{text}");
}

#[test]
fn errors_name_the_options_that_were_typed() {
    let folder = tempfile::tempdir().unwrap();
    let out_file = folder.path().join("part.simplenet");
    for (options, expected) in [
        (
            &["--middle", "300"][..],
            "`--middle` is 300; it must be between 1 and `--resize` = 256",
        ),
        (
            &["--tile", "250"],
            "`--tile` is 250\n\nhint: the side of squares that join is a multiple of 8",
        ),
        (
            &["--overlap", "200"],
            "`--overlap` is 200; at most half of `--tile` = 256",
        ),
        (
            &["--tile", "8"],
            "`--tile` is 8, 1 times the 8 pixels of a patch, and `--overlap` = 2 takes all of them",
        ),
        (
            &["--vectors", "9999999"],
            "`--vectors` is 9999999, and with 152 channels that is",
        ),
        (
            &["--resize", "0"],
            "`--resize` is 0\n\nhint: the shorter side takes at least 16 pixels",
        ),
        (
            &["--resize", "15"],
            "`--resize` is 15\n\nhint: the shorter side takes at least 16 pixels, two patches of 8",
        ),
        (
            &["--resize", "7", "--overlap", "0"],
            "`--resize` is 7\n\nhint: the shorter side takes at least 8 pixels, one patch of 8",
        ),
        (
            &["--resize", "10000"],
            "and 1024 are the most)\n\nhint: a detector with a smaller `--resize` or a larger `--tile` takes fewer",
        ),
        (
            &["--backbone", "resnet18"],
            "the weights of resnet18 are not in this program\n\nhint: name its checkpoint with `--weights FILE`",
        ),
        (&["--folds", "1"], "`--folds` is 1"),
        (&["--vectors", "0"], "`--vectors` is 0"),
        (
            &["--max-false-reject", "1%"],
            "invalid value '1%' for '--max-false-reject <RATE>': a rate is a number between 0 and 1",
        ),
        (&["--max-false-reject", "1"], "a rate is a number between 0 and 1"),
        (&["--method", "simplenet", "--noise", "0"], "`--noise` is 0"),
        (&["--method", "simplenet", "--hidden", "0"], "`--hidden` is 0"),
        (&["--method", "simplenet", "--epochs", "0"], "`--epochs` is 0"),
        (
            &["--auto-stop"],
            "`--auto-stop` is for `--method simplenet`, and the method is patchcore",
        ),
        (
            &["--method", "padim", "--vectors", "9"],
            "`--vectors` is for `--method patchcore`, and the method is padim",
        ),
    ] {
        let mut arguments = vec![
            "train".as_ref(),
            factory().ring.as_os_str(),
            "--out".as_ref(),
            out_file.as_ref(),
        ];
        arguments.extend(options.iter().map(std::ffi::OsStr::new));
        let out = simplenet(&arguments);
        let message = stderr(&out);
        assert!(
            out.status.code() == Some(1) && message.contains(expected),
            "{options:?}: {message}"
        );
    }
    assert!(names(folder.path()).is_empty());
}

#[test]
fn layers_are_joined_as_they_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let out_file = folder.path().join("part.simplenet");
    let train = |layers: &str| {
        simplenet(&[
            "train".as_ref(),
            factory().ring.as_ref(),
            "--out".as_ref(),
            out_file.as_ref(),
            "--layers".as_ref(),
            layers.as_ref(),
            "--json".as_ref(),
        ])
    };
    for wrong in ["0", "5", "2,x", ""] {
        let out = train(wrong);
        let message = stderr(&out);
        assert!(
            !out.status.success() && message.contains("a number from 1 to 4"),
            "{wrong}: {message}"
        );
    }
    // The weights in the program end before the last one.
    let message = stderr(&train("3,4"));
    assert!(message.contains("hint: "), "{message}");
    assert!(names(folder.path()).is_empty());

    // In whatever order, and each once.
    let out = train("3,1,3");
    assert!(out.status.success(), "{}", stderr(&out));
    let out = simplenet(&["inspect".as_ref(), out_file.as_ref(), "--json".as_ref()]);
    let inspection: serde_json::Value = serde_json::from_str(&stdout(&out)).unwrap();
    let text = stdout(&simplenet(&["inspect".as_ref(), out_file.as_ref()]));
    assert!(text.contains(", layers 1,3 (--layers), weights"), "{text}");
    let stages = &inspection["config"]["model"]["features"]["stages"];
    assert_eq!(*stages, serde_json::json!(["layer1", "layer3"]));
}

/// It is about a rate, and would be ignored.
#[test]
fn a_threshold_without_a_rate_is_not_confident() {
    let folder = tempfile::tempdir().unwrap();
    let out_file = folder.path().join("part.simplenet");
    let ring = factory().ring.as_os_str();
    for (rule, value) in [("--value", "20".as_ref()), ("--from-test", ring)] {
        let out = simplenet(&[
            "threshold".as_ref(),
            factory().detector.as_ref(),
            rule.as_ref(),
            value,
            "--confident".as_ref(),
            "--out".as_ref(),
            out_file.as_ref(),
        ]);
        let message = stderr(&out);
        assert!(
            out.status.code() == Some(1) && message.contains("--confident") && message.contains(rule),
            "{message}"
        );
    }
    assert!(names(folder.path()).is_empty());
}
