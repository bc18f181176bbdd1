//! Launches of kernels by name, with checked arguments and guarded arrays.

use std::ffi::{CStr, CString, c_char, c_void};
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

unsafe extern "C" {
    fn simplenet_emu_launch(
        kernel: *const c_char,
        signature: *const c_char,
        grid: *const u32,
        block: *const u32,
        shared: usize,
        order: u32,
        overlaps: bool,
        arguments: *const *const c_void,
    ) -> *const c_char;
    fn simplenet_emu_finish() -> *const c_char;
}

/// The emulator keeps one launch in its globals.
static ONE: Mutex<()> = Mutex::new(());

/// Orders in which warps and lanes run: forwards, backwards, and two at random.
pub(crate) const ORDERS: [u32; 4] = [0, 1, 2, 3];

const PAGE: usize = 4096;
const CANARY: u8 = 0xA5;

/// An array in "device memory": it ends where a page begins that nobody may touch, and is aligned to 16 bytes only.
pub(crate) struct Array<T> {
    pages: *mut u8,
    bytes: usize,
    first: *mut T,
    len: usize,
    kind: PhantomData<T>,
}

impl<T: Copy> Array<T> {
    pub(crate) fn new(values: &[T]) -> Self {
        let size = size_of_val(values);
        let room = size.next_multiple_of(16).next_multiple_of(PAGE);
        let bytes = room + 2 * PAGE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let pages = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(pages, libc::MAP_FAILED, "no memory for {bytes} bytes");
        let pages = pages.cast::<u8>();
        // SAFETY: the mapping has a page, `room` bytes and a page; `first` and what follows it lie in the middle part.
        unsafe {
            pages.add(PAGE).write_bytes(CANARY, room);
            assert_eq!(libc::mprotect(pages.cast(), PAGE, libc::PROT_NONE), 0);
            assert_eq!(libc::mprotect(pages.add(PAGE + room).cast(), PAGE, libc::PROT_NONE), 0);
            let first = pages.add(PAGE + room - size.next_multiple_of(16)).cast::<T>();
            first.copy_from_nonoverlapping(values.as_ptr(), values.len());
            Self {
                pages,
                bytes,
                first,
                len: values.len(),
                kind: PhantomData,
            }
        }
    }

    pub(crate) fn filled(len: usize, value: T) -> Self {
        Self::new(&vec![value; len])
    }

    pub(crate) fn to_vec(&self) -> Vec<T> {
        // SAFETY: `first` points to `len` values, and kernels run only within `launch`.
        unsafe { std::slice::from_raw_parts(self.first, self.len) }.to_vec()
    }
}

impl<T> Drop for Array<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, to which no reference is left.
        unsafe { libc::munmap(self.pages.cast(), self.bytes) };
    }
}

/// An array whose surroundings can be looked at.
trait Guarded {
    /// Whether something was written beside the array, on its own pages.
    fn is_broken(&self) -> bool;
}

impl<T> Guarded for Array<T> {
    fn is_broken(&self) -> bool {
        let begin = self.pages.wrapping_add(PAGE);
        let from = self.first.cast::<u8>();
        let end = self.pages.wrapping_add(self.bytes - PAGE);
        let size = self.len * size_of::<T>();
        // SAFETY: both stretches lie on the readable pages of the mapping.
        let (before, after) = unsafe {
            let after = from.add(size);
            (
                std::slice::from_raw_parts(begin, from.offset_from_unsigned(begin)),
                std::slice::from_raw_parts(after, end.offset_from_unsigned(after)),
            )
        };
        before.iter().chain(after).any(|byte| *byte != CANARY)
    }
}

/// One argument of a kernel: its bytes and what they are (`p8`, `i4`, `f4`, ...).
pub(crate) struct Argument<'a> {
    kind: char,
    bytes: Vec<u8>,
    array: Option<&'a dyn Guarded>,
}

impl<'a, T: Copy> From<&'a Array<T>> for Argument<'a> {
    fn from(array: &'a Array<T>) -> Self {
        Self {
            kind: 'p',
            bytes: (array.first as usize).to_ne_bytes().to_vec(),
            array: Some(array),
        }
    }
}

