//! Pictures of another size than all that were learnt from: they may be of another camera, or another product.

use std::path::{Path, PathBuf};

use simplenet::Detector;
use simplenet::detector::card::DataCard;

/// Counts them.
pub(crate) struct OtherSizes<'a> {
    learnt: &'a DataCard,
    count: usize,
    /// One of them, with its size.
    first: Option<(PathBuf, [usize; 2])>,
}

impl OtherSizes<'_> {
    pub(crate) fn new(detector: &Detector) -> OtherSizes<'_> {
        OtherSizes {
            learnt: &detector.card().data,
            count: 0,
            first: None,
        }
    }

    pub(crate) fn add(&mut self, path: &Path, size: [usize; 2]) {
        if self.learnt.other_sizes == 0 && size != self.learnt.size {
            self.count += 1;
            self.first.get_or_insert_with(|| (path.to_owned(), size));
        }
    }

    /// What to say of them, if there are any.
    pub(crate) fn text(&self) -> Option<String> {
        let (path, [width, height]) = self.first.as_ref()?;
        let [usual_width, usual_height] = self.learnt.size;
        let pictures = match self.count {
            1 => "1 picture is".to_string(),
            more => format!("{more} pictures are"),
        };
        Some(format!(
            "note: all that was learnt from is {usual_width} x {usual_height} pixels; {pictures} of another size, such as {} of {width} x {height}",
            path.display()
        ))
    }
}
