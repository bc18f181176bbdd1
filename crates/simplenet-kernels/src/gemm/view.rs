//! Views of a slice as a matrix. The bounds are checked once, here; the kernels trust them.

use std::ops::Range;

use super::GemmError;

/// A read-only matrix over a slice: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Debug, Clone, Copy)]
pub struct MatRef<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// A matrix to write to, over a slice. No two of its elements share a place.
#[derive(Debug)]
pub struct MatMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> MatRef<'a, T> {
    /// `[rows, cols]`, row after row without gaps.
    ///
    /// # Errors
    /// [`GemmError::OutOfBounds`] where `data` is shorter than that.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Result<Self, GemmError> {
        Self::with_strides(data, rows, cols, cols, 1)
    }

    /// `[rows, cols]` with any distance between neighbours, zero included (a row repeated is `row_stride` 0).
    ///
    /// # Errors
    /// [`GemmError::OutOfBounds`] where the last element lies outside `data`.
    pub fn with_strides(
        data: &'a [T],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Result<Self, GemmError> {
        check_bounds(data.len(), rows, cols, row_stride, col_stride)?;
        Ok(Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride,
        })
    }

    /// The transpose; nothing is copied.
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// The rows of `range`.
    ///
    /// # Errors
    /// [`GemmError::Range`] where the range ends after the last row or before its own start.
    pub fn row_range(self, range: Range<usize>) -> Result<Self, GemmError> {
        if range.start > range.end || range.end > self.rows {
            return Err(GemmError::Range {
                start: range.start,
                end: range.end,
                rows: self.rows,
            });
        }
        let rows = range.len();
        let start = (range.start * self.row_stride).min(self.data.len());
        let data = if rows == 0 { &[][..] } else { &self.data[start..] };
        Ok(Self { data, rows, ..self })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from one row to the next.
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// Elements from one column to the next.
    pub fn col_stride(&self) -> usize {
        self.col_stride
    }

    /// Element (row, col), or `None` outside.
    pub fn get(&self, row: usize, col: usize) -> Option<&T> {
        if row >= self.rows || col >= self.cols {
            return None;
        }
        self.data.get(row * self.row_stride + col * self.col_stride)
    }

    pub(super) fn as_ptr(&self) -> *const T {
        self.data.as_ptr()
    }
}

impl<'a, T> MatMut<'a, T> {
    /// `[rows, cols]`, row after row without gaps.
    ///
    /// # Errors
    /// [`GemmError::OutOfBounds`] where `data` is shorter than that.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Result<Self, GemmError> {
        Self::with_strides(data, rows, cols, cols, 1)
    }

    /// `[rows, cols]` with any distance between neighbours that keeps the elements apart.
    ///
    /// # Errors
    /// [`GemmError::OutOfBounds`] where the last element lies outside `data`; [`GemmError::Overlap`] where two elements
    /// may share a place: rows must not reach into the next row, nor columns into the next column.
    pub fn with_strides(
        data: &'a mut [T],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Result<Self, GemmError> {
        check_bounds(data.len(), rows, cols, row_stride, col_stride)?;
        let apart = |outer_count: usize, outer: usize, inner_count: usize, inner: usize| {
            (inner_count <= 1 || inner > 0) && (outer_count <= 1 || outer > inner_count.saturating_sub(1) * inner)
        };
        let empty = rows == 0 || cols == 0;
        if !empty && !apart(rows, row_stride, cols, col_stride) && !apart(cols, col_stride, rows, row_stride) {
            return Err(GemmError::Overlap {
                rows,
                cols,
                row_stride,
                col_stride,
            });
        }
        Ok(Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride,
        })
    }

    /// The transpose; nothing is moved.
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// The same matrix, to read.
    pub fn as_ref(&self) -> MatRef<'_, T> {
        MatRef {
            data: self.data,
            rows: self.rows,
            cols: self.cols,
            row_stride: self.row_stride,
            col_stride: self.col_stride,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from one row to the next.
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// Elements from one column to the next.
    pub fn col_stride(&self) -> usize {
        self.col_stride
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut T {
        self.data.as_mut_ptr()
    }
}

fn check_bounds(len: usize, rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> Result<(), GemmError> {
    if rows == 0 || cols == 0 {
        return Ok(());
    }
    let last = (rows - 1)
        .checked_mul(row_stride)
        .zip((cols - 1).checked_mul(col_stride))
        .and_then(|(down, across)| down.checked_add(across));
    match last {
        Some(last) if last < len => Ok(()),
        _ => Err(GemmError::OutOfBounds {
            len,
            rows,
            cols,
            row_stride,
            col_stride,
        }),
    }
}
