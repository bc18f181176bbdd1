//! What several test files need.

use std::path::PathBuf;

/// A file or folder of the reference data beside the project, or `None`, said aloud, where it is missing.
#[expect(clippy::print_stderr, reason = "a test that skips says so")]
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")).join(path);
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var_os("SIMPLENET_REQUIRE_SHARED").is_none(),
        "SIMPLENET_REQUIRE_SHARED is set, and {} is not there",
        path.display()
    );
    eprintln!("skipped: {} is not there", path.display());
    None
}
