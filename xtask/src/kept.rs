//! Scores and maps of a cell, for those who measure for themselves.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use simplenet_report::Row;
use simplenet_report::file::write_atomic;

use crate::sheets::{Shown, create};

/// Writes `<cell>.csv`, a line for each test image with its score, and `<cell>.maps.npy`, `[images, side, side]` in f32 in the same
/// order; where there are masks, `<cell>.masks.npy` of the same shape.
pub(crate) fn write(folder: &Path, row: &Row, shown: &Shown) -> Result<()> {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut table = String::from("file,defect,anomalous,score\n");
    let scored = shown.dataset.test.iter().zip(&shown.scores.images);
    for ((sample, score), anomalous) in scored.zip(&shown.truth.anomalous) {
        let file = sample.source.path().display().to_string();
        let (file, defect) = (quoted(&file), quoted(&sample.defect));
        table.push_str(&format!("{file},{defect},{},{score}\n", u8::from(*anomalous)));
    }
    write_atomic(&create(folder, row, "csv")?, table.as_bytes())?;
    let shape = [shown.scores.images.len(), shown.truth.side, shown.truth.side];
    let maps = shown.maps.iter().flat_map(|value| value.to_le_bytes());
    write_atomic(&create(folder, row, "maps.npy")?, &npy("<f4", shape, maps.collect())?)?;
    if let Some(masks) = &shown.truth.masks {
        let masks = masks.iter().map(|&mask| u8::from(mask)).collect();
        write_atomic(&create(folder, row, "masks.npy")?, &npy("|b1", shape, masks)?)?;
    }
    Ok(())
}

/// An array as NumPy's format 1.0 has it.
fn npy(kind: &str, [images, rows, columns]: [usize; 3], values: Vec<u8>) -> Result<Vec<u8>> {
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({images}, {rows}, {columns}), }}");
    // Magic, version and length take 10 bytes; the values begin at a multiple of 64, behind a line's end.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = Vec::with_capacity(10 + length + values.len());
    bytes.extend(b"\x93NUMPY\x01\x00");
    bytes.extend(u16::try_from(length).context("the header of an array")?.to_le_bytes());
    writeln!(bytes, "{header:<width$}", width = length - 1)?;
    bytes.extend(values);
    Ok(bytes)
}
