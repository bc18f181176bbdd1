//! Copies of A and B in the order in which the micro-kernels read them.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use std::thread::LocalKey;

use rayon::prelude::*;

use super::kernel::{Blocking, Kernel, Layout, ROW_PITCH};
use super::{MatRef, Real};

/// A cache line: packed panels start on one, so that no vector load touches two.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

thread_local! {
    static LEFT: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    static RIGHT: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Lines of a source that are asked for before their turn: they often lie a page or more apart, where no processor
/// guesses them.
const AHEAD: usize = 8;

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

/// Zeroed or stale memory of plain numbers, on a cache line.
#[derive(Debug)]
pub(super) struct Buffer<T> {
    lines: Vec<Line>,
    element: PhantomData<T>,
}

impl<T> Buffer<T> {
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
        let needed = elements.saturating_mul(size_of::<T>()).div_ceil(size_of::<Line>());
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
pub(super) fn k_blocks(k: usize, blocking: Blocking) -> impl Iterator<Item = Range<usize>> {
    let Blocking { k_block, k_step, .. } = blocking;
    let length = k.div_ceil(k.div_ceil(k_block).max(1)).max(1).next_multiple_of(k_step);
    (0..k.div_ceil(length)).map(move |block| block * length..((block + 1) * length).min(k))
}

/// Elements that a panel of A takes.
pub(super) fn left_panel<T, P>(kernel: &Kernel<T, P>) -> usize {
    kernel.rows * kernel.blocking.row_pitch
}

/// The layout that a panel of `a` is packed in.
pub(super) fn left_layout<T: Real>(a: &MatRef<'_, T>) -> Layout {
    if a.col_stride() == 1 {
        Layout::Rows
    } else {
        Layout::Columns
    }
}

/// Copies rows `rows` and columns `ks` of `a` into panels of `height` rows, one after the other; the rows that the last
/// panel lacks become zero.
///
/// # Safety
/// `out` has room for the panels; both ranges lie inside `a`.
pub(super) unsafe fn pack_left<T: Real>(
    a: &MatRef<'_, T>,
    rows: Range<usize>,
    ks: Range<usize>,
    height: usize,
    out: *mut T,
) {
    let panel = height * ROW_PITCH;
    let missing = rows.len().next_multiple_of(height) - rows.len();
    let (down, across) = (a.row_stride(), a.col_stride());
    // SAFETY: the sources lie inside `a`; the targets inside their panel, since `ks` is at most `K_BLOCK` long.
    unsafe {
        let source = a.as_ptr().add(rows.start * down + ks.start * across);
        match left_layout(a) {
            Layout::Rows => {
                for row in 0..rows.len() + missing {
                    let target = out.add(row / height * panel + row % height * ROW_PITCH);
                    if row < rows.len() {
                        std::ptr::copy_nonoverlapping(source.add(row * down), target, ks.len());
                    } else {
                        std::slice::from_raw_parts_mut(target, ks.len()).fill(T::default());
                    }
                }
            }
            Layout::Columns => {
                for p in 0..ks.len() {
                    let line = source.add(p * across);
                    if down == 1 {
                        let ahead = line.wrapping_add(AHEAD * across);
                        for i in (0..rows.len()).step_by(size_of::<Line>() / size_of::<T>()) {
                            prefetch(ahead.wrapping_add(i));
                        }
                    }
                    let mut target = out.add(p * height);
                    let mut done = 0;
                    // Line after line of the source, all panels at once.
                    while done < rows.len() {
                        let count = height.min(rows.len() - done);
                        copy_short(line.add(done * down), down, count, target);
                        for i in count..height {
                            *target.add(i) = T::default();
                        }
                        done += height;
                        target = target.add(panel);
                    }
                }
            }
        }
    }
}

/// A hint only: it reads nothing that the program could see.
#[inline(always)]
fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the instruction, and it never faults, wherever it points.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Copies `count` elements, `stride` apart: in steps of 4 where they are contiguous, for a call of `memcpy` would
/// take longer than the copy.
///
/// # Safety
/// The places are valid.
#[inline(always)]
unsafe fn copy_short<T: Copy>(source: *const T, stride: usize, count: usize, target: *mut T) {
    let mut done = 0;
    // SAFETY: every place is below `count`.
    unsafe {
        if stride == 1 {
            while done + 4 <= count {
                *target.add(done).cast::<[T; 4]>() = *source.add(done).cast::<[T; 4]>();
                done += 4;
            }
        }
        while done < count {
            *target.add(done) = *source.add(done * stride);
            done += 1;
        }
    }
}

/// [`pack_left`], then every value is rounded to bf16.
///
/// # Safety
/// As [`pack_left`].
pub(super) unsafe fn pack_left_rounded<T: Real>(
    a: &MatRef<'_, T>,
    rows: Range<usize>,
    ks: Range<usize>,
    height: usize,
    out: *mut T,
) {
    // SAFETY: as the caller promises. Gaps between the rows of a panel hold what an earlier product left, and are rounded
    // too.
    unsafe {
        pack_left(a, rows.clone(), ks.clone(), height, out);
        let panels = rows.len().div_ceil(height);
        for panel in 0..panels {
            let panel = out.add(panel * height * ROW_PITCH);
            let values = match left_layout(a) {
                Layout::Rows => (height - 1) * ROW_PITCH + ks.len(),
                Layout::Columns => height * ks.len(),
            };
            round(std::slice::from_raw_parts_mut(panel, values));
        }
    }
}

fn round<T: Real>(values: &mut [T]) {
    values.iter_mut().for_each(|value| *value = value.rounded());
}

/// B `[k, n]` in panels: for each block of K, for each panel of `kernel.cols` columns, what `kernel.pack_right` makes of it.
#[derive(Debug)]
pub(super) struct Right<P> {
    pub(super) buffer: Buffer<P>,
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) panels: usize,
    width: usize,
    k_step: usize,
}

impl<P: Send + Sync> Right<P> {
    /// Elements that the panels take. Where a view repeats one line so often that their number overflows, allocating the
    /// buffer panics: what is returned never understates.
    pub(super) fn elements<T>(k: usize, n: usize, kernel: &Kernel<T, P>) -> usize {
        let terms = k
            .div_ceil(kernel.blocking.k_step)
            .saturating_mul(kernel.blocking.k_step);
        n.div_ceil(kernel.cols)
            .saturating_mul(kernel.cols)
            .saturating_mul(terms)
    }

    /// Packs `b` into `buffer`, which has room for [`Right::elements`].
    pub(super) fn pack<T: Real>(b: &MatRef<'_, T>, kernel: &Kernel<T, P>, buffer: Buffer<P>, parallel: bool) -> Self {
        let (k, n, width) = (b.rows(), b.cols(), kernel.cols);
        let mut right = Right {
            buffer,
            k,
            n,
            panels: n.div_ceil(width),
            width,
            k_step: kernel.blocking.k_step,
        };
        let out = Shared(right.buffer.as_mut_ptr());
        let strips: Vec<_> = k_blocks(k, kernel.blocking)
            .flat_map(|block| strips(&block, kernel.blocking.k_step).map(move |strip| (block.clone(), strip)))
            .collect();
        let pack = |(block, strip): &(Range<usize>, Range<usize>)| {
            for panel in 0..right.panels {
                let columns = panel * width..((panel + 1) * width).min(n);
                let place = right.offset(block, panel) + (strip.start - block.start) * width;
                // SAFETY: each strip has its own rows of the panels in the buffer.
                unsafe { (kernel.pack_right)(b, strip.clone(), columns, width, out.get().add(place)) }
            }
        };
        if parallel {
            strips.par_iter().for_each(pack);
        } else {
            strips.iter().for_each(pack);
        }
        right
    }

    /// Where the panel of one block of K starts.
    pub(super) fn offset(&self, ks: &Range<usize>, panel: usize) -> usize {
        (ks.start * self.panels + panel * ks.len().next_multiple_of(self.k_step)) * self.width
    }
}

/// Runs of K that are packed as one at least: across all panels, so that the lines of a source are read from end to end.
const STRIP: usize = 16;

/// Strips begin at multiples of `k_step`, so that only the last one of K is filled up.
fn strips(block: &Range<usize>, k_step: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let (end, length) = (block.end, STRIP.next_multiple_of(k_step));
    block
        .clone()
        .step_by(length)
        .map(move |start| start..(start + length).min(end))
}

/// Copies rows `ks` of some columns of `b` as `[k][width]`, with zeros for the columns that are missing at the end.
///
/// # Safety
/// `out` has room for `ks.len() * width`; the ranges lie inside `b`, and `columns` is at most `width` long.
pub(super) unsafe fn pack_right<T: Real>(
    b: &MatRef<'_, T>,
    ks: Range<usize>,
    columns: Range<usize>,
    width: usize,
    out: *mut T,
) {
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
        // A transpose: a strip of a column is one cache line, used up before it goes.
        for j in 0..columns.len() {
            for p in 0..ks.len() {
                *out.add(p * width + j) = *source.add(p * down + j * across);
            }
        }
    }
}

/// [`pack_right`], then every value is rounded to bf16.
///
/// # Safety
/// As [`pack_right`].
pub(super) unsafe fn pack_right_rounded<T: Real>(
    b: &MatRef<'_, T>,
    ks: Range<usize>,
    columns: Range<usize>,
    width: usize,
    out: *mut T,
) {
    // SAFETY: as the caller promises; `pack_right` has written all of it.
    unsafe {
        pack_right(b, ks.clone(), columns, width, out);
        round(std::slice::from_raw_parts_mut(out, ks.len() * width));
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
