//! A device, its memory, and how kernels get onto it.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use candle_core::cuda_backend::cudarc::cublas::{CudaBlas, sys as cublas};
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUdevice_attribute, CUevent_flags, CUfunction_attribute_enum, CUgraphInstantiate_flags, CUlaunchAttribute,
    CUlaunchAttributeID, CUlaunchAttributeValue, CUlaunchConfig, CUstream, CUstreamCaptureMode, cuLaunchKernelEx,
};
use candle_core::cuda_backend::cudarc::driver::{
    CudaEvent, CudaGraph, CudaSlice, CudaStream, DevicePtr, DeviceRepr, ValidAsZeroBits, result,
};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{Result, bail};
use half::bf16;

use super::module;

/// What cuBLAS may use for itself; its documentation asks for this much on Hopper.
const BLAS_WORKSPACE: usize = 32 << 20;

/// An NVIDIA GPU with one stream of work.
///
/// A copy is the same GPU with the same stream; [`Gpu::new`] makes another stream, whose work is in no order with this one's.
/// One thread at a time gives it work: what another one launches while a list is captured ([`Gpu::capture`]) would become part of
/// that list.
#[derive(Clone)]
pub struct Gpu {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    has_warpgroup_products: bool,
    processors: usize,
}

/// Memory that a cuBLAS handle works in: it must not allocate while a launch list is captured. candle's devices share the
/// handle of the [`Gpu`] they come from and may outlive it, so the memory is tied to the handle.
struct Workspace {
    handle: Weak<CudaBlas>,
    _memory: CudaSlice<u8>,
}

/// Those of all handles that live, and of some that no longer do.
static WORKSPACES: Mutex<Vec<Workspace>> = Mutex::new(Vec::new());

/// A type that device memory holds.
pub trait Element: DeviceRepr + ValidAsZeroBits + Copy + Default + Send + Sync + 'static {}

impl Element for f32 {}
impl Element for bf16 {}
impl Element for f64 {}
impl Element for i32 {}
impl Element for u64 {}
impl Element for u8 {}

/// Device memory of `len` values, freed when dropped.
///
/// Kernels write through shared references to it, as through a [`std::cell::Cell`]: all work runs in order on one stream,
/// so there is never a second writer.
pub struct Buffer<T> {
    /// One value where the buffer is empty: CUDA has no memory of no bytes.
    slice: CudaSlice<T>,
    len: usize,
}

/// A part of a [`Buffer`].
#[derive(Clone, Copy)]
pub struct Span<'a, T> {
    address: u64,
    len: usize,
    buffer: PhantomData<&'a Buffer<T>>,
}

/// A list of launches that starts as one. It knows the addresses of the memory that its launches use, and does not keep that
/// memory.
pub struct LaunchGraph {
    graph: CudaGraph,
    /// Products use the workspace of its cuBLAS handle.
    _gpu: Gpu,
}

// SAFETY: CUDA lets any thread use a graph, one at a time: the type is not `Sync`.
unsafe impl Send for LaunchGraph {}

/// A moment on the device's own clock.
pub struct Event {
    event: CudaEvent,
}

/// Blocks, threads per block, and bytes of shared memory that the launch adds to the kernel's own.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub(super) blocks: [usize; 3],
    pub(super) threads: [usize; 2],
    pub(super) shared: usize,
}

impl Grid {
    /// One thread for each of `count` values, 256 to a block.
    pub(super) fn over(count: usize) -> Grid {
        Grid::blocks([count.div_ceil(256), 1, 1], 256)
    }

    pub(super) fn blocks(blocks: [usize; 3], threads: usize) -> Grid {
        Grid {
            blocks,
            threads: [threads, 1],
            shared: 0,
        }
    }
}

/// An argument of a kernel, laid out as the kernel declares it.
///
/// # Safety
/// The address must be of a value that has the size and layout of the kernel's parameter.
pub(super) unsafe trait Argument {
    fn place(&self) -> *mut c_void;
}

macro_rules! arguments {
    ($($type:ty),*) => {
        $(
            // SAFETY: a plain value of the same size and layout in CUDA C++.
            unsafe impl Argument for $type {
                fn place(&self) -> *mut std::ffi::c_void {
                    std::ptr::from_ref(self).cast_mut().cast()
                }
            }
        )*
    };
}
pub(super) use arguments;
arguments!(i32, i64, u64, f32, f64);

