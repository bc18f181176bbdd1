use std::path::Path;
use std::process::Command;

use md5::{Digest, Md5};
use sha2::Sha256;
use simplenet_data::fetch::{self, Error, Finding, Installed, Manifest, Options, State};

use crate::server::{Answer, Server};
use crate::tarball::{Tarball, png, tree};
use crate::{HASTY, Log};

/// A manifest for small archives. Two categories of MVTec AD with two training and two test images each; a CIFAR-10 of one
/// record per file.
fn manifest(mvtec: &[u8], cifar10: &[u8], weights: Option<&[u8]>) -> Manifest {
    let sha256 = |content: &[u8]| hex(&Sha256::digest(content));
    let sum = weights.map(|content| format!("sum = \"sha256:{}\"", sha256(content)));
    let text = format!(
        r#"
        [mvtec]
        title = "MVTec AD"
        target = "mvtec"
        citation = ""
        archive = {{ url = "http://127.0.0.1:1/", name = "whole.tar.xz", bytes = {}, sum = "sha256:{}" }}
        licence = {{ name = "CC", url = "https://example.org", accept = "Non-commercial use only." }}
        images = {{ bottle = {{ train = 2, test = 2 }}, screw = {{ train = 2, test = 2 }} }}
        [cifar10]
        title = "CIFAR-10"
        target = "cifar10"
        citation = ""
        archive = {{ url = "http://127.0.0.1:1/", name = "cifar.tar.gz", bytes = {}, sum = "md5:{}" }}
        licence = {{ name = "none", url = "https://example.org" }}
        files = {{ "data_batch_1.bin" = 3073, "test_batch.bin" = 3073 }}
        [weights.resnet18]
        repository = "timm/resnet18.tv_in1k"
        file = "model.safetensors"
        licence = {{ name = "BSD", url = "https://example.org" }}
        {}
        "#,
        mvtec.len(),
        sha256(mvtec),
        cifar10.len(),
        hex(&Md5::digest(cifar10)),
        sum.unwrap_or_default(),
    );
    Manifest::parse(&text, Path::new("manifest.toml")).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn whole_archive() -> Vec<u8> {
    Tarball::new()
        .file("license.txt", b"CC")
        .category("bottle/")
        .category("screw/")
        .xz()
}

fn serve(content: Vec<u8>) -> Server {
    Server::start(move |_, request| Answer::file(&content, "\"v1\"", request))
}

fn options<'a>(url: &'a str, categories: &'a [String]) -> Options<'a> {
    Options {
        url: Some(url),
        categories,
        accept_licence: true,
        retry: HASTY,
    }
}

fn state(findings: &[Finding], name: &str) -> State {
    findings
        .iter()
        .find(|finding| finding.name == name)
        .unwrap()
        .state
        .clone()
}

#[test]
fn mvtec_arrives_a_category_at_a_time() {
    let archive = whole_archive();
    let manifest = manifest(&archive, b"", None);
    let server = serve(archive);
    let url = server.url("whole.tar.xz");
    let data = tempfile::tempdir().unwrap();
    let bottle = ["bottle".to_owned()];
    let target = data.path().join("mvtec");

    let refused = Options {
        accept_licence: false,
        ..options(&url, &bottle)
    };
    let error = fetch::mvtec(&manifest, data.path(), &refused, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("Non-commercial use only."), "{error}");
    assert!(error.to_string().contains("--accept-license"), "{error}");
    assert_eq!(tree(data.path()), Vec::<String>::new());

    let installed = fetch::mvtec(&manifest, data.path(), &options(&url, &bottle), &mut |_| {}).unwrap();
    assert!(matches!(&installed, Installed::New { target: new, .. } if *new == target));
    assert!(target.join("bottle/train/good/001.png").is_file() && !target.join("screw").exists());
    assert!(target.join("license.txt").is_file());
    assert_eq!(simplenet_data::mvtec::categories(&target).unwrap(), ["bottle"]);

    // Whole: no licence, no server.
    let again = fetch::mvtec(&manifest, data.path(), &refused, &mut |_| {}).unwrap();
    assert_eq!(again, Installed::Already(target.clone()));

    // The rest comes from the archive that was kept, and only the rest.
    std::fs::write(target.join("bottle/note.txt"), b"mine").unwrap();
    fetch::mvtec(&manifest, data.path(), &options(&url, &[]), &mut |_| {}).unwrap();
    assert_eq!(simplenet_data::mvtec::categories(&target).unwrap(), ["bottle", "screw"]);
    assert!(target.join("bottle/note.txt").is_file() && !data.path().join("mvtec.tmp").exists());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_damaged_category_is_moved_aside_and_replaced() {
    let archive = whole_archive();
    let manifest = manifest(&archive, b"", None);
    let server = serve(archive);
    let data = tempfile::tempdir().unwrap();
    let url = server.url("mirror/whole.tar.xz");
    fetch::mvtec(&manifest, data.path(), &options(&url, &[]), &mut |_| {}).unwrap();

    let image = data.path().join("mvtec/bottle/train/good/000.png");
    std::fs::write(&image, &png()[..40]).unwrap();
    std::fs::remove_file(data.path().join("mvtec/bottle/ground_truth/scratch/000_mask.png")).unwrap();
    let findings = fetch::verify(&manifest, data.path(), &mut |_| {}).unwrap();
    let State::Damaged(problems) = state(&findings, "mvtec/bottle") else {
        panic!("{findings:?}");
    };
    assert!(problems[0].ends_with("000.png is without a mask"), "{problems:?}");
    assert!(problems[1].ends_with("000.png is not a whole PNG file"), "{problems:?}");
    assert_eq!(
        state(&findings, "mvtec/screw"),
        State::Ok("2 train, 2 test, 1 masks".to_owned())
    );

    let mut log = Log::default();
    fetch::mvtec(&manifest, data.path(), &options(&url, &[]), &mut |event| {
        log.note(event)
    })
    .unwrap();
    assert_eq!(log.0, ["moved aside"]);
    assert!(
        data.path()
            .join(".download/aside/bottle.1/train/good/000.png")
            .is_file()
    );
    let findings = fetch::verify(&manifest, data.path(), &mut |_| {}).unwrap();
    assert!(matches!(state(&findings, "mvtec/bottle"), State::Ok(_)));
    assert!(matches!(state(&findings, "whole.tar.xz"), State::Ok(_)));
}

#[test]
fn the_archive_of_one_category_has_any_top() {
    let manifest = manifest(&whole_archive(), b"", None);
    let bottle = ["bottle".to_owned()];
    for top in ["bottle/", "./bottle/", "mvtec_ad/bottle/", "export/", ""] {
        let server = serve(Tarball::new().category(top).gz());
        let data = tempfile::tempdir().unwrap();
        let url = server.url("bottle.tar.gz?download=1");
        fetch::mvtec(&manifest, data.path(), &options(&url, &bottle), &mut |_| {}).unwrap();
        let findings = fetch::verify(&manifest, data.path(), &mut |_| {}).unwrap();
        assert!(matches!(state(&findings, "mvtec/bottle"), State::Ok(_)), "{top}");
        assert!(matches!(state(&findings, "mvtec/screw"), State::Missing(_)), "{top}");
        assert!(!data.path().join("mvtec.tmp").exists());
    }
}

#[test]
fn an_archive_without_the_data_installs_nothing() {
    let manifest = manifest(&whole_archive(), b"", None);
    let server = serve(
        Tarball::new()
            .category("bottle/")
            .file("bottle/train/good/2.png", &png())
            .gz(),
    );
    let data = tempfile::tempdir().unwrap();
    let url = server.url("bottle.tar.gz");
    let error = fetch::mvtec(
        &manifest,
        data.path(),
        &options(&url, &["bottle".to_owned()]),
        &mut |_| {},
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("category `bottle`: train has 3 images, not 2"),
        "{error}"
    );
    assert!(!data.path().join("mvtec/bottle").exists() && !data.path().join("mvtec.tmp").exists());
    // It does not stand in the way of another archive of the same name.
    let server = serve(Tarball::new().category("bottle/").gz());
    let better = server.url("bottle.tar.gz");
    fetch::mvtec(
        &manifest,
        data.path(),
        &options(&better, &["bottle".to_owned()]),
        &mut |_| {},
    )
    .unwrap();

    let error = fetch::mvtec(
        &manifest,
        data.path(),
        &options(&url, &["flask".to_owned()]),
        &mut |_| {},
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no category `flask`\n\nhint: there are bottle, screw"),
        "{error}"
    );
}

#[test]
fn cifar10_arrives_without_its_top_folder() {
    let archive = Tarball::new()
        .file("cifar-10-batches-bin/data_batch_1.bin", &[3; 3073])
        .file("cifar-10-batches-bin/test_batch.bin", &[9; 3073])
        .file("cifar-10-batches-bin/readme.html", b"")
        .gz();
    let manifest = manifest(b"", &archive, None);
    let server = serve(archive);
    let data = tempfile::tempdir().unwrap();
    let url = server.url("cifar.tar.gz");
    fetch::cifar10(&manifest, data.path(), &options(&url, &[]), &mut |_| {}).unwrap();
    let root = data.path().join("cifar10");
    assert_eq!(tree(&root), ["data_batch_1.bin", "readme.html", "test_batch.bin"]);
    let again = fetch::cifar10(&manifest, data.path(), &options(&url, &[]), &mut |_| {}).unwrap();
    assert_eq!(again, Installed::Already(root.clone()));

    std::fs::write(root.join("test_batch.bin"), [9; 3000]).unwrap();
    let findings = fetch::verify(&manifest, data.path(), &mut |_| {}).unwrap();
    let expected = State::Damaged(vec!["test_batch.bin has 3000 bytes, not 3073".to_owned()]);
    assert_eq!(state(&findings, "cifar10"), expected);
}

/// The least that begins like a safetensors file.
fn weights_file() -> Vec<u8> {
    [&2_u64.to_le_bytes()[..], b"{}"].concat()
}

#[test]
fn weights_without_a_known_sum_are_held_to_their_first_download() {
    let manifest = manifest(b"", b"", None);
    let server = serve(weights_file());
    let data = tempfile::tempdir().unwrap();
    let url = server.url("model.safetensors");
    let path = fetch::weights_with(&manifest, "resnet18", data.path(), &options(&url, &[]), &mut |_| {}).unwrap();
    assert_eq!(path, data.path().join("weights/resnet18/model.safetensors"));
    assert!(path.with_added_extension("sha256").is_file());
    // No server is asked for what is there.
    assert_eq!(
        fetch::weights(&manifest, "resnet18", data.path(), &mut |_| {}).unwrap(),
        path
    );

    std::fs::write(&path, b"changed").unwrap();
    let findings = fetch::verify(&manifest, data.path(), &mut |_| {}).unwrap();
    assert!(matches!(state(&findings, "weights/resnet18"), State::Damaged(_)));
    let mut log = Log::default();
    fetch::weights_with(&manifest, "resnet18", data.path(), &options(&url, &[]), &mut |event| {
        log.note(event)
    })
    .unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), weights_file());
    assert_eq!(log.0, ["moved aside"]);
}

