//! Copies of A and B in the order in which the micro-kernels read them.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use std::thread::LocalKey;

use rayon::prelude::*;

use super::kernel::{K_BLOCK, Kernel, Layout, ROW_PITCH};
use super::{MatRef, Real};

/// A cache line: packed panels start on one, so that no vector load touches two.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

thread_local! {
    static LEFT: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    static RIGHT: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Which of a thread's two buffers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side {
    Left,
    Right,
}

impl Side {
    fn store(self) -> &'static LocalKey<Cell<Vec<Line>>> {
        match self {
            Side::Left => &LEFT,
            Side::Right => &RIGHT,
        }
    }
}

/// Zeroed or stale memory of a `Real`, on a cache line.
#[derive(Debug)]
pub(super) struct Buffer<T> {
    lines: Vec<Line>,
    element: PhantomData<T>,
}

impl<T: Real> Buffer<T> {
    /// A buffer of its own.
    pub(super) fn new(elements: usize) -> Self {
        Self::from_lines(Vec::new(), elements)
    }

    /// The buffer this thread keeps, grown to `elements`: fresh pages cost more than the copy into them. Give it back
    /// with [`Buffer::keep`]. A product that starts while another waits on the same thread finds an empty one.
    pub(super) fn borrow(side: Side, elements: usize) -> Self {
        Self::from_lines(side.store().take(), elements)
    }

    /// Gives the buffer back to this thread.
    pub(super) fn keep(self, side: Side) {
        side.store().set(self.lines);
    }

    fn from_lines(mut lines: Vec<Line>, elements: usize) -> Self {
        let needed = (elements * size_of::<T>()).div_ceil(size_of::<Line>());
        if lines.len() < needed {
            lines.resize(needed, Line([0; 64]));
        }
        Self {
            lines,
            element: PhantomData,
        }
    }

    pub(super) fn as_ptr(&self) -> *const T {
        self.lines.as_ptr().cast()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut T {
        self.lines.as_mut_ptr().cast()
    }
}

/// The blocks of K: as many as needed, all but the last of the same length. They depend on K alone, and so do the bytes
/// of the product.
pub(super) fn k_blocks(k: usize) -> impl Iterator<Item = Range<usize>> {
    let length = k.div_ceil(k.div_ceil(K_BLOCK).max(1)).max(1);
    (0..k.div_ceil(length)).map(move |block| block * length..((block + 1) * length).min(k))
}

/// Elements that a panel of A takes.
pub(super) fn left_panel(kernel_rows: usize) -> usize {
    kernel_rows * ROW_PITCH
}

/// The layout that a panel of `a` is packed in.
pub(super) fn left_layout<T: Real>(a: &MatRef<'_, T>) -> Layout {
    if a.col_stride() == 1 {
        Layout::Rows
    } else {
        Layout::Columns
    }
}

/// Copies rows `rows` (at most `kernel_rows`; the missing ones become zero) and columns `ks` of `a`.
///
/// # Safety
/// `out` has room for [`left_panel`] elements; both ranges lie inside `a`.
pub(super) unsafe fn pack_left<T: Real>(
    a: &MatRef<'_, T>,
    rows: Range<usize>,
    ks: Range<usize>,
    kernel_rows: usize,
    out: *mut T,
) {
    let (down, across) = (a.row_stride(), a.col_stride());
    // SAFETY: the sources lie inside `a`, the targets inside `kernel_rows * ROW_PITCH` since `ks` is at most `K_BLOCK`.
    unsafe {
        let source = a.as_ptr().add(rows.start * down + ks.start * across);
        match left_layout(a) {
            Layout::Rows => {
                for i in 0..rows.len() {
                    std::ptr::copy_nonoverlapping(source.add(i * down), out.add(i * ROW_PITCH), ks.len());
                }
                for i in rows.len()..kernel_rows {
                    std::slice::from_raw_parts_mut(out.add(i * ROW_PITCH), ks.len()).fill(T::default());
                }
            }
            Layout::Columns => {
                for p in 0..ks.len() {
                    let target = out.add(p * kernel_rows);
                    for i in 0..rows.len() {
                        *target.add(i) = *source.add(i * down + p * across);
                    }
                    for i in rows.len()..kernel_rows {
                        *target.add(i) = T::default();
                    }
                }
            }
        }
    }
}

/// B `[k, n]` in panels: for each block of K, for each panel of `kernel.cols` columns, `[k][cols]`, with zeros for the
/// columns that are missing at the end.
#[derive(Debug)]
pub(super) struct Right<T> {
    pub(super) buffer: Buffer<T>,
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) panels: usize,
    width: usize,
}

