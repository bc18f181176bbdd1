use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};
use simplenet_data::toy::{self, Counts};

use crate::support::{command, factory, simplenet, stderr};

fn watch(folder: &Path, out: &Path, rest: &[&str]) -> std::process::Command {
    let mut command = command(&["watch".as_ref(), factory().detector.as_ref(), folder.as_ref()]);
    command.args(["--out".as_ref(), out.as_os_str()]);
    command.args(["--interval", "0.02"]).args(rest);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn log(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("judged.jsonl")).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).expect("every whole line is JSON"))
        .collect()
}

/// Waits until the log has `count` lines, or a minute is over.
fn wait_for(out: &Path, count: usize) -> Vec<Value> {
    let start = Instant::now();
    loop {
        let lines = log(out);
        if lines.len() >= count || start.elapsed() > Duration::from_secs(60) {
            return lines;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn kill(mut child: Child) {
    child.kill().expect("it runs"); // SIGKILL
    child.wait().expect("it is ours");
}

#[test]
fn every_file_is_judged_once_though_the_process_is_killed_again_and_again() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let image = std::fs::read(factory().test("good/000.png")).unwrap();
    let files = 60;
    for batch in 0..6 {
        let child = watch(folder.path(), out.path(), &["--settle", "0"]).spawn().unwrap();
        for index in 0..files / 6 {
            // Renamed into place, as a careful camera does.
            let name = format!("{:03}.png", batch * 10 + index);
            let hidden = folder.path().join(format!(".{name}"));
            std::fs::write(&hidden, &image).unwrap();
            std::fs::rename(&hidden, folder.path().join(name)).unwrap();
        }
        wait_for(out.path(), batch * 10 + 5);
        kill(child);
    }
    let last = watch(folder.path(), out.path(), &["--settle", "0", "--once"])
        .status()
        .unwrap();
    assert!(last.success());
    let mut seen = BTreeMap::new();
    for line in log(out.path()) {
        *seen.entry(line["file"].as_str().unwrap().to_string()).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), files);
    assert!(seen.values().all(|&count| count == 1), "{seen:?}");
}

#[test]
fn half_a_line_is_cut_off_and_its_file_judged_again() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["a.png", "b.png"] {
        std::fs::copy(factory().test("good/000.png"), folder.path().join(name)).unwrap();
    }
    let once = || {
        watch(folder.path(), out.path(), &["--settle", "0", "--once"])
            .status()
            .unwrap()
    };
    assert!(once().success());
    let path = out.path().join("judged.jsonl");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    assert!(once().success());
    let names: Vec<String> = log(out.path()).iter().map(|line| line["file"].to_string()).collect();
    assert_eq!(names, ["\"a.png\"", "\"b.png\""]);

    std::fs::write(&path, "no log\n").unwrap();
    assert!(!once().success());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "no log\n");
}

#[test]
fn a_file_that_is_still_written_is_waited_for() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let image = std::fs::read(factory().test("good/000.png")).unwrap();
    let child = watch(folder.path(), out.path(), &["--settle", "0.6"]).spawn().unwrap();
    let path = folder.path().join("slow.png");
    for step in 1..=6 {
        std::fs::write(&path, &image[..image.len() * step / 6]).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(log(out.path()).is_empty(), "judged at {step} of 6");
    }
    let lines = wait_for(out.path(), 1);
    kill(child);
    assert_eq!(lines.len(), 1);
    assert!(lines[0]["score"].is_number(), "{}", lines[0]);
}

#[test]
fn two_processes_cannot_share_an_output_folder() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::copy(factory().test("good/000.png"), folder.path().join("a.png")).unwrap();
    let first = watch(folder.path(), out.path(), &["--settle", "0"]).spawn().unwrap();
    wait_for(out.path(), 1);
    let second = watch(folder.path(), out.path(), &["--once"])
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    kill(first);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        stderr(&second).contains("another process is watching"),
        "{}",
        stderr(&second)
    );
}

