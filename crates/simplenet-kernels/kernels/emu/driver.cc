// An emulated GPU: libcuda.so.1, libcublas.so.13 and libcurand.so.10 in one, as far as this project calls them.
//
// With it, a program built for CUDA runs its device code on the host, through the same driver calls with the same arguments:
// scripts/emulated-gpu.sh makes it, and LD_LIBRARY_PATH puts it in the place of the real ones. It is for tests, so it is strict:
// - fresh memory holds NaN, and every allocation ends at a page that must not be touched;
// - a launch ends when a later call wants its results or the next launch has begun; one that fails on the emulator fails that
//   call, with the reason on standard error;
// - dynamic shared memory beyond 48 KiB must have been asked for;
// - while a launch list is captured, whatever would not be in it is an error, and nothing runs until the list is launched.
// SIMPLENET_EMULATED_CAPABILITY (default 9.0) is its compute capability, SIMPLENET_EMULATED_ORDER (default 2: random) the order
// of warps and lanes.
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <functional>
#include <vector>

#include "emulator.cc"

namespace {

// CUresult and cublasStatus_t, as far as they are used.
enum Result { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, NOT_FOUND = 500, LAUNCH_FAILED = 719, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901 };
enum Attribute { PROCESSORS = 16, CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76, SHARED_MEMORY = 97, MEMORY_POOLS = 115 };
constexpr int MAX_DYNAMIC_SHARED = 8;
constexpr size_t PAGE = 4096, MEMORY = size_t(4) << 30;

using Work = std::function<int()>;

struct Function {
    const emu::Kernel* kernel;
    size_t shared_limit = 48 * 1024;
};
struct Event {
    std::chrono::steady_clock::time_point when;
};

std::recursive_mutex lock;
std::map<uint64_t, std::pair<char*, size_t>> allocations;  // address to mapping
std::map<std::string, Function> functions;

// All work of a stream runs at once, or goes to the list that is being captured.
struct Stream {
    std::vector<Work>* captured = nullptr;
    bool spoilt = false;
};
Stream default_stream;
thread_local int captures_of_thread;
Stream& stream_of(void* handle) { return handle ? *static_cast<Stream*>(handle) : default_stream; }
struct Blas {
    Stream* stream = &default_stream;
    uint64_t workspace = 0;
    size_t workspace_bytes = 0;
};

long setting(const char* name, long otherwise) {
    const char* text = getenv(name);
    return text ? atol(text) : otherwise;
}

int say(int result, const char* what) {
    fprintf(stderr, "emulated GPU: %s\n", what);
    return result;
}

int say_fault(const std::string& fault) { return fault.empty() ? SUCCESS : say(LAUNCH_FAILED, fault.c_str()); }
// Waits for all launches.
int synchronize() { return say_fault(emu::queue.finish()); }

// Runs now, or when the list under capture is launched.
int run(Stream& stream, Work work) {
    if (!stream.captured) return work();
    stream.captured->push_back(std::move(work));
    return SUCCESS;
}
// The same for what is no launch, and comes after all of those before it.
int run_alone(Stream& stream, Work work) {
    return run(stream, [work = std::move(work)] {
        const int result = synchronize();
        return result ? result : work();
    });
}

// For what cannot be captured, and comes after all launches.
#define NOT_IN_CAPTURE(handle)                                                \
    std::lock_guard guard(lock);                                              \
    if (stream_of(handle).captured) {                                         \
        stream_of(handle).spoilt = true;                                      \
        fprintf(stderr, "emulated GPU: %s during a capture\n", __func__);     \
        return CAPTURE_UNSUPPORTED;                                           \
    }                                                                         \
    if (const int result = synchronize()) return result;
#define MAY_BE_CAPTURED std::lock_guard guard(lock)

// Whether [address, address + bytes) lies in one allocation.
bool allocated(uint64_t address, size_t bytes) {
    auto after = allocations.upper_bound(address);
    if (after == allocations.begin()) return false;
    const auto& [first, mapping] = *std::prev(after);
    return address + bytes <= uint64_t(mapping.first + mapping.second - PAGE) && address >= first;
}

int allocate(uint64_t* address, size_t bytes) {
    if (bytes == 0) return say(INVALID_VALUE, "an allocation of no bytes");
    const size_t room = ((bytes + 15) / 16 * 16 + PAGE - 1) / PAGE * PAGE, whole = room + 2 * PAGE;
    char* pages = static_cast<char*>(mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (pages == MAP_FAILED) return OUT_OF_MEMORY;
    mprotect(pages, PAGE, PROT_NONE);
    mprotect(pages + PAGE + room, PAGE, PROT_NONE);
    // The driver gives multiples of 256. Kernels may rely on that, so the guard is up to 255 bytes away.
    *address = uint64_t(pages + PAGE + room - bytes) / 256 * 256;
    memset(reinterpret_cast<char*>(*address), 0xff, bytes);
    allocations[*address] = {pages, whole};
    return SUCCESS;
}

int release(uint64_t address) {
    auto found = allocations.find(address);
    if (found == allocations.end()) return say(INVALID_VALUE, "memory is freed that was not allocated");
    munmap(found->second.first, found->second.second);
    allocations.erase(found);
    return SUCCESS;
}

float read(const void* matrix, int type, size_t at, bool as_tf32 = false) {
    if (type == 0) {
        const float value = static_cast<const float*>(matrix)[at];
        return as_tf32 ? to_tf32(value) : value;
    }
    return __bfloat162float(static_cast<const __nv_bfloat16*>(matrix)[at]);
}

// c = alpha op(a) op(b) + beta c, by columns.
void multiply(bool transpose_a, bool transpose_b, int m, int n, int k, float alpha, const void* a, int type_a, int lda, const void* b,
              int type_b, int ldb, float beta, void* c, int type_c, int ldc, bool in_tf32) {
    std::vector<float> left(size_t(m) * k), column(k);
    for (int i = 0; i < m; ++i) {
        for (int l = 0; l < k; ++l) left[size_t(i) * k + l] = read(a, type_a, transpose_a ? size_t(i) * lda + l : size_t(l) * lda + i, in_tf32);
    }
    for (int j = 0; j < n; ++j) {
        for (int l = 0; l < k; ++l) column[l] = read(b, type_b, transpose_b ? size_t(l) * ldb + j : size_t(j) * ldb + l, in_tf32);
        for (int i = 0; i < m; ++i) {
            const float* row = &left[size_t(i) * k];
            float sums[8] = {};
            int l = 0;
            for (; l + 8 <= k; l += 8) {
                for (int lane = 0; lane < 8; ++lane) sums[lane] += row[l + lane] * column[l + lane];
            }
            for (; l < k; ++l) sums[0] += row[l] * column[l];
            float sum = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
            sum *= alpha;
            const size_t at = size_t(j) * ldc + i;
            if (beta != 0) sum += beta * read(c, type_c, at);
            if (type_c == 0) static_cast<float*>(c)[at] = sum;
            else static_cast<__nv_bfloat16*>(c)[at] = __float2bfloat16_rn(sum);
        }
    }
}

void* const HANDLE = reinterpret_cast<void*>(0x1000);
thread_local void* current_context;

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

// ------------------------------------------------------------------------------------------- device, context, stream

int cuInit(unsigned) { return SUCCESS; }
int cuDriverGetVersion(int* version) { return *version = 13000, SUCCESS; }
int cuGetErrorName(int error, const char** text) {
    static thread_local char name[32];
    snprintf(name, sizeof name, "CUDA_ERROR_%d", error);
    return *text = name, SUCCESS;
}
int cuGetErrorString(int, const char** text) { return *text = "see above", SUCCESS; }
int cuDeviceGetCount(int* count) { return *count = 1, SUCCESS; }
int cuDeviceGet(int* device, int ordinal) { return *device = 0, ordinal == 0 ? SUCCESS : INVALID_DEVICE; }
int cuDeviceGetName(char* name, int size, int) { return snprintf(name, size, "emulated GPU"), SUCCESS; }
int cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = MEMORY, SUCCESS; }
int cuDeviceGetAttribute(int* value, int attribute, int) {
    const char* capability = getenv("SIMPLENET_EMULATED_CAPABILITY");
    if (!capability) capability = "9.0";
    switch (attribute) {
    case PROCESSORS: *value = emu::PROCESSORS; break;
    case CAPABILITY_MAJOR: *value = atoi(capability); break;
    case CAPABILITY_MINOR: *value = strchr(capability, '.') ? atoi(strchr(capability, '.') + 1) : 0; break;
    case SHARED_MEMORY: *value = emu::MAX_SHARED; break;
    case MEMORY_POOLS: *value = 1; break;
    default: *value = 0;
    }
    return SUCCESS;
}
int cuDevicePrimaryCtxRetain(void** context, int) { return *context = HANDLE, SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
int cuCtxSetCurrent(void* context) { return current_context = context, SUCCESS; }
int cuCtxGetCurrent(void** context) { return *context = current_context, SUCCESS; }
int cuCtxGetDevice(int* device) { return *device = 0, SUCCESS; }
int cuCtxSynchronize() {
    std::lock_guard guard(lock);
    return synchronize();
}
int cuMemGetInfo_v2(size_t* unused, size_t* total) { return *unused = *total = MEMORY, SUCCESS; }
int cuStreamCreate(void** stream, unsigned) { return *stream = new Stream, SUCCESS; }
int cuStreamCreateWithPriority(void** stream, unsigned, int) { return *stream = new Stream, SUCCESS; }
int cuStreamDestroy_v2(void* stream) { return delete static_cast<Stream*>(stream), SUCCESS; }
int cuStreamWaitEvent(void*, void*, unsigned) { return SUCCESS; }
int cuStreamSynchronize(void* stream) {
    NOT_IN_CAPTURE(stream)
    return SUCCESS;
}
int cuStreamIsCapturing(void* stream, int* status) { return *status = stream_of(stream).captured ? 1 : 0, SUCCESS; }

// ------------------------------------------------------------------------------------------------------ launch lists

int cuStreamBeginCapture_v2(void* stream, int) {
    NOT_IN_CAPTURE(stream)
    stream_of(stream) = {new std::vector<Work>, false};
    ++captures_of_thread;
    return SUCCESS;
}
int cuStreamEndCapture(void* handle, void** graph) {
    std::lock_guard guard(lock);
    Stream& stream = stream_of(handle);
    if (!stream.captured) return INVALID_VALUE;
    const bool spoilt = stream.spoilt;
    *graph = spoilt ? nullptr : stream.captured;
    if (spoilt) delete stream.captured;
    stream = {};
    --captures_of_thread;
    return spoilt ? CAPTURE_INVALIDATED : SUCCESS;
}
int cuGraphInstantiateWithFlags(void** list, void* graph, unsigned long long) {
    return *list = new std::vector<Work>(*static_cast<std::vector<Work>*>(graph)), SUCCESS;
}
int cuGraphUpload(void*, void*) { return SUCCESS; }
int cuGraphLaunch(void* list, void* stream) {
    NOT_IN_CAPTURE(stream)
    for (const Work& work : *static_cast<std::vector<Work>*>(list)) {
        if (const int result = work()) return result;
    }
    return SUCCESS;
}
int cuGraphDestroy(void* graph) { return delete static_cast<std::vector<Work>*>(graph), SUCCESS; }
int cuGraphExecDestroy(void* list) { return delete static_cast<std::vector<Work>*>(list), SUCCESS; }

// ------------------------------------------------------------------------------------------------------------ memory

int cuMemAllocAsync(uint64_t* address, size_t bytes, void* stream) {
    NOT_IN_CAPTURE(stream)
    return allocate(address, bytes);
}
int cuMemAlloc_v2(uint64_t* address, size_t bytes) { return cuMemAllocAsync(address, bytes, nullptr); }
int cuMemFreeAsync(uint64_t address, void* stream) {
    NOT_IN_CAPTURE(stream)
    return release(address);
}
int cuMemFree_v2(uint64_t address) { return cuMemFreeAsync(address, nullptr); }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void* stream) {
    NOT_IN_CAPTURE(stream)
    if (!allocated(to, bytes)) return say(INVALID_VALUE, "a copy to the device outside an allocation");
    return memcpy(reinterpret_cast<void*>(to), from, bytes), SUCCESS;
}
int cuMemcpyHtoD_v2(uint64_t to, const void* from, size_t bytes) { return cuMemcpyHtoDAsync_v2(to, from, bytes, nullptr); }
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
    NOT_IN_CAPTURE(stream)
    if (!allocated(from, bytes)) return say(INVALID_VALUE, "a copy from the device outside an allocation");
    return memcpy(to, reinterpret_cast<void*>(from), bytes), SUCCESS;
}
int cuMemcpyDtoH_v2(void* to, uint64_t from, size_t bytes) { return cuMemcpyDtoHAsync_v2(to, from, bytes, nullptr); }
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void* stream) {
    MAY_BE_CAPTURED;
    if (!allocated(from, bytes) || !allocated(to, bytes)) return say(INVALID_VALUE, "a copy on the device outside an allocation");
    return run_alone(stream_of(stream), [=] { return memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes), SUCCESS; });
}
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void* stream) {
    MAY_BE_CAPTURED;
    if (!allocated(to, bytes)) return say(INVALID_VALUE, "a fill outside an allocation");
    return run_alone(stream_of(stream), [=] { return memset(reinterpret_cast<void*>(to), value, bytes), SUCCESS; });
}

