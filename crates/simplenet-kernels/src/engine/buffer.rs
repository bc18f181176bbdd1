//! Memory on cache-line boundaries: a 64-byte vector that straddles two lines costs two loads.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use super::lanes::Element;

/// What the processor maps at once where the system lets it.
const HUGE_PAGE: usize = 2 << 20;

/// Elements that begin at a multiple of 64 bytes; all zero bits when made. Long ones lie on huge pages where the system has some:
/// a network's weights touch thousands of small pages in a run, more than the processor remembers the addresses of.
pub(super) struct AlignedBuffer<T> {
    at: NonNull<T>,
    len: usize,
}

// SAFETY: the buffer owns its elements.
unsafe impl<T: Send> Send for AlignedBuffer<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for AlignedBuffer<T> {}

impl<T: Element> AlignedBuffer<T> {
    pub(super) fn zeroed(len: usize) -> AlignedBuffer<T> {
        let layout = layout::<T>(len);
        // SAFETY: the layout is not empty; every bit pattern is an element.
        let at = unsafe {
            let at = alloc(layout);
            if at.is_null() {
                handle_alloc_error(layout);
            }
            if layout.align() == HUGE_PAGE {
                ask_for_huge_pages(at, layout.size());
            }
            at.write_bytes(0, layout.size());
            NonNull::new_unchecked(at.cast::<T>())
        };
        AlignedBuffer { at, len }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut T {
        self.at.as_ptr()
    }

    pub(super) fn as_slice(&self) -> &[T] {
        // SAFETY: the allocation holds `len` elements, which were written when it was made.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as in `as_slice`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

impl<T> Drop for AlignedBuffer<T> {
    fn drop(&mut self) {
        // SAFETY: allocated with the same layout.
        unsafe { dealloc(self.at.as_ptr().cast(), layout::<T>(self.len)) };
    }
}

fn layout<T>(len: usize) -> Layout {
    let bytes = len.saturating_mul(size_of::<T>()).max(1);
    let alignment = if bytes >= HUGE_PAGE { HUGE_PAGE } else { 64 };
    let whole = bytes.checked_next_multiple_of(alignment);
    let layout = whole.and_then(|bytes| Layout::from_size_align(bytes, alignment).ok());
    layout.expect("no buffer is longer than the address space")
}

#[cfg(target_os = "linux")]
fn ask_for_huge_pages(at: *mut u8, bytes: usize) {
    // SAFETY: changes how the memory is mapped, not what it holds; where the system has no huge pages nothing happens.
    unsafe { libc::madvise(at.cast(), bytes, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_at: *mut u8, _bytes: usize) {}

/// A pointer into memory that tasks of one step share: an arena, scratch, or an output. What keeps them apart stands where it
/// is dereferenced: a task writes only its own rows and channels, and reads only values of earlier steps.
#[derive(Clone, Copy)]
pub(super) struct ArenaPtr<T>(pub(super) *mut T);

// SAFETY: sending or sharing the address itself is harmless; every access through it is justified where it is made.
unsafe impl<T: Send> Send for ArenaPtr<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for ArenaPtr<T> {}

impl<T> ArenaPtr<T> {
    /// The same memory as elements of another type.
    pub(super) fn cast<U>(self) -> ArenaPtr<U> {
        ArenaPtr(self.0.cast())
    }

    /// # Safety
    /// `offset` lies within the arena.
    pub(super) unsafe fn at(self, offset: usize) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(offset) }
    }
}