#[test]
fn pictures_into_the_watched_folder_are_refused() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (inside, out_folder) = (folder.path().join("maps"), out.path().join("judged"));
    let refused = simplenet(&[
        "watch".as_ref(),
        factory().detector.as_ref(),
        folder.path().as_ref(),
        "--out".as_ref(),
        out_folder.as_ref(),
        "--heatmaps".as_ref(),
        inside.as_ref(),
    ]);
    assert!(stderr(&refused).contains("which is watched"), "{}", stderr(&refused));
    assert!(!inside.exists() && !out_folder.exists());
}

/// A link to a file that opens and gives an error of the system with every read.
#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_read_is_tried_again_before_it_is_logged() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink("/proc/self/mem", folder.path().join("a.png")).unwrap();
    std::fs::copy(factory().test("good/000.png"), folder.path().join("b.png")).unwrap();
    let start = Instant::now();
    let settle = Duration::from_millis(300);
    let status = watch(folder.path(), out.path(), &["--settle", "0.3", "--once"])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(start.elapsed() >= 3 * settle, "once to settle, twice to try again");
    let lines = log(out.path());
    let files: Vec<&str> = lines.iter().map(|line| line["file"].as_str().unwrap()).collect();
    assert_eq!(files, ["b.png", "a.png"]);
    assert!(
        lines[1]["error"].as_str().unwrap().contains("cannot read"),
        "{}",
        lines[1]
    );
}

/// A folder whose path is longer than the system takes, which nobody may list: what lies beside it is judged all the same.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_listed_does_not_stop_the_others() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Two long paths, one below the other.
    let long = vec!["n".repeat(200); 15].join("/");
    let [upper, lower] = ["a", "b"].map(|name| folder.path().join(name));
    for half in [&upper, &lower] {
        std::fs::create_dir_all(half.join(&long)).unwrap();
    }
    std::fs::rename(&lower, upper.join(&long).join("b")).unwrap();
    std::fs::copy(factory().test("good/000.png"), folder.path().join("z.png")).unwrap();

    let watched = watch(folder.path(), out.path(), &["--settle", "0.2", "--once"])
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(watched.status.code(), Some(1));
    let said = stderr(&watched);
    assert_eq!(said.matches("cannot read").count(), 1, "{said}");
    assert_eq!(log(out.path()).len(), 1);

    // The folder that is watched itself may be gone for a while.
    let away = folder.path().with_extension("away");
    let mut child = watch(folder.path(), out.path(), &["--settle", "0"]);
    let mut child = child.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut until = |text: &str| {
        assert!(
            said.any(|line| line.unwrap().contains(text)),
            "it ended without `{text}`"
        )
    };
    until("watching ");
    std::fs::rename(folder.path(), &away).unwrap();
    until(&format!("cannot read {}:", folder.path().display()));
    std::fs::copy(factory().test("good/001.png"), away.join("y.png")).unwrap();
    std::fs::rename(&away, folder.path()).unwrap();
    until(&format!("{} can be read again", folder.path().display()));
    assert_eq!(wait_for(out.path(), 2).len(), 2);
    kill(child);
}

