//! The loops around the micro-kernel.
//!
//! B is packed once, for all threads. C is cut into blocks, one task each: a task walks over the blocks of K, packs its
//! rows of A, which then stay in the second cache, and runs every panel of B past them.

use std::ops::Range;

use rayon::prelude::*;

use super::kernel::{Kernel, MAX_TILE};
use super::pack::{Buffer, Right, Shared, Side, k_blocks, left_layout, left_panel};
use super::{Accumulate, MatMut, MatRef, Real};

/// Panels of A in one block of C at most: 24 of 14 rows take 525 KiB, about half of a second cache.
const BLOCK_PANELS: usize = 24;

/// Below this many multiplications the start of the threads would cost more than they bring.
const SERIAL: usize = 1 << 20;

/// Tasks per thread at least, where there is enough to split, so that a thread that is held up costs a part only.
const TASKS_PER_THREAD: usize = 4;

/// Whether a product is worth more than one thread.
pub(super) fn is_parallel(m: usize, k: usize, n: usize) -> bool {
    m.saturating_mul(k).saturating_mul(n) > SERIAL
}

/// Whose threads multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    /// All of the pool, where it is worth it.
    Pool,
    /// The one that calls.
    Caller,
}

/// `C = A B` or `C += A B` with B packed. The shapes have been checked.
pub(super) fn multiply<T: Real, P: Send + Sync>(
    on: On,
    kernel: &Kernel<T, P>,
    a: MatRef<'_, T>,
    b: &Right<P>,
    mut c: MatMut<'_, T>,
    accumulate: Accumulate,
) {
    let (m, n) = (c.rows(), c.cols());
    if m == 0 || n == 0 {
        return;
    }
    let out = Output {
        data: Shared(c.as_mut_ptr()),
        row_stride: c.row_stride(),
        col_stride: c.col_stride(),
    };
    if b.k == 0 {
        clear(&out, m, n, accumulate);
        return;
    }
    let row_panels = m.div_ceil(kernel.rows);
    if on == On::Caller || !is_parallel(m, b.k, n) {
        block(kernel, &a, b, &out, 0..row_panels, 0..b.panels, accumulate);
        return;
    }
    let (down, across) = grid(row_panels, b.panels, rayon::current_num_threads());
    (0..down * across).into_par_iter().with_max_len(1).for_each(|task| {
        let rows = part(row_panels, down, task / across);
        let cols = part(b.panels, across, task % across);
        block(kernel, &a, b, &out, rows, cols, accumulate);
    });
}

/// Blocks of C down and across. Only the time depends on them.
fn grid(row_panels: usize, col_panels: usize, threads: usize) -> (usize, usize) {
    let wanted = threads * TASKS_PER_THREAD;
    let fits = row_panels.div_ceil(BLOCK_PANELS);
    let down = fits.max(wanted).next_multiple_of(threads).min(row_panels);
    let across = wanted.div_ceil(down).min(col_panels);
    (down, across)
}

/// Part `index` of `count` parts of `0..length`, sizes at most one apart.
fn part(length: usize, count: usize, index: usize) -> Range<usize> {
    length * index / count..length * (index + 1) / count
}

fn clear<T: Real>(out: &Output<T>, m: usize, n: usize, accumulate: Accumulate) {
    if accumulate == Accumulate::Add {
        return;
    }
    for i in 0..m {
        for j in 0..n {
            // SAFETY: (i, j) lies inside C.
            unsafe { *out.place(i, j) = T::default() };
        }
    }
}

