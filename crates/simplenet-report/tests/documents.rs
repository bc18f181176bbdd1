//! Generated blocks in documents.

use std::fs;

use simplenet_report::{Freshness, check, check_file, splice, splice_file};

const DOCUMENT: &str = "a\n<!-- BEGIN: one -->\nold\n<!-- END: one -->\nb\n<!-- BEGIN: two -->\n<!-- END: two -->\nc\n";

#[test]
fn only_the_named_block_changes() {
    let spliced = splice(DOCUMENT, "two", "\nnew\nlines\n\n").expect("spliced");
    let expected =
        "a\n<!-- BEGIN: one -->\nold\n<!-- END: one -->\nb\n<!-- BEGIN: two -->\nnew\nlines\n<!-- END: two -->\nc\n";
    assert_eq!(spliced, expected);
    assert_eq!(splice(&spliced, "two", "").expect("spliced"), DOCUMENT);
    assert_eq!(check(&spliced, "two", "new\nlines").expect("checked"), Freshness::Fresh);
    assert_eq!(check(&spliced, "two", "other").expect("checked"), Freshness::Stale);
}

#[test]
fn markers_that_are_missing_doubled_or_swapped_are_errors() {
    let message = |document: &str, block: &str| splice(document, "one", block).expect_err("refused").to_string();
    assert!(message("nothing", "").contains("`<!-- BEGIN: one -->` is missing"));
    assert!(message("<!-- BEGIN: one -->", "").contains("`<!-- END: one -->` is missing"));
    assert!(message(&DOCUMENT.repeat(2), "").contains("is there 2 times"));
    assert!(message("<!-- END: one --><!-- BEGIN: one -->", "").contains("stands before"));
    assert!(message(DOCUMENT, "<!-- END: one -->").contains("the new block itself"));
}

#[test]
fn a_file_is_written_only_when_it_changes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("document.md");
    fs::write(&path, DOCUMENT).expect("written");
    assert_eq!(check_file(&path, "one", "new").expect("checked"), Freshness::Stale);
    assert_eq!(fs::read_to_string(&path).expect("text"), DOCUMENT);
    assert_eq!(splice_file(&path, "one", "new").expect("spliced"), Freshness::Stale);
    assert_eq!(splice_file(&path, "one", "new").expect("spliced"), Freshness::Fresh);
    assert_eq!(check_file(&path, "one", "new").expect("checked"), Freshness::Fresh);
    assert!(
        fs::read_to_string(&path)
            .expect("text")
            .contains("\nnew\n<!-- END: one -->")
    );
    assert_eq!(
        fs::read_dir(folder.path()).expect("listed").count(),
        1,
        "no temporary file is left"
    );
    let message = check_file(&path, "three", "").expect_err("refused").to_string();
    assert!(message.contains("document.md"), "{message}");
}