// SAFETY: the place of the address, which is what a pointer parameter takes.
unsafe impl<T> Argument for Span<'_, T> {
    fn place(&self) -> *mut std::ffi::c_void {
        self.address.place()
    }
}

/// A null pointer, for parameters that may be missing.
pub(super) const NULL: u64 = 0;

impl Gpu {
    /// Opens GPU `ordinal`, counted from 0.
    ///
    /// # Errors
    /// Where there is no such GPU, no driver, or a GPU older than Ampere (compute capability 8.0).
    pub fn new(ordinal: usize) -> Result<Gpu> {
        let device = CudaDevice::new_with_stream(ordinal)?;
        // SAFETY: everything runs on one stream, so the order of calls is the order of accesses.
        unsafe { device.disable_event_tracking() };
        let gpu = Gpu::of(&device)?;
        // SAFETY: cuBLAS writes it before it reads it.
        let memory = unsafe { gpu.stream.alloc::<u8>(BLAS_WORKSPACE) }.w()?;
        let address = address_of(&memory, &gpu.stream);
        let handle = device.cublas_handle();
        // Before the handle knows the memory, so that nothing can come between.
        let mut workspaces = WORKSPACES.lock().unwrap_or_else(PoisonError::into_inner);
        workspaces.retain(|workspace| workspace.handle.strong_count() > 0);
        workspaces.push(Workspace {
            handle: Arc::downgrade(&handle),
            _memory: memory,
        });
        // SAFETY: the memory is as large as said, and `WORKSPACES` keeps it while the handle lives.
        let status = unsafe { cublas::cublasSetWorkspace_v2(*handle.handle(), address as *mut c_void, BLAS_WORKSPACE) };
        status.result().w()?;
        Ok(gpu)
    }

    /// A device of candle's, with its stream. Work that uses cuBLAS cannot be captured there ([`Gpu::capture`]).
    ///
    /// # Errors
    /// Where the GPU is older than Ampere (compute capability 8.0).
    pub fn of(device: &CudaDevice) -> Result<Gpu> {
        let stream = device.cuda_stream();
        let context = stream.context();
        let capability = context.compute_capability().w()?;
        if capability.0 < 8 {
            bail!(
                "the GPU has compute capability {}.{}, and the kernels need 8.0 (Ampere) or later",
                capability.0,
                capability.1
            );
        }
        let processors = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let processors = usize::try_from(context.attribute(processors).w()?).unwrap_or(1);
        Ok(Gpu {
            // Machine code for `sm_90a` runs on 9.0 alone.
            has_warpgroup_products: capability == (9, 0),
            processors,
            stream,
            device: device.clone(),
        })
    }

    /// The GPU's name, as the driver gives it.
    pub fn name(&self) -> Result<String> {
        self.stream.context().name().w()
    }