macro_rules! number {
    ($($type:ty, $kind:literal;)*) => {$(
        impl From<$type> for Argument<'_> {
            fn from(value: $type) -> Self {
                Self { kind: $kind, bytes: value.to_ne_bytes().to_vec(), array: None }
            }
        }
    )*};
}
number! { i32, 'i'; i64, 'i'; f32, 'f'; }

/// The arguments of a launch, in the order of the kernel's parameters.
macro_rules! arguments {
    ($($value:expr),* $(,)?) => { [$($crate::harness::Argument::from($value)),*] };
}
pub(crate) use arguments;

/// Grid, block, bytes of dynamic shared memory.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared: usize,
}

impl Shape {
    pub(crate) const fn line(blocks: u32, threads: u32) -> Self {
        Self {
            grid: [blocks, 1, 1],
            block: [threads, 1, 1],
            shared: 0,
        }
    }
}

/// Runs a kernel to its end.
pub(crate) fn launch(kernel: &str, shape: Shape, order: u32, arguments: &[Argument<'_>]) -> Result<(), String> {
    launch_all(&[Launch {
        kernel,
        shape,
        order,
        overlaps: false,
        arguments,
    }])
}

/// A launch in a row of them.
pub(crate) struct Launch<'a> {
    pub(crate) kernel: &'a str,
    pub(crate) shape: Shape,
    pub(crate) order: u32,
    /// Whether it may begin before the one ahead of it has ended.
    pub(crate) overlaps: bool,
    pub(crate) arguments: &'a [Argument<'a>],
}

/// Runs them all to their end.
pub(crate) fn launch_all(launches: &[Launch<'_>]) -> Result<(), String> {
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let started = launches.iter().try_for_each(start);
    // SAFETY: no arguments; one thread at a time.
    let ended = unsafe { outcome(simplenet_emu_finish()) };
    drop(guard);
    started.and(ended)?;
    for launch in launches {
        for (index, argument) in launch.arguments.iter().enumerate() {
            if argument.array.is_some_and(Guarded::is_broken) {
                return Err(format!("{} wrote beside the array of argument {index}", launch.kernel));
            }
        }
    }
    Ok(())
}

fn start(launch: &Launch<'_>) -> Result<(), String> {
    let Launch { shape, arguments, .. } = launch;
    let mut signature = String::new();
    let mut values = Vec::new();
    for argument in *arguments {
        let bytes = &argument.bytes;
        signature += &format!("{}{} ", argument.kind, bytes.len());
        // Eight-byte words, so that every value is aligned.
        let mut words = vec![0_u64; bytes.len().div_ceil(8)];
        for (at, byte) in bytes.iter().enumerate() {
            words[at / 8] |= u64::from(*byte) << (at % 8 * 8);
        }
        values.push(words);
    }
    let pointers: Vec<*const c_void> = values.iter().map(|words| words.as_ptr().cast()).collect();
    let name = CString::new(launch.kernel).map_err(|error| error.to_string())?;
    let signature = CString::new(signature).map_err(|error| error.to_string())?;
    // SAFETY: both texts end in zero, `grid` and `block` have three numbers, and the emulator compares the signature with
    // the kernel's before it reads the values; one thread at a time.
    unsafe {
        outcome(simplenet_emu_launch(
            name.as_ptr(),
            signature.as_ptr(),
            shape.grid.as_ptr(),
            shape.block.as_ptr(),
            shape.shared,
            launch.order,
            launch.overlaps,
            pointers.as_ptr(),
        ))
    }
}

/// # Safety
///
/// `fault` is null or a text that ends in zero and stays until the next call.
unsafe fn outcome(fault: *const c_char) -> Result<(), String> {
    if fault.is_null() {
        return Ok(());
    }
    // SAFETY: promised by the caller.
    Err(unsafe { CStr::from_ptr(fault) }.to_string_lossy().into_owned())
}
