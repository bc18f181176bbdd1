//! What lies among the images and cannot be judged: nobody should take its silence for a verdict.

use std::path::{Path, PathBuf};

use simplenet_data::is_image;

/// Endings of pictures that are not decoded: of the web, of telephones and scanners, and the raw formats of cameras.
const OTHERS: &str = "apng avif btf dds dib exr gif hdr heic heif hif ico j2c j2k jfif jp2 jpc jpe jpf jpx jxl jxr pam pbm pcx \
                      pfm pgm pnm ppm psd qoi sgi tga wdp webp 3fr ari arw cr2 cr3 crw dcr dng erf fff iiq k25 kdc mef mos \
                      mrw nef nrw orf pef raf raw rw2 rwl sr2 srf srw x3f";

/// What was passed over.
#[derive(Debug, Default)]
pub(crate) struct Skipped {
    count: usize,
    /// One of the files, and why.
    first: Option<(PathBuf, &'static str)>,
    /// Links to folders elsewhere, and one of them.
    links: usize,
    first_link: Option<PathBuf>,
}

impl Skipped {
    /// Whether a file in a folder is an image to judge. One that only looks like it is counted.
    pub(crate) fn sift(&mut self, path: &Path) -> bool {
        let decoded = is_image(path);
        // A folder is no image, whatever its name.
        if path.is_dir() || !decoded && !ends_in(path, OTHERS) {
            return false;
        }
        let reason = match (path.is_file(), path.exists()) {
            (true, _) if decoded => return true,
            (true, _) => "only PNG, JPEG, BMP and TIFF are decoded",
            (false, true) => "it is no file",
            // It may have gone since the folder was listed; then there is nothing to judge.
            (false, false) if !path.is_symlink() => return false,
            (false, false) => "what it links to is not there",
        };
        self.count += 1;
        self.first.get_or_insert_with(|| (path.to_owned(), reason));
        false
    }

    /// Counts a link to a folder, which is not followed: it may lead in a circle. One that leads to a folder below `root` is
    /// none to speak of, as that folder is looked into.
    pub(crate) fn link(&mut self, root: &Path, path: PathBuf) {
        let within = |root: &Path| Some(path.canonicalize().ok()?.starts_with(root.canonicalize().ok()?));
        if within(root) != Some(true) {
            self.links += 1;
            self.first_link.get_or_insert(path);
        }
    }

    /// What to say of pictures that are passed over, if there are any: that they are `not` something.
    pub(crate) fn pictures(&self, not: &str) -> Option<String> {
        let (path, reason) = self.first.as_ref()?;
        let pictures = match self.count {
            1 => "1 picture is".to_string(),
            more => format!("{more} pictures are"),
        };
        let path = path.display();
        Some(format!("{pictures} {not}, such as {path}: {reason}"))
    }

    /// What to say of links to folders.
    pub(crate) fn folders(&self) -> Option<String> {
        let path = self.first_link.as_ref()?.display();
        let links = match self.links {
            1 => "1 link to a folder is".to_string(),
            more => format!("{more} links to folders are"),
        };
        Some(format!("{links} not followed, such as {path}"))
    }
}

fn ends_in(path: &Path, endings: &str) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        endings
            .split_whitespace()
            .any(|known| extension.eq_ignore_ascii_case(known))
    })
}