// ------------------------------------------------------------------------------------------------------------ events

int cuEventCreate(void** event, unsigned) { return *event = new Event, SUCCESS; }
int cuEventDestroy_v2(void* event) { return delete static_cast<Event*>(event), SUCCESS; }
int cuEventRecord(void* event, void* stream) {
    MAY_BE_CAPTURED;
    const int result = stream_of(stream).captured ? SUCCESS : synchronize();
    return static_cast<Event*>(event)->when = std::chrono::steady_clock::now(), result;
}
int cuEventSynchronize(void*) { return SUCCESS; }
int cuEventQuery(void*) { return SUCCESS; }
int cuEventElapsedTime_v2(float* milliseconds, void* from, void* to) {
    const std::chrono::duration<float, std::milli> time = static_cast<Event*>(to)->when - static_cast<Event*>(from)->when;
    return *milliseconds = time.count(), SUCCESS;
}

// ----------------------------------------------------------------------------------------------------------- kernels

int cuModuleLoadData(void** module, const void*) {
    // It allocates, which a thread that captures may not do.
    if (captures_of_thread) return say(CAPTURE_UNSUPPORTED, "a module is loaded during a capture");
    return *module = HANDLE, SUCCESS;
}
int cuModuleUnload(void*) { return SUCCESS; }
int cuModuleGetFunction(void** function, void*, const char* name) {
    std::lock_guard guard(lock);
    for (const emu::Kernel& kernel : KERNELS) {
        if (strcmp(kernel.name, name) != 0) continue;
        Function& known = functions[name];
        known.kernel = &kernel;
        return *function = &known, SUCCESS;
    }
    return NOT_FOUND;
}
int cuFuncSetAttribute(void* function, int attribute, int value) {
    std::lock_guard guard(lock);
    if (attribute != MAX_DYNAMIC_SHARED) return SUCCESS;
    if (value < 0 || size_t(value) > emu::MAX_SHARED) return say(INVALID_VALUE, "more dynamic shared memory than there is");
    return static_cast<Function*>(function)->shared_limit = size_t(value), SUCCESS;
}
int launch_kernel(void* function, const unsigned (&grid)[3], const unsigned (&block)[3], unsigned shared, void* stream, bool overlaps,
                  void** parameters) {
    MAY_BE_CAPTURED;
    const Function& known = *static_cast<Function*>(function);
    if (shared > known.shared_limit) return say(INVALID_VALUE, "more dynamic shared memory than was asked for");
    char signature[256] = "";
    known.kernel->signature(signature);
    const emu::Shape shape{{grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared, overlaps};
    const auto order = unsigned(setting("SIMPLENET_EMULATED_ORDER", 2));
    const emu::Launch launch(*known.kernel, signature, shape, order, parameters);
    return run(stream_of(stream), [launch] { return say_fault(emu::queue.add(std::make_unique<emu::Launch>(launch))); });
}
int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                   void* stream, void** parameters, void**) {
    return launch_kernel(function, {x, y, z}, {block_x, block_y, block_z}, shared, stream, false, parameters);
}
// As CUDA lays them out.
struct LaunchAttribute {
    int id;
    char padding[4];
    union {
        char bytes[64];
        int allowed;
    };
};
struct LaunchConfig {
    unsigned grid[3], block[3], shared;
    void* stream;
    const LaunchAttribute* attributes;
    unsigned count;
};
int cuLaunchKernelEx(const LaunchConfig* config, void* function, void** parameters, void**) {
    const int PROGRAMMATIC_STREAM_SERIALIZATION = 6;
    bool overlaps = false;
    for (unsigned i = 0; i < config->count; ++i) {
        const LaunchAttribute& attribute = config->attributes[i];
        if (attribute.id != PROGRAMMATIC_STREAM_SERIALIZATION) return say(INVALID_VALUE, "a launch attribute that is not emulated");
        overlaps = attribute.allowed != 0;
    }
    return launch_kernel(function, config->grid, config->block, config->shared, config->stream, overlaps, parameters);
}

