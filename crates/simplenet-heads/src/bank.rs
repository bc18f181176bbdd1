//! The features of an image set, extracted once: in memory, or in a temporary file where memory does not suffice.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::random;

/// The patch features of an image set: `rows_per_image` rows of `dim` finite values for every image.
#[derive(Debug)]
pub struct Bank {
    dim: usize,
    rows_per_image: usize,
    images: usize,
    store: Store,
}

#[derive(Debug)]
enum Store {
    /// One allocation per image, so that growing moves nothing.
    Memory(Vec<Box<[f32]>>),
    /// The file has no name any more: the system frees it with the last handle, even after a crash.
    File(Mmap),
}

/// Takes features image by image and makes a [`Bank`] of them.
#[derive(Debug)]
pub struct BankBuilder {
    dim: usize,
    rows_per_image: usize,
    budget_bytes: u64,
    spill_dir: PathBuf,
    images: usize,
    memory: Vec<Box<[f32]>>,
    spill: Option<File>,
}

impl BankBuilder {
    /// An empty bank that keeps up to `budget_bytes` in memory and beyond that moves, whole, to a temporary file in
    /// `spill_dir` (which is touched only then).
    ///
    /// # Errors
    /// [`Error::Config`] where `dim` or `rows_per_image` is 0.
    pub fn new(dim: usize, rows_per_image: usize, budget_bytes: u64, spill_dir: &Path) -> Result<BankBuilder> {
        for (field, value) in [("dim", dim), ("rows-per-image", rows_per_image)] {
            if value == 0 {
                let field = field.to_string();
                return Err(Error::Config {
                    field,
                    value: 0.0,
                    expected: "at least 1",
                });
            }
        }
        Ok(BankBuilder {
            dim,
            rows_per_image,
            budget_bytes,
            spill_dir: spill_dir.to_path_buf(),
            images: 0,
            memory: Vec::new(),
            spill: None,
        })
    }

    /// Adds the rows of one or more images, `[images · rows_per_image, dim]`.
    ///
    /// # Errors
    /// [`Error::Shape`] where that is not a whole number of images, [`Error::FeatureNotFinite`] where a value is NaN or
    /// infinite, [`Error::Spill`] where the temporary file cannot take them. The bank is then what it was before.
    pub fn push(&mut self, rows: &[f32]) -> Result<()> {
        let size = self.dim * self.rows_per_image;
        if !rows.len().is_multiple_of(size) {
            return Err(Error::Shape {
                what: "rows".into(),
                found: rows.len(),
                expected: format!(
                    "a multiple of {size} (images of {} rows of {} channels)",
                    self.rows_per_image, self.dim
                ),
            });
        }
        if let Some(index) = first_not_finite(rows) {
            return Err(Error::FeatureNotFinite {
                image: self.images + index / size,
                row: index % size / self.dim,
                channel: index % self.dim,
                value: rows[index],
            });
        }
        let images = self.images + rows.len() / size;
        let bytes = (images * size * size_of::<f32>()) as u64;
        if self.spill.is_none() && bytes > self.budget_bytes {
            self.start_spilling()
                .map_err(|source| self.spill_error(bytes, source))?;
        }
        let before = (self.images * size * size_of::<f32>()) as u64;
        match &mut self.spill {
            Some(file) => append_rows(file, before, rows).map_err(|source| self.spill_error(bytes, source))?,
            None => self.memory.extend(rows.chunks_exact(size).map(Box::from)),
        }
        self.images = images;
        Ok(())
    }

    /// The bank.
    ///
    /// # Errors
    /// [`Error::EmptyBank`] where nothing was pushed, [`Error::Spill`] where the temporary file cannot be mapped.
    pub fn finish(self) -> Result<Bank> {
        if self.images == 0 {
            return Err(Error::EmptyBank);
        }
        let (dim, rows_per_image, images) = (self.dim, self.rows_per_image, self.images);
        let bytes = (images * rows_per_image * dim * size_of::<f32>()) as u64;
        let store = match &self.spill {
            None => Store::Memory(self.memory),
            Some(file) => Store::File(map(file).map_err(|source| self.spill_error(bytes, source))?),
        };
        Ok(Bank {
            dim,
            rows_per_image,
            images,
            store,
        })
    }

