//! Whole files or none.

use std::fs;
use std::path::Path;

use simplenet_files::{folder_of, write_atomic};

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_is_made_and_replaced_and_nothing_stays_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv");
    for text in ["first", "second, and longer", ""] {
        write_atomic(&path, text.as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(names(folder.path()), ["rows.csv"]);
    }
}

#[test]
fn what_cannot_be_written_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // A folder cannot be replaced by a file, and a file is no folder.
    let there = folder.path().join("there");
    fs::create_dir(&there).unwrap();
    assert!(write_atomic(&there, b"text").is_err());
    fs::write(folder.path().join("file"), "old").unwrap();
    assert!(write_atomic(&folder.path().join("file/below"), b"text").is_err());
    assert!(write_atomic(&folder.path().join("missing/file"), b"text").is_err());
    assert_eq!(names(folder.path()), ["file", "there"]);
    assert_eq!(fs::read_to_string(folder.path().join("file")).unwrap(), "old");
}

/// A result is for others too, as a file that any program writes is.
#[cfg(unix)]
#[test]
fn a_file_has_the_usual_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let [ours, usual] = ["ours", "usual"].map(|name| folder.path().join(name));
    write_atomic(&ours, b"text").unwrap();
    fs::write(&usual, "text").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&ours), mode(&usual));
}

#[test]
fn a_name_alone_lies_in_the_current_folder() {
    for (path, folder) in [("a", "."), ("./a", "."), ("b/a", "b"), ("/a", "/"), ("..", ".")] {
        assert_eq!(folder_of(Path::new(path)), Path::new(folder), "{path}");
    }
}
