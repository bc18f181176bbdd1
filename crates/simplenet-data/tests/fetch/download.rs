use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use simplenet_data::fetch::{self, Download, Error, Sum};

use crate::server::{Answer, Server};
use crate::{HASTY, Log, bytes};

const LENGTH: usize = 300_007;

fn sum(content: &[u8]) -> Sum {
    let digits: String = Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Sum::try_from(format!("sha256:{digits}")).unwrap()
}

fn get(url: &str, folder: &Path, sum: Option<&Sum>) -> (fetch::Result<PathBuf>, Log) {
    let mut log = Log::default();
    let what = Download {
        url,
        folder,
        name: "file.bin",
        sum,
        bytes: None,
        retry: HASTY,
    };
    let result = fetch::download(&what, &mut |event| log.note(event));
    (result, log)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".lock"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_arrives_and_only_under_its_name() {
    let content = bytes(LENGTH);
    let (file, expected) = (content.clone(), sum(&content));
    let server = Server::start(move |_, request| Answer::file(&file, "\"v1\"", request));
    let folder = tempfile::tempdir().unwrap();
    let path = get(&server.url("file.bin"), folder.path(), Some(&expected)).0.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), content);
    assert_eq!(names(folder.path()), ["file.bin"]);
    assert_eq!(server.requests()[0].header("Accept-Encoding"), Some("identity"));

    // The second time nothing is asked for.
    assert_eq!(
        get(&server.url("file.bin"), folder.path(), Some(&expected)).0.unwrap(),
        path
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_cut_connection_is_resumed() {
    let content = bytes(LENGTH);
    let (file, expected) = (content.clone(), sum(&content));
    let server = Server::start(move |number, request| {
        let answer = Answer::file(&file, "\"v1\"", request);
        if number == 0 { answer.cut_after(100_003) } else { answer }
    });
    let folder = tempfile::tempdir().unwrap();
    let (result, log) = get(&server.url("file.bin"), folder.path(), Some(&expected));
    assert_eq!(std::fs::read(result.unwrap()).unwrap(), content);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].header("Range"), Some("bytes=100003-"));
    assert_eq!(requests[1].header("If-Range"), Some("\"v1\""));
    assert_eq!(log.0.last().unwrap(), "resuming at 100003");
}