impl<T: Real> Right<T> {
    /// Elements that the panels take.
    pub(super) fn elements(k: usize, n: usize, kernel: &Kernel<T>) -> usize {
        k * n.div_ceil(kernel.cols) * kernel.cols
    }

    /// Packs `b` into `buffer`, which has room for [`Right::elements`].
    pub(super) fn pack(b: &MatRef<'_, T>, kernel: &Kernel<T>, buffer: Buffer<T>, parallel: bool) -> Self {
        let (k, n, width) = (b.rows(), b.cols(), kernel.cols);
        let mut right = Right {
            buffer,
            k,
            n,
            panels: n.div_ceil(width),
            width,
        };
        let out = Shared(right.buffer.as_mut_ptr());
        let jobs: Vec<_> = k_blocks(k)
            .flat_map(|ks| (0..right.panels).map(move |panel| (ks.clone(), panel)))
            .collect();
        let pack = |(ks, panel): &(Range<usize>, usize)| {
            let columns = panel * width..((panel + 1) * width).min(n);
            // SAFETY: each job has its own panel of the buffer.
            unsafe { pack_panel(b, ks.clone(), columns, width, out.get().add(right.offset(ks, *panel))) }
        };
        if parallel {
            jobs.par_iter().with_min_len(4).for_each(pack);
        } else {
            jobs.iter().for_each(pack);
        }
        right
    }

    /// Where the panel of one block of K starts.
    pub(super) fn offset(&self, ks: &Range<usize>, panel: usize) -> usize {
        (ks.start * self.panels + panel * ks.len()) * self.width
    }
}

/// # Safety
/// `out` has room for `ks.len() * width`; the ranges lie inside `b`, and `columns` is at most `width` long.
unsafe fn pack_panel<T: Real>(b: &MatRef<'_, T>, ks: Range<usize>, columns: Range<usize>, width: usize, out: *mut T) {
    const SQUARE: usize = 16;
    let (down, across) = (b.row_stride(), b.col_stride());
    // SAFETY: sources and targets are those that the caller promises.
    unsafe {
        let source = b.as_ptr().add(ks.start * down + columns.start * across);
        if columns.len() < width {
            std::slice::from_raw_parts_mut(out, ks.len() * width).fill(T::default());
        }
        if across == 1 {
            for p in 0..ks.len() {
                std::ptr::copy_nonoverlapping(source.add(p * down), out.add(p * width), columns.len());
            }
            return;
        }
        // A transpose, square by square: a cache line that is read is used up before it goes.
        for p0 in (0..ks.len()).step_by(SQUARE) {
            let depth = SQUARE.min(ks.len() - p0);
            for j in 0..columns.len() {
                for p in p0..p0 + depth {
                    *out.add(p * width + j) = *source.add(p * down + j * across);
                }
            }
        }
    }
}

/// A pointer that tasks share; each writes places that no other touches.
#[derive(Debug)]
pub(super) struct Shared<T>(pub(super) *mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

impl<T> Shared<T> {
    pub(super) fn get(&self) -> *mut T {
        self.0
    }
}

// SAFETY: whoever shares it keeps the writes apart and outlives the tasks.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}
