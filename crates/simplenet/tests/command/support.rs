use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::Value;
use simplenet_data::toy::{self, Counts};

/// A category and a detector that was trained on it.
pub(crate) struct Factory {
    _folder: tempfile::TempDir,
    pub(crate) ring: PathBuf,
    pub(crate) detector: PathBuf,
}

/// One for all tests; none of them changes its files.
pub(crate) fn factory() -> &'static Factory {
    static FACTORY: LazyLock<Factory> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("the system has a folder for temporary files");
        let counts = Counts {
            train: 12,
            good: 2,
            defective: 1,
        };
        let ring = toy::generate_counts(folder.path(), 0, counts)
            .expect("it can be written")
            .join("ring");
        let detector = folder.path().join("ring.simplenet");
        let out = simplenet(&[
            "train".as_ref(),
            ring.as_os_str(),
            "--out".as_ref(),
            detector.as_ref(),
            "--folds".as_ref(),
            "4".as_ref(),
        ]);
        assert!(out.status.success(), "{}", stderr(&out));
        Factory {
            _folder: folder,
            ring,
            detector,
        }
    });
    &FACTORY
}

impl Factory {
    pub(crate) fn test(&self, image: &str) -> PathBuf {
        self.ring.join("test").join(image)
    }
}

pub(crate) fn simplenet(arguments: &[&OsStr]) -> Output {
    command(arguments).output().expect("the program starts")
}

pub(crate) fn command(arguments: &[&OsStr]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simplenet"));
    command.args(arguments).env_remove("SIMPLENET_ISA");
    command
}

pub(crate) fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

pub(crate) fn stdout(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// The JSON lines of a run.
pub(crate) fn lines(out: &Output) -> Vec<Value> {
    let text = stdout(out);
    let parse = |line| serde_json::from_str(line).expect("every line is JSON");
    text.lines().map(parse).collect()
}

/// The pictures in a page.
pub(crate) fn pictures(page: &str) -> Vec<image::RgbImage> {
    let sources = page.split("<img src=\"data:image/jpeg;base64,").skip(1);
    let decode = |source: &str| {
        let text = source.split('"').next().expect("a source has an end");
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, text).expect("it is base64");
        image::load_from_memory(&bytes).expect("it is a picture").into_rgb8()
    };
    sources.map(decode).collect()
}

/// The scores in a page's captions or lists, in order: `BEFORE, SCORE: FILE`.
pub(crate) fn scores(page: &str, before: &str) -> Vec<f32> {
    let captions = page.split(before).skip(1);
    let score = |caption: &str| caption.split(':').next().and_then(|score| score.parse().ok());
    captions
        .map(|caption| score(caption).expect("a score comes first"))
        .collect()
}

/// Names of everything in a folder, hidden files included.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("it can be read")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}