    /// Free and total memory in bytes.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.stream.context().mem_get_info().w()
    }

    /// Whether Hopper's warpgroup products can be used.
    pub fn has_warpgroup_products(&self) -> bool {
        self.has_warpgroup_products
    }

    /// Streaming multiprocessors.
    pub fn processors(&self) -> usize {
        self.processors
    }

    /// Whether the work of both runs in order, on one stream of one device. Memory of one must not be used by the other where it
    /// does not: nothing would wait for what wrote it.
    pub fn shares_stream(&self, other: &Gpu) -> bool {
        Arc::ptr_eq(&self.stream, &other.stream)
    }

    /// The device as candle knows it, with this one's stream and cuBLAS handle; a copy of it may outlive this `Gpu`.
    pub fn candle(&self) -> &CudaDevice {
        &self.device
    }

    /// `len` zeros.
    pub fn zeros<T: Element>(&self, len: usize) -> Result<Buffer<T>> {
        let slice = self.stream.alloc_zeros::<T>(len.max(1)).w()?;
        Ok(Buffer { slice, len })
    }

    /// A copy of host values.
    pub fn upload<T: Element>(&self, values: &[T]) -> Result<Buffer<T>> {
        let buffer = self.zeros(values.len())?;
        self.write(buffer.all(), values)?;
        Ok(buffer)
    }

    /// Copies host values into device memory; they may change as soon as this returns.
    ///
    /// # Errors
    /// Where the two differ in length.
    pub fn write<T: Element>(&self, to: Span<'_, T>, values: &[T]) -> Result<()> {
        if to.len != values.len() {
            bail!("{} values cannot go to device memory of {}", values.len(), to.len);
        }
        if values.is_empty() {
            return Ok(());
        }
        // SAFETY: the span is that long, and the copy is from pageable memory, which the driver reads before it returns.
        unsafe { result::memcpy_htod_async(to.address, values, self.queue()?) }.w()
    }

    /// Waits for all work before it and copies device memory to the host.
    pub fn download<T: Element>(&self, from: Span<'_, T>) -> Result<Vec<T>> {
        let mut values = vec![T::default(); from.len];
        if !values.is_empty() {
            // SAFETY: the vector is as long as the span.
            unsafe { result::memcpy_dtoh_async(&mut values, from.address, self.queue()?) }.w()?;
        }
        self.synchronize()?;
        Ok(values)
    }

    /// Copies device memory to device memory of the same length.
    pub fn copy<T: Element>(&self, to: Span<'_, T>, from: Span<'_, T>) -> Result<()> {
        if to.len != from.len {
            bail!("{} values cannot go to device memory of {}", from.len, to.len);
        }
        if from.is_empty() {
            return Ok(());
        }
        // SAFETY: both are that long.
        unsafe { result::memcpy_dtod_async(to.address, from.address, size_of::<T>() * to.len, self.queue()?) }.w()
    }

    /// Zeros device memory.
    pub fn clear<T: Element>(&self, span: Span<'_, T>) -> Result<()> {
        if span.is_empty() {
            return Ok(());
        }
        // SAFETY: the span is that long.
        unsafe { result::memset_d8_async(span.address, 0, size_of::<T>() * span.len, self.queue()?) }.w()
    }

    /// Waits for all work.
    pub fn synchronize(&self) -> Result<()> {
        self.stream.synchronize().w()
    }

    /// Marks a moment in the stream.
    pub fn record_event(&self) -> Result<Event> {
        let flags = CUevent_flags::CU_EVENT_DEFAULT;
        let event = self.stream.record_event(Some(flags)).w()?;
        Ok(Event { event })
    }

    /// What `work` launches, as a list to launch again. `work` must not allocate, upload or download.
    ///
    /// # Errors
    /// Those of `work`, or of CUDA.
    pub fn capture(&self, work: impl FnOnce() -> Result<()>) -> Result<LaunchGraph> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).w()?;
        let done = work();
        // Ends the capture also where the work failed, or the stream would stay unusable.
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0)).w();
        done?;
        match graph? {
            Some(graph) => Ok(LaunchGraph {
                graph,
                _gpu: self.clone(),
            }),
            None => bail!("the launch list is empty"),
        }
    }

    /// The stream as CUDA knows it, for calls from this thread.
    fn queue(&self) -> Result<CUstream> {
        self.stream.context().bind_to_thread().w()?;
        Ok(self.stream.cu_stream())
    }

    /// Launches kernel `name` of `kernels/<module>.cu`.
    ///
    /// The arguments must be those of the kernel, in number, type and order, and the memory they name as long as the kernel
    /// assumes: the typed functions of this module are the only callers, and check it.
    pub(super) fn launch(
        &self,
        module: &'static str,
        name: &'static str,
        grid: Grid,
        arguments: &[&dyn Argument],
    ) -> Result<()> {
        self.launch_after(false, module, name, grid, arguments)
    }

    /// The same for a kernel that calls `wait_for_launch_before` before it touches memory that a launch writes: where the
    /// device can, it begins while the launch before it still runs.
    pub(super) fn launch_overlapping(
        &self,
        module: &'static str,
        name: &'static str,
        grid: Grid,
        arguments: &[&dyn Argument],
    ) -> Result<()> {
        // Only the machine code for Hopper has that call.
        self.launch_after(self.has_warpgroup_products, module, name, grid, arguments)
    }

    fn launch_after(
        &self,
        overlaps: bool,
        module: &'static str,
        name: &'static str,
        grid: Grid,
        arguments: &[&dyn Argument],
    ) -> Result<()> {
        let [x, y, z] = grid.blocks;
        if x == 0 || y == 0 || z == 0 {
            return Ok(());
        }
        if x > i32::MAX as usize || y > 0xffff || z > 0xffff {
            bail!("`{name}` would need {x}×{y}×{z} blocks, more than a GPU takes in one launch");
        }
        let function = module::function(&self.device, module, name)?;
        if grid.shared > 48 << 10 {
            let limit = CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(limit, grid.shared as i32).w()?;
        }
        let mut places: Vec<*mut c_void> = arguments.iter().map(|argument| argument.place()).collect();
        let mut attribute = CUlaunchAttribute {
            id: CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: CUlaunchAttributeValue {
                programmaticStreamSerializationAllowed: 1,
            },
        };
        let config = CUlaunchConfig {
            gridDimX: x as u32,
            gridDimY: y as u32,
            gridDimZ: z as u32,
            blockDimX: grid.threads[0] as u32,
            blockDimY: grid.threads[1] as u32,
            blockDimZ: 1,
            sharedMemBytes: grid.shared as u32,
            hStream: self.queue()?,
            attrs: &raw mut attribute,
            numAttrs: u32::from(overlaps),
        };
        // SAFETY: see above; the arguments and the configuration outlive the call, which copies them.
        unsafe {
            cuLaunchKernelEx(
                &raw const config,
                function.cu_function(),
                places.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        }
        .result()
        .w()
    }
}