#[test]
fn an_interrupted_run_is_resumed_by_the_next_one() {
    let content = bytes(LENGTH);
    let (file, expected) = (content.clone(), sum(&content));
    let server = Server::start(move |number, request| match number {
        0 => Answer::file(&file, "\"v1\"", request).cut_after(4096),
        1..=3 => Answer::new(503, b""),
        _ => Answer::file(&file, "\"v1\"", request),
    });
    let folder = tempfile::tempdir().unwrap();
    let error = get(&server.url("file.bin"), folder.path(), Some(&expected))
        .0
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::GaveUp {
                bytes: 4096,
                attempts: 4,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(names(folder.path()), ["file.bin.part", "file.bin.part.toml"]);

    let path = get(&server.url("file.bin"), folder.path(), Some(&expected)).0.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
    assert_eq!(server.requests()[4].header("Range"), Some("bytes=4096-"));
}

#[test]
fn a_redirect_keeps_the_range() {
    let content = bytes(LENGTH);
    let (file, expected) = (content.clone(), sum(&content));
    let server = Server::start(move |number, request| match request.path.as_str() {
        "/here" => Answer::new(302, b"").with("Location", "/there"),
        _ if number == 1 => Answer::file(&file, "\"v1\"", request).cut_after(1000),
        _ => Answer::file(&file, "\"v1\"", request),
    });
    let folder = tempfile::tempdir().unwrap();
    let path = get(&server.url("here"), folder.path(), Some(&expected)).0.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
    let last = server.requests().pop().unwrap();
    assert_eq!(
        (last.path.as_str(), last.header("Range")),
        ("/there", Some("bytes=1000-"))
    );
}

#[test]
fn a_server_without_ranges_begins_again() {
    let content = bytes(LENGTH);
    let (file, expected) = (content.clone(), sum(&content));
    let server = Server::start(move |number, _| {
        let answer = Answer::new(200, &file);
        if number == 0 { answer.cut_after(5000) } else { answer }
    });
    let folder = tempfile::tempdir().unwrap();
    let (result, log) = get(&server.url("file.bin"), folder.path(), Some(&expected));
    assert_eq!(std::fs::read(result.unwrap()).unwrap(), content);
    assert_eq!(
        log.0.last().unwrap(),
        "restarting: the server sends the file from its beginning"
    );
}

#[test]
fn a_server_that_always_begins_again_and_breaks_off_is_given_up() {
    let server = Server::start(|_, _| Answer::new(200, &bytes(LENGTH)).cut_after(5000));
    let folder = tempfile::tempdir().unwrap();
    let error = get(&server.url("file.bin"), folder.path(), Some(&sum(b"")))
        .0
        .unwrap_err();
    assert!(error.to_string().contains("4 tries without progress"), "{error}");
    // One request that got further than before, and the bounded tries after it.
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn parts_of_two_versions_are_never_put_together() {
    let (old, new) = (bytes(LENGTH), bytes(LENGTH + 11)[11..].to_vec());
    let expected = sum(&new);
    // One server honours If-Range; the other, wrongly, sends the rest of the new version.
    for honest in [true, false] {
        let (old, file) = (old.clone(), new.clone());
        let server = Server::start(move |number, request| match (number, honest) {
            (0, _) => Answer::file(&old, "\"v1\"", request).cut_after(7000),
            (1, false) => Answer::new(206, &file[7000..])
                .with("Content-Range", &format!("bytes 7000-{}/{LENGTH}", LENGTH - 1))
                .with("ETag", "\"v2\""),
            _ => Answer::file(&file, "\"v2\"", request),
        });
        let folder = tempfile::tempdir().unwrap();
        // Without a sum, the version alone decides.
        for sum in [Some(&expected), None] {
            let folder = folder.path().join(sum.is_some().to_string());
            let path = get(&server.url("file.bin"), &folder, sum).0.unwrap();
            assert_eq!(std::fs::read(path).unwrap(), new);
        }
    }
}

#[test]
fn without_version_and_sum_a_part_is_not_trusted() {
    let content = bytes(LENGTH);
    let file = content.clone();
    let server = Server::start(move |number, _| {
        let answer = Answer::new(200, &file);
        if number == 0 { answer.cut_after(5000) } else { answer }
    });
    let folder = tempfile::tempdir().unwrap();
    let path = get(&server.url("file.bin"), folder.path(), None).0.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
    assert_eq!(server.requests()[1].header("Range"), None);
    // Its own sum holds from now on.
    let record = std::fs::read_to_string(folder.path().join("file.bin.sha256")).unwrap();
    assert_eq!(record.trim(), sum(&content).to_string());
}

#[test]
fn a_part_longer_than_the_file_is_dropped() {
    let content = bytes(LENGTH);
    let (file, expected) = (content.clone(), sum(&content));
    let server = Server::start(move |_, request| Answer::file(&file, "\"v1\"", request));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file.bin.part"), bytes(LENGTH + 5)).unwrap();
    let (result, log) = get(&server.url("file.bin"), folder.path(), Some(&expected));
    assert_eq!(std::fs::read(result.unwrap()).unwrap(), content);
    assert_eq!(log.0[0], "restarting: the server has fewer bytes than are here");
}

#[test]
fn a_part_that_is_complete_is_not_asked_for_again() {
    let content = bytes(LENGTH);
    let (file, expected) = (content.clone(), sum(&content));
    let server = Server::start(move |_, request| Answer::file(&file, "\"v1\"", request));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file.bin.part"), &content).unwrap();
    let path = get(&server.url("file.bin"), folder.path(), Some(&expected)).0.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
}

#[test]
fn a_wrong_sum_names_both_and_leaves_nothing() {
    let (wrong, right) = (bytes(LENGTH), bytes(LENGTH - 1));
    let (file, expected) = (wrong.clone(), sum(&right));
    let server = Server::start(move |_, request| Answer::file(&file, "\"v1\"", request));
    let folder = tempfile::tempdir().unwrap();
    let error = get(&server.url("file.bin"), folder.path(), Some(&expected))
        .0
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&format!("expected {expected}")) && text.contains(&format!("received {}", sum(&wrong))),
        "{text}"
    );
    assert!(text.contains("\n\nhint: "), "{text}");
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn a_web_page_in_place_of_the_file_is_called_so() {
    let server = Server::start(|_, _| Answer::new(200, b"<!doctype html><p>The link has expired"));
    let folder = tempfile::tempdir().unwrap();
    let error = get(&server.url("file.bin"), folder.path(), Some(&sum(b"")))
        .0
        .unwrap_err();
    assert!(error.to_string().contains("a web page"), "{error}");
}

#[test]
fn a_length_that_is_too_long_is_a_cut_connection() {
    let content = bytes(LENGTH);
    let server =
        Server::start(move |_, _| Answer::new(200, &content).with("Content-Length", &(LENGTH + 9).to_string()));
    let folder = tempfile::tempdir().unwrap();
    let error = get(&server.url("file.bin"), folder.path(), Some(&sum(b"")))
        .0
        .unwrap_err();
    assert!(matches!(error, Error::GaveUp { .. }), "{error}");
}

#[test]
fn a_length_that_is_too_short_is_a_wrong_sum() {
    let content = bytes(LENGTH);
    let expected = sum(&content);
    let server = Server::start(move |_, _| Answer::new(200, &content).with("Content-Length", "1000"));
    let folder = tempfile::tempdir().unwrap();
    let error = get(&server.url("file.bin"), folder.path(), Some(&expected))
        .0
        .unwrap_err();
    assert!(matches!(error, Error::WrongSum { bytes: 1000, .. }), "{error}");
}

#[test]
fn another_size_than_expected_is_refused_before_the_download() {
    let server = Server::start(|_, _| Answer::new(200, &bytes(LENGTH)));
    let folder = tempfile::tempdir().unwrap();
    let url = server.url("file.bin");
    let what = Download {
        url: &url,
        folder: folder.path(),
        name: "file.bin",
        sum: None,
        bytes: Some(1 << 40),
        retry: HASTY,
    };
    let error = fetch::download(&what, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Size { offered: 300_007, .. }), "{error}");
}

