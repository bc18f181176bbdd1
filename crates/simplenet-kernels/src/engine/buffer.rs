//! Memory on cache-line boundaries: a 64-byte vector that straddles two lines costs two loads.

use std::marker::PhantomData;

use super::lanes::Element;

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct CacheLine([u8; 64]);

/// Elements that begin at a multiple of 64 bytes; all zero bits when made.
pub(super) struct AlignedBuffer<T> {
    lines: Vec<CacheLine>,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Element> AlignedBuffer<T> {
    pub(super) fn zeroed(len: usize) -> AlignedBuffer<T> {
        let lines = (len * size_of::<T>()).div_ceil(size_of::<CacheLine>());
        AlignedBuffer {
            lines: vec![CacheLine([0; 64]); lines],
            len,
            element: PhantomData,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut T {
        self.lines.as_mut_ptr().cast()
    }

    pub(super) fn as_slice(&self) -> &[T] {
        // SAFETY: the lines hold at least `len` elements, aligned more strictly than `T`, and every bit pattern is one.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as in `as_slice`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// A pointer into memory that tasks of one step share: an arena, scratch, or an output. What keeps them apart stands where it
/// is dereferenced: a task writes only its own rows and channels, and reads only values of earlier steps.
#[derive(Clone, Copy)]
pub(super) struct ArenaPtr<T>(pub(super) *mut T);

// SAFETY: sending or sharing the address itself is harmless; every access through it is justified where it is made.
unsafe impl<T: Send> Send for ArenaPtr<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for ArenaPtr<T> {}

impl<T> ArenaPtr<T> {
    /// # Safety
    /// `offset` lies within the arena.
    pub(super) unsafe fn at(self, offset: usize) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(offset) }
    }
}
