//! Scores and maps of a cell, for those who measure for themselves.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use simplenet_report::Row;
use simplenet_report::file::write_atomic;

use crate::sheets::{Shown, cell_file};

/// Writes `<cell>.csv`, a line for each test image with its score, and `<cell>.maps.npy`, `[images, side, side]` in f32 in the same
/// order; where there are masks, `<cell>.masks.npy` of the same shape.
pub(crate) fn write(folder: &Path, row: &Row, shown: &Shown) -> Result<()> {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut table = String::from("file,defect,anomalous,score\n");
    let scored = shown.dataset.test.iter().zip(&shown.scores.images);
    for ((sample, score), anomalous) in scored.zip(&shown.truth.anomalous) {
        let (file, defect) = (quoted(&sample.source.to_string()), quoted(&sample.defect));
        table.push_str(&format!("{file},{defect},{},{score}\n", u8::from(*anomalous)));
    }
    write_atomic(&cell_file(folder, row, "csv")?, table.as_bytes())?;
    let shape = [shown.scores.images.len(), shown.truth.side, shown.truth.side];
    let mut maps = npy("<f4", shape)?;
    maps.reserve(size_of_val(shown.maps));
    shown
        .maps
        .iter()
        .for_each(|value| maps.extend_from_slice(&value.to_le_bytes()));
    write_atomic(&cell_file(folder, row, "maps.npy")?, &maps)?;
    drop(maps);
    if let Some(masks) = &shown.truth.masks {
        let mut bytes = npy("|b1", shape)?;
        bytes.extend(masks.iter().map(|&mask| u8::from(mask)));
        write_atomic(&cell_file(folder, row, "masks.npy")?, &bytes)?;
    }
    Ok(())
}

/// What stands before the values of an array in NumPy's format 1.0.
fn npy(kind: &str, [images, rows, columns]: [usize; 3]) -> Result<Vec<u8>> {
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({images}, {rows}, {columns}), }}");
    // Magic, version and length take 10 bytes; the values begin at a multiple of 64, behind a line's end.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = Vec::new();
    bytes.extend(b"\x93NUMPY\x01\x00");
    bytes.extend(u16::try_from(length).context("the header of an array")?.to_le_bytes());
    writeln!(bytes, "{header:<width$}", width = length - 1)?;
    Ok(bytes)
}
