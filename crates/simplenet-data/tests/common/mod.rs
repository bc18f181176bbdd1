//! What several test files need.

use std::path::PathBuf;

/// A file or folder of the reference data beside the project, or `None`, said aloud, where it is missing.
#[expect(clippy::print_stderr, reason = "a test that skips says so")]
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")).join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!(
        "skipped: ../shared/{} is not there",
        path.file_name().unwrap().display()
    );
    None
}