/// One block of C: row panels `rows`, column panels `cols`.
fn block<T: Real, P: Send + Sync>(
    kernel: &Kernel<T, P>,
    a: &MatRef<'_, T>,
    b: &Right<P>,
    out: &Output<T>,
    rows: Range<usize>,
    cols: Range<usize>,
    accumulate: Accumulate,
) {
    let (m, n, layout) = (a.rows(), b.n, left_layout(a));
    let run = kernel.run(layout);
    let panel = left_panel(kernel);
    let _ready = kernel.ready();
    for ks in k_blocks(b.k, kernel.blocking) {
        let terms = ks.len().next_multiple_of(kernel.blocking.k_step);
        let add = accumulate == Accumulate::Add || ks.start > 0;
        for band in bands(rows.clone()) {
            let mut left = Buffer::<P>::borrow(Side::Left, panel * band.len());
            let lines = band.start * kernel.rows..(band.end * kernel.rows).min(m);
            // SAFETY: the buffer has `band.len()` panels; rows and columns lie inside A.
            unsafe { (kernel.pack_left)(a, lines, ks.clone(), kernel.rows, left.as_mut_ptr()) };
            for col_panel in cols.clone() {
                let col = col_panel * kernel.cols;
                // SAFETY: the panel lies inside the packed B.
                let right = unsafe { b.buffer.as_ptr().add(b.offset(&ks, col_panel)) };
                for (place, row_panel) in band.clone().enumerate() {
                    let row = row_panel * kernel.rows;
                    // SAFETY: the panels are packed; a full tile inside C is written there, others are made here and
                    // only their part inside C is copied.
                    unsafe {
                        let left = left.as_ptr().add(place * panel);
                        if row + kernel.rows <= m && col + kernel.cols <= n && out.col_stride == 1 {
                            run(terms, left, right, out.place(row, col), out.row_stride, add);
                            continue;
                        }
                        let mut tile = [T::default(); MAX_TILE];
                        let size = (kernel.rows.min(m - row), kernel.cols.min(n - col));
                        if add {
                            out.read(&mut tile, kernel.cols, (row, col), size);
                        }
                        run(terms, left, right, tile.as_mut_ptr(), kernel.cols, add);
                        out.write(&tile, kernel.cols, (row, col), size);
                    }
                }
            }
            left.keep(Side::Left);
        }
    }
}

/// Row panels that are packed together.
fn bands(rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = rows.end;
    rows.step_by(BLOCK_PANELS)
        .map(move |start| start..(start + BLOCK_PANELS).min(end))
}

/// C, shared by the tasks; each writes elements that no other touches.
#[derive(Debug, Clone, Copy)]
struct Output<T> {
    data: Shared<T>,
    row_stride: usize,
    col_stride: usize,
}

impl<T: Real> Output<T> {
    /// # Safety
    /// (row, col) lies inside the matrix.
    unsafe fn place(&self, row: usize, col: usize) -> *mut T {
        // SAFETY: inside, as the caller promises.
        unsafe { self.data.get().add(row * self.row_stride + col * self.col_stride) }
    }

    /// Copies `size` rows and columns from `at` into `tile`.
    ///
    /// # Safety
    /// They lie inside the matrix, and no other task writes them.
    unsafe fn read(&self, tile: &mut [T], tile_cols: usize, at: (usize, usize), size: (usize, usize)) {
        for (i, row) in tile.chunks_mut(tile_cols).enumerate().take(size.0) {
            for (j, value) in row.iter_mut().enumerate().take(size.1) {
                // SAFETY: inside, as the caller promises.
                *value = unsafe { *self.place(at.0 + i, at.1 + j) };
            }
        }
    }

    /// Copies the first `size` rows and columns of `tile` to `at`.
    ///
    /// # Safety
    /// They lie inside the matrix, and no other task writes them.
    unsafe fn write(&self, tile: &[T], tile_cols: usize, at: (usize, usize), size: (usize, usize)) {
        for (i, row) in tile.chunks(tile_cols).enumerate().take(size.0) {
            for (j, &sum) in row.iter().enumerate().take(size.1) {
                // SAFETY: inside, as the caller promises.
                unsafe { *self.place(at.0 + i, at.1 + j) = sum };
            }
        }
    }
}