impl<T: Element> Buffer<T> {
    /// All of it.
    pub fn all(&self) -> Span<'_, T> {
        Span::of(&self.slice).range(0..self.len)
    }

    /// The values of `range`.
    ///
    /// # Panics
    /// Where it reaches beyond the buffer, as a slice would.
    pub fn range(&self, range: Range<usize>) -> Span<'_, T> {
        self.all().range(range)
    }

    /// The memory as candle and cudarc know it; of one value where the buffer is empty.
    pub fn into_slice(self) -> CudaSlice<T> {
        self.slice
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<'a, T: Element> Span<'a, T> {
    /// Memory that candle or cudarc allocated.
    pub fn of(slice: &'a CudaSlice<T>) -> Span<'a, T> {
        Span {
            address: address_of(slice, slice.stream()),
            len: slice.len(),
            buffer: PhantomData,
        }
    }

    /// The values of `range` of it.
    ///
    /// # Panics
    /// Where it reaches beyond the span.
    pub fn range(self, range: Range<usize>) -> Span<'a, T> {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} of {} values on the device",
            self.len
        );
        Span {
            address: self.address + (range.start * size_of::<T>()) as u64,
            len: range.len(),
            buffer: PhantomData,
        }
    }

    /// Number of values.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Where it lies on the device.
    pub(super) fn address(self) -> u64 {
        self.address
    }

    /// Refuses a span of another length, for the kernel's sake.
    pub(super) fn expect(self, what: &str, len: usize) -> Result<Span<'a, T>> {
        if self.len == len {
            return Ok(self);
        }
        bail!("{what} holds {} values on the device, expected {len}", self.len)
    }
}

impl LaunchGraph {
    /// Starts the list; does not wait.
    ///
    /// # Safety
    /// All device memory that `work` of [`Gpu::capture`] gave to a launch must still be allocated, and what the launches
    /// assume of its contents must hold ([`super::noise::gather`]).
    ///
    /// # Errors
    /// Where the device fails.
    pub unsafe fn launch(&self) -> Result<()> {
        self.graph.launch().w()
    }
}

impl Event {
    /// Milliseconds from this moment to a later one; waits for the later one.
    pub fn milliseconds_to(&self, later: &Event) -> Result<f64> {
        Ok(f64::from(self.event.elapsed_ms(&later.event).w()?))
    }
}

/// `value` as a kernel's `int`. The threads of a last block count up to 1023 further.
pub(super) fn int(what: &str, value: usize) -> Result<i32> {
    match i32::try_from(value) {
        Ok(value) if value <= i32::MAX - 1023 => Ok(value),
        _ => bail!("{what} is {value}, more than one launch can count"),
    }
}

/// Nothing waits here: event tracking is off, or candle's and on its one stream.
fn address_of<T>(slice: &CudaSlice<T>, stream: &CudaStream) -> u64 {
    slice.device_ptr(stream).0
}