#[test]
fn what_is_no_weights_file_is_refused() {
    let manifest = manifest(b"", b"", None);
    let server = serve(b"<!doctype html>log in first".to_vec());
    let data = tempfile::tempdir().unwrap();
    let url = server.url("model.safetensors");
    let error = fetch::weights_with(&manifest, "resnet18", data.path(), &options(&url, &[]), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::NotSafetensors { .. }), "{error}");
    let error = fetch::weights(&manifest, "resnet19", data.path(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("hint: there are resnet18"), "{error}");
}

/// Environment variables belong to the whole process, so this test runs itself in a second one.
#[test]
fn weights_come_from_the_hub_that_hf_endpoint_names() {
    let manifest = manifest(b"", b"", Some(&weights_file()));
    if let Some(data) = std::env::var_os("SIMPLENET_TEST_DATA") {
        fetch::weights(&manifest, "resnet18", Path::new(&data), &mut |_| {}).unwrap();
        return;
    }
    let server = serve(weights_file());
    let data = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sources::weights_come_from_the_hub_that_hf_endpoint_names"])
        .env("SIMPLENET_TEST_DATA", data.path())
        .env("HF_ENDPOINT", server.url(""))
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .env_remove("ALL_PROXY")
        .env_remove("HOME")
        .status()
        .unwrap();
    assert!(status.success());
    let path = data.path().join("weights/resnet18/model.safetensors");
    assert_eq!(std::fs::read(path).unwrap(), weights_file());
    assert_eq!(
        server.requests()[0].path,
        "/timm/resnet18.tv_in1k/resolve/main/model.safetensors"
    );
}

