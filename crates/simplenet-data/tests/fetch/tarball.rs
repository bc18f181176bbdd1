//! Archives, good and evil.

use std::io::Write;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

/// A tar file in memory.
pub(crate) struct Tarball(Builder<Vec<u8>>);

impl Tarball {
    pub(crate) fn new() -> Tarball {
        Tarball(Builder::new(Vec::new()))
    }

    pub(crate) fn file(mut self, path: &str, content: &[u8]) -> Tarball {
        let mut header = header(path, EntryType::Regular);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub(crate) fn entry(mut self, path: &str, kind: EntryType, link: &str) -> Tarball {
        let mut header = header(path, kind);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, &[][..]).unwrap();
        self
    }

    /// MVTec AD's layout with two training images and two test images, of which one shows a defect.
    pub(crate) fn category(self, top: &str) -> Tarball {
        let png = png();
        self.file(&format!("{top}train/good/000.png"), &png)
            .file(&format!("{top}train/good/001.png"), &png)
            .file(&format!("{top}test/good/000.png"), &png)
            .file(&format!("{top}test/scratch/000.png"), &png)
            .file(&format!("{top}ground_truth/scratch/000_mask.png"), &png)
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    pub(crate) fn gz(self) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&self.bytes()).unwrap();
        encoder.finish().unwrap()
    }

    pub(crate) fn xz(self) -> Vec<u8> {
        let mut encoder = xz2::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(&self.bytes()).unwrap();
        encoder.finish().unwrap()
    }
}

/// Every file below a folder, relative to it, in order.
pub(crate) fn tree(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(path),
                false => files.push(path.to_str().unwrap().replace('\\', "/")),
            }
        }
    }
    files.sort();
    files
}

pub(crate) fn png() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(3, 5)
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

/// The name is written past the checks that tar makes of it.
fn header(path: &str, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(0);
    header
}