/// Verdicts stay, whoever wrote them, and a log says who did.
#[test]
fn a_log_says_which_detector_judged_and_when() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let other = out.path().join("other.simplenet");
    let changed = simplenet(&[
        "threshold".as_ref(),
        factory().detector.as_ref(),
        "--value".as_ref(),
        "20".as_ref(),
        "--out".as_ref(),
        other.as_ref(),
    ]);
    assert!(changed.status.success(), "{}", stderr(&changed));
    let arrive = |name: &str| {
        std::fs::copy(factory().test("good/000.png"), folder.path().join(name)).unwrap();
    };
    let judge = |detector: &Path| {
        let watched = simplenet(&[
            "watch".as_ref(),
            detector.as_ref(),
            folder.path().as_ref(),
            "--out".as_ref(),
            out.path().as_ref(),
            "--once".as_ref(),
            "--settle".as_ref(),
            "0".as_ref(),
        ]);
        assert!(watched.status.success(), "{}", stderr(&watched));
        stderr(&watched)
    };
    arrive("a.png");
    assert!(!judge(&factory().detector).contains("another detector"));
    arrive("b.png");
    let said = judge(&other);
    assert!(
        said.contains("note: 1 file in the log was judged by another detector"),
        "{said}"
    );
    assert!(!judge(&other).contains("another detector"));
    let said = judge(&factory().detector);
    assert!(
        said.contains("note: 1 file in the log was judged by another detector"),
        "{said}"
    );

    let lines = log(out.path());
    let models: Vec<&str> = lines.iter().map(|line| line["model"].as_str().unwrap()).collect();
    assert_eq!(models.len(), 2);
    for (model, detector) in models.iter().zip([&factory().detector, &other]) {
        let digest = Sha256::digest(std::fs::read(detector).unwrap());
        let whole: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(*model, &whole[..16]);
    }
    for line in &lines {
        let time = line["time"].as_str().unwrap();
        assert!(
            time.starts_with("20") && time.len() == 20 && time.ends_with('Z'),
            "{time}"
        );
    }

    // As older programs wrote it.
    let old = lines.into_iter().map(|mut line| {
        let fields = line.as_object_mut().unwrap();
        fields.remove("model");
        fields.remove("time");
        format!("{line}\n")
    });
    std::fs::write(out.path().join("judged.jsonl"), old.collect::<String>()).unwrap();
    let said = judge(&other);
    assert!(
        said.contains("2 files are judged already") && !said.contains("another detector"),
        "{said}"
    );
    assert_eq!(log(out.path()).len(), 2);
}

/// As where a lamp goes out: all pictures score higher than good ones did.
#[test]
fn a_line_whose_pictures_have_changed_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let counts = Counts {
        train: 30,
        good: 1,
        defective: 1,
    };
    let ring = toy::generate_counts(folder.path(), 0, counts).unwrap().join("ring");
    let detector = folder.path().join("part.simplenet");
    let train = ["--resize", "128", "--folds", "2", "--vectors", "200", "--out"].map(OsStr::new);
    let trained = simplenet(
        &[
            &["train".as_ref(), ring.as_os_str()],
            &train[..],
            &[detector.as_os_str()],
        ]
        .concat(),
    );
    assert!(trained.status.success(), "{}", stderr(&trained));

    let dark = folder.path().join("dark.png");
    let picture = image::open(ring.join("test/good/000.png")).unwrap();
    picture.brighten(-90).save(&dark).unwrap();
    let good: Vec<_> = (0..30)
        .map(|index| ring.join(format!("train/good/{index:03}.png")))
        .collect();
    for (name, sources, warns) in [("good", good, false), ("dark", vec![dark], true)] {
        let (line, out) = (folder.path().join(name), folder.path().join(format!("{name}-out")));
        std::fs::create_dir(&line).unwrap();
        for index in 0..60 {
            std::fs::copy(&sources[index % sources.len()], line.join(format!("{index}.png"))).unwrap();
        }
        let watched = simplenet(&[
            "watch".as_ref(),
            detector.as_ref(),
            line.as_ref(),
            "--out".as_ref(),
            out.as_ref(),
            "--once".as_ref(),
            "--settle".as_ref(),
            "0".as_ref(),
        ]);
        assert!(watched.status.success(), "{}", stderr(&watched));
        let said = stderr(&watched);
        for alarm in [
            "pictures score higher than those",
            "of the last 50 pictures were rejected",
        ] {
            assert_eq!(said.matches(alarm).count(), usize::from(warns), "{said}");
        }
    }
}

/// With `--settle 0` a file may change while it is judged. What it was then is not logged, and what it has become is.
#[test]
fn a_file_that_changes_while_it_is_judged_is_judged_in_the_end() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("a.png");
    std::fs::copy(factory().test("good/000.png"), &path).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let mut child = watch(folder.path(), out.path(), &["--settle", "0", "--once"])
        .spawn()
        .unwrap();
    // Faster than a picture is judged, and longer than the program takes to start.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) && child.try_wait().unwrap().is_none() {
        file.set_modified(std::time::SystemTime::now()).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(child.wait().unwrap().success());
    assert!(!log(out.path()).is_empty());
}