#[test]
fn a_missing_file_is_not_tried_again() {
    let server = Server::start(|_, _| Answer::new(404, b""));
    let folder = tempfile::tempdir().unwrap();
    let error = get(&server.url("file.bin"), folder.path(), None).0.unwrap_err();
    assert!(error.to_string().contains("404\n\nhint: the file has moved"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_server_in_trouble_is_asked_again() {
    let content = bytes(LENGTH);
    let file = content.clone();
    let server = Server::start(move |number, request| match number {
        0 => Answer::new(500, b""),
        1 => Answer::new(503, b"").with("Retry-After", "0"),
        _ => Answer::file(&file, "\"v1\"", request),
    });
    let folder = tempfile::tempdir().unwrap();
    let (result, log) = get(&server.url("file.bin"), folder.path(), None);
    assert_eq!(std::fs::read(result.unwrap()).unwrap(), content);
    assert_eq!(
        log.0,
        ["retrying: the server answered 500", "retrying: the server answered 503"]
    );
}

#[test]
fn no_server_and_no_address_are_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for url in [format!("http://{free}/file.bin"), "no address".to_owned()] {
        let (result, log) = get(&url, folder.path(), None);
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        assert!(log.0.is_empty());
    }
}

#[test]
fn a_file_that_rotted_is_fetched_again() {
    let content = bytes(LENGTH);
    let (file, expected) = (content.clone(), sum(&content));
    let server = Server::start(move |_, request| Answer::file(&file, "\"v1\"", request));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file.bin"), b"rot").unwrap();
    let (result, log) = get(&server.url("file.bin"), folder.path(), Some(&expected));
    assert_eq!(std::fs::read(result.unwrap()).unwrap(), content);
    assert_eq!(log.0, ["restarting: the file that is there has a wrong sum"]);
}

#[test]
fn two_downloads_of_one_file_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let lock = std::fs::File::create(folder.path().join("file.bin.lock")).unwrap();
    lock.lock().unwrap();
    let error = get("http://127.0.0.1:1/", folder.path(), None).0.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = get("http://127.0.0.1:1/", &file.path().join("data"), None)
        .0
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(file.path().to_str().unwrap()) && text.contains("\n\nhint: "),
        "{text}"
    );
}

/// `/dev/full` fails each write as a full disk does.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_called_so() {
    let server = Server::start(|_, request| Answer::file(&bytes(LENGTH), "\"v1\"", request));
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join("file.bin.part")).unwrap();
    let error = get(&server.url("file.bin"), folder.path(), None).0.unwrap_err();
    assert!(error.to_string().contains("\n\nhint: the disk is full"), "{error}");
}