#[test]
fn the_manifest_of_the_project_is_whole() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/manifest.toml");
    let manifest = Manifest::read(path).unwrap();
    let names: Vec<&str> = manifest.mvtec.images.keys().map(String::as_str).collect();
    let mut expected: Vec<&str> = simplenet_data::mvtec::CATEGORIES
        .iter()
        .map(|(name, _)| *name)
        .collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    // Bergmann et al. (CVPR 2019), section 3: 3629 images for training, 1725 for testing.
    assert_eq!(
        manifest.mvtec.images.values().map(|counts| counts.train).sum::<usize>(),
        3629
    );
    assert_eq!(
        manifest.mvtec.images.values().map(|counts| counts.test).sum::<usize>(),
        1725
    );
    assert!(manifest.mvtec.licence.accept.is_some());
}

#[test]
fn a_manifest_cannot_name_a_place_outside_its_folder() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/manifest.toml");
    let text = std::fs::read_to_string(path).unwrap();
    for (from, to) in [
        ("target = \"mvtec\"", "target = \"../mvtec\""),
        ("target = \"cifar10\"", "target = \"/cifar10\""),
        ("[weights.resnet18]", "[weights.\"a/b\"]"),
        ("sum = \"md5:c", "sum = \"md5:x"),
        ("citation", "cite"),
    ] {
        let error = Manifest::parse(&text.replacen(from, to, 1), Path::new("a/manifest.toml")).unwrap_err();
        assert!(
            error.to_string().starts_with("a/manifest.toml is no manifest: "),
            "{error}"
        );
    }
}