    fn start_spilling(&mut self) -> io::Result<()> {
        let mut file = tempfile::tempfile_in(&self.spill_dir)?;
        // Where there is no room for them they stay in memory, and the bank is what it was.
        for image in &self.memory {
            write_rows(&mut file, image)?;
        }
        self.memory = Vec::new();
        self.spill = Some(file);
        Ok(())
    }

    fn spill_error(&self, bytes: u64, source: io::Error) -> Error {
        let dir = self.spill_dir.clone();
        Error::Spill { dir, bytes, source }
    }
}

impl Bank {
    /// Number of images, at least 1.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Patches of an image.
    pub fn rows_per_image(&self) -> usize {
        self.rows_per_image
    }

    /// Channels of a patch.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Patches of all images.
    pub fn rows(&self) -> usize {
        self.images * self.rows_per_image
    }

    /// Whether the features lie in a temporary file.
    pub fn is_spilled(&self) -> bool {
        matches!(self.store, Store::File(_))
    }

    /// A bank of the same images with `rows_per_image` rows of each, or all, chosen at random for every image, in their order:
    /// no image and no place within images is left out. Where it goes is as in [`BankBuilder::new`].
    ///
    /// # Errors
    /// [`Error::Config`] where `rows_per_image` is 0, [`Error::Spill`] where the temporary file cannot take them.
    pub fn sample(&self, rows_per_image: usize, seed: u64, budget_bytes: u64, spill_dir: &Path) -> Result<Bank> {
        let count = rows_per_image.min(self.rows_per_image);
        let mut sampled = BankBuilder::new(self.dim, count, budget_bytes, spill_dir)?;
        let mut rows = Vec::with_capacity(count * self.dim);
        for image in 0..self.images {
            let all = self.image(image);
            rows.clear();
            for row in random::sample(count, self.rows_per_image, seed, image) {
                rows.extend_from_slice(&all[row * self.dim..][..self.dim]);
            }
            sampled.push(&rows)?;
        }
        sampled.finish()
    }

    /// The features of an image, `[rows_per_image, dim]`.
    ///
    /// # Panics
    /// Where `index` is not below [`Bank::images`], as a slice would.
    pub fn image(&self, index: usize) -> &[f32] {
        match &self.store {
            Store::Memory(images) => &images[index],
            Store::File(map) => {
                let size = self.rows_per_image * self.dim;
                &as_floats(map)[index * size..(index + 1) * size]
            }
        }
    }
}

/// Whole blocks first, without leaving early, so that the compiler vectorises the search.
fn first_not_finite(rows: &[f32]) -> Option<usize> {
    const BLOCK: usize = 4096;
    let damaged = |block: &[f32]| block.iter().fold(false, |damaged, x| damaged | !x.is_finite());
    let block = rows.par_chunks(BLOCK).position_first(damaged)?;
    let inside = rows[block * BLOCK..].iter().position(|x| !x.is_finite())?;
    Some(block * BLOCK + inside)
}

/// Writes behind the first `end` bytes; where that fails they are all that is left.
fn append_rows(file: &mut File, end: u64, rows: &[f32]) -> io::Result<()> {
    let written = write_rows(file, rows);
    if written.is_err() {
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
    }
    written
}

/// In this machine's byte order: nobody else reads the file.
fn write_rows(file: &mut File, rows: &[f32]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(1 << 18);
    for rows in rows.chunks(1 << 16) {
        bytes.clear();
        bytes.extend(rows.iter().flat_map(|value| value.to_ne_bytes()));
        file.write_all(&bytes)?;
    }
    Ok(())
}

#[expect(unsafe_code, reason = "mapping a file is unsafe because others could change it")]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the file has no name, so no other process can open, change or truncate it, and this one writes no more.
    unsafe { Mmap::map(file) }
}

#[expect(unsafe_code, reason = "a mapping is bytes, and the features are floats")]
fn as_floats(map: &Mmap) -> &[f32] {
    // SAFETY: every bit pattern is a float, and `align_to` keeps to aligned ones. A mapping starts at a page, so the
    // prefix is empty.
    unsafe { map.align_to::<f32>().1 }
}
