use std::fs;
use std::path::Path;

use crate::file::write_atomic;
use crate::{Error, Result};

/// Whether a document holds the block that it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It does.
    Fresh,
    /// It holds another one.
    Stale,
}

/// Replaces what stands between `<!-- BEGIN: marker -->` and `<!-- END: marker -->` by `block`, on lines of its own.
///
/// ```
/// let document = "# Results\n<!-- BEGIN: t -->\nold\n<!-- END: t -->\n";
/// let fresh = simplenet_report::splice(document, "t", "new\n")?;
/// assert_eq!(fresh, "# Results\n<!-- BEGIN: t -->\nnew\n<!-- END: t -->\n");
/// # Ok::<(), simplenet_report::Error>(())
/// ```
///
/// # Errors
/// When a marker is missing or there twice, the end comes first, or `block` itself holds one of the markers.
pub fn splice(document: &str, marker: &str, block: &str) -> Result<String> {
    let begin = format!("<!-- BEGIN: {marker} -->");
    let end = format!("<!-- END: {marker} -->");
    let refuse = |problem: String| {
        Err(Error::Marker {
            marker: marker.to_owned(),
            problem,
        })
    };
    for text in [&begin, &end] {
        match document.matches(text.as_str()).count() {
            1 => {}
            0 => return refuse(format!("`{text}` is missing")),
            n => return refuse(format!("`{text}` is there {n} times")),
        }
        if block.contains(text.as_str()) {
            return refuse(format!("the new block itself holds `{text}`"));
        }
    }
    let Some((before, rest)) = document.split_once(&begin) else {
        return refuse(format!("`{begin}` is missing"));
    };
    let Some((_, after)) = rest.split_once(&end) else {
        return refuse(format!("`{end}` stands before `{begin}`"));
    };
    let block = block.trim_matches('\n');
    let separator = if block.is_empty() { "" } else { "\n" };
    Ok(format!("{before}{begin}\n{block}{separator}{end}{after}"))
}

/// Whether `document` already holds `block` at `marker`.
///
/// # Errors
/// As [`splice()`].
pub fn check(document: &str, marker: &str, block: &str) -> Result<Freshness> {
    let fresh = splice(document, marker, block)?;
    Ok(if fresh == document {
        Freshness::Fresh
    } else {
        Freshness::Stale
    })
}

/// Replaces the block in a file, atomically and only when it changes. Returns what the file was before.
///
/// # Errors
/// As [`splice()`], or when the file cannot be read or written.
pub fn splice_file(path: &Path, marker: &str, block: &str) -> Result<Freshness> {
    let document = read(path)?;
    let fresh = splice(&document, marker, block).map_err(|e| in_document(path, e))?;
    if fresh == document {
        return Ok(Freshness::Fresh);
    }
    write_atomic(path, fresh.as_bytes())?;
    Ok(Freshness::Stale)
}

/// [`check`] for a file; nothing is written.
///
/// # Errors
/// As [`splice()`], or when the file cannot be read.
pub fn check_file(path: &Path, marker: &str, block: &str) -> Result<Freshness> {
    check(&read(path)?, marker, block).map_err(|e| in_document(path, e))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| Error::io("read", path, e))
}

fn in_document(path: &Path, source: Error) -> Error {
    Error::Document {
        path: path.to_owned(),
        source: Box::new(source),
    }
}
