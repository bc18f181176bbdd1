use std::path::{Path, PathBuf};

use simplenet_data::fetch::{self, Error, Limits};
use tar::EntryType;

use crate::bytes;
use crate::tarball::{Tarball, tree};

/// Extracts into `ROOT/inside`, so that `ROOT` shows what escaped.
fn extract(archive: &[u8], root: &Path, limits: Limits) -> fetch::Result<PathBuf> {
    let path = root.join("archive");
    std::fs::write(&path, archive).unwrap();
    let inside = root.join("inside");
    fetch::extract(&path, &inside, limits, &|_| true, &mut |_| {})?;
    Ok(inside)
}

fn good() -> Tarball {
    Tarball::new()
        .entry("./", EntryType::Directory, "")
        .entry("a/", EntryType::Directory, "")
        .file("a/one.bin", &bytes(70_001))
        .file("./b/two.bin", b"two")
        .file("empty", b"")
}

#[test]
fn xz_and_gzip_are_known_by_their_content() {
    for archive in [good().gz(), good().xz()] {
        let root = tempfile::tempdir().unwrap();
        let inside = extract(&archive, root.path(), Limits::default()).unwrap();
        assert_eq!(tree(&inside), ["a/one.bin", "b/two.bin", "empty"]);
        assert_eq!(std::fs::read(inside.join("a/one.bin")).unwrap(), bytes(70_001));
    }
    let root = tempfile::tempdir().unwrap();
    for other in [&b"<html>"[..], b"", b"PK\x03\x04...."] {
        let error = extract(other, root.path(), Limits::default()).unwrap_err();
        assert!(matches!(error, Error::ArchiveFormat { .. }), "{error}");
    }
}

#[test]
fn only_what_is_asked_for_is_written() {
    let root = tempfile::tempdir().unwrap();
    let archive = root.path().join("archive");
    std::fs::write(&archive, good().xz()).unwrap();
    let inside = root.path().join("inside");
    let keep = |path: &Path| path.starts_with("b");
    fetch::extract(&archive, &inside, Limits::default(), &keep, &mut |_| {}).unwrap();
    assert_eq!(tree(&inside), ["b/two.bin"]);
}

#[test]
fn nothing_is_written_outside_the_folder() {
    let evil = [
        ("`..`", Tarball::new().file("../evil", b"evil")),
        ("`..`", Tarball::new().file("a/../../evil", b"evil")),
        ("`..`", Tarball::new().entry("../evil", EntryType::Directory, "")),
        ("absolute", Tarball::new().file("/tmp/simplenet-evil", b"evil")),
        (
            "links",
            Tarball::new()
                .entry("door", EntryType::Symlink, "..")
                .file("door/evil", b"evil"),
        ),
        ("links", Tarball::new().entry("door", EntryType::Link, "../archive")),
        ("only files", Tarball::new().entry("tty", EntryType::Char, "")),
        ("only files", Tarball::new().entry("disk", EntryType::Block, "")),
        ("only files", Tarball::new().entry("pipe", EntryType::Fifo, "")),
        ("twice", Tarball::new().file("a", b"1").file("a", b"2")),
    ];
    for (reason, archive) in evil {
        let root = tempfile::tempdir().unwrap();
        let error = extract(&archive.gz(), root.path(), Limits::default()).unwrap_err();
        assert!(matches!(error, Error::RefusedEntry { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        let outside: Vec<String> = tree(root.path())
            .into_iter()
            .filter(|path| !path.starts_with("inside/"))
            .collect();
        assert_eq!(outside, ["archive"]);
        assert!(!Path::new("/tmp/simplenet-evil").exists());
    }
}

#[test]
fn an_entry_that_is_not_asked_for_is_refused_too() {
    let root = tempfile::tempdir().unwrap();
    let archive = root.path().join("archive");
    std::fs::write(&archive, Tarball::new().file("../evil", b"evil").gz()).unwrap();
    let error = fetch::extract(&archive, root.path(), Limits::default(), &|_| false, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::RefusedEntry { .. }), "{error}");
}

#[test]
fn a_truncated_archive_is_damaged_wherever_it_ends() {
    for archive in [good().gz(), good().xz()] {
        for length in [20, archive.len() / 3, archive.len() * 2 / 3, archive.len() - 1] {
            let root = tempfile::tempdir().unwrap();
            let error = extract(&archive[..length], root.path(), Limits::default()).unwrap_err();
            assert!(matches!(error, Error::DamagedArchive { .. }), "{length}: {error}");
        }
    }
    // The compression may be whole where the tar file inside is not.
    let tar = good().bytes();
    let mut encoder = flate2::read::GzEncoder::new(&tar[..5000], flate2::Compression::fast());
    let mut archive = Vec::new();
    std::io::Read::read_to_end(&mut encoder, &mut archive).unwrap();
    let root = tempfile::tempdir().unwrap();
    let error = extract(&archive, root.path(), Limits::default()).unwrap_err();
    assert!(matches!(error, Error::DamagedArchive { .. }), "{error}");
}

#[test]
fn a_flipped_bit_is_damage() {
    for mut archive in [good().gz(), good().xz()] {
        let middle = archive.len() / 2;
        archive[middle] ^= 4;
        let root = tempfile::tempdir().unwrap();
        let error = extract(&archive, root.path(), Limits::default()).unwrap_err();
        assert!(matches!(error, Error::DamagedArchive { .. }), "{error}");
    }
}

#[test]
fn bombs_are_stopped() {
    let bomb = Tarball::new().file("zeros", &vec![0; 20 << 20]).gz();
    assert!(bomb.len() < 200_000);
    let root = tempfile::tempdir().unwrap();
    let limits = Limits {
        entries: 10,
        bytes: 10 << 20,
    };
    let error = extract(&bomb, root.path(), limits).unwrap_err();
    assert!(matches!(error, Error::ArchiveLimit { what: "bytes", .. }), "{error}");

    let many = (0..11).fold(Tarball::new(), |tar, number| tar.file(&number.to_string(), b""));
    let root = tempfile::tempdir().unwrap();
    let error = extract(&many.gz(), root.path(), limits).unwrap_err();
    assert!(matches!(error, Error::ArchiveLimit { what: "entries", .. }), "{error}");
}