// --------------------------------------------------------------------------------------------------- cuBLAS and cuRAND

int cublasCreate_v2(void** handle) { return *handle = new Blas, SUCCESS; }
int cublasDestroy_v2(void* handle) { return delete static_cast<Blas*>(handle), SUCCESS; }
int cublasSetStream_v2(void* handle, void* stream) { return static_cast<Blas*>(handle)->stream = &stream_of(stream), SUCCESS; }
int cublasSetWorkspace_v2(void* handle, void* workspace, size_t bytes) {
    auto& blas = *static_cast<Blas*>(handle);
    return blas.workspace = uint64_t(workspace), blas.workspace_bytes = bytes, SUCCESS;
}
int cublasSetMathMode(void*, int) { return SUCCESS; }
int cublasGemmEx(void* handle, int transpose_a, int transpose_b, int m, int n, int k, const void* alpha, const void* a, int type_a, int lda,
                 const void* b, int type_b, int ldb, const void* beta, void* c, int type_c, int ldc, int compute, int) {
    MAY_BE_CAPTURED;
    const int FLOAT = 0, BF16 = 14, IN_F32 = 68, IN_TF32 = 77;
    const auto bytes = [](int type) { return size_t(type == 0 ? 4 : 2); };
    const auto extent = [&](int columns, int pitch, int rows, int type) { return (size_t(columns - 1) * pitch + rows) * bytes(type); };
    for (const int type : {type_a, type_b, type_c}) {
        if (type != FLOAT && type != BF16) return say(15, "a product of another type than f32 and bf16");
    }
    // What cuBLAS documents of these types and no more, though it may take others.
    const bool is_documented = type_a == type_b && (type_a == FLOAT ? type_c == FLOAT && (compute == IN_F32 || compute == IN_TF32) : compute == IN_F32);
    if (!is_documented) return say(15, "a product of types that cuBLAS does not document together");
    if (m <= 0 || n <= 0 || k <= 0 || lda < (transpose_a ? k : m) || ldb < (transpose_b ? n : k) || ldc < m) return say(7, "a product whose pitches do not fit");
    if (!allocated(uint64_t(a), extent(transpose_a ? m : k, lda, transpose_a ? k : m, type_a)) ||
        !allocated(uint64_t(b), extent(transpose_b ? k : n, ldb, transpose_b ? n : k, type_b)) ||
        !allocated(uint64_t(c), extent(n, ldc, m, type_c))) {
        return say(7, "a product reaches outside its matrices");
    }
    const float by = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
    const auto [stream, workspace, workspace_bytes] = *static_cast<Blas*>(handle);
    return run_alone(*stream, [=, workspace = workspace, workspace_bytes = workspace_bytes] {
        if (workspace && !allocated(workspace, workspace_bytes)) return say(LAUNCH_FAILED, "the workspace of a product has been freed");
        multiply(transpose_a, transpose_b, m, n, k, by, a, type_a, lda, b, type_b, ldb, keep, c, type_c, ldc, compute == IN_TF32);
        return int(SUCCESS);
    });
}
int curandCreateGenerator(void** generator, int) { return *generator = HANDLE, SUCCESS; }
int curandDestroyGenerator(void*) { return SUCCESS; }
int curandSetStream(void*, void*) { return SUCCESS; }
int curandSetPseudoRandomGeneratorSeed(void*, unsigned long long) { return SUCCESS; }

}  // extern "C"
