// CUDA C++ on the host, for tests: every thread a fibre, with the scheduler as adversary.
//
// What CUDA leaves open, the emulator decides against the program:
// - A warp runs alone until it can go no further (orders FORWARD and BACKWARD) or warps alternate at random; within a warp
//   the lanes run one after the other between collectives. So a missing barrier shows as a result that is wrong or that
//   differs between orders.
// - Shared memory holds NaN and -1 (all bits set) when a block begins.
// - Blocks run one after the other, each as far as it can: one that waits for others gives way to them, and no more than
//   PROCESSORS are under way. Blocks that wait for what never comes are an error.
// - A launch that may overlap has begun, on as many blocks as there are processors, before the two ahead of it do
//   anything but begin; so what it reads too early is old, and what it writes too early is overwritten or read.
// - An asynchronous copy spoils its target when it is issued and writes the data when it is waited for. Matrix products of
//   warpgroups happen when they are waited for, in BACKWARD when they are issued.
// - Each array ends at a page that must not be touched; static arrays are checked by the compiler's sanitizers, which trap.
//   Both end the launch with an error that names kernel, block and thread.
// Not shown: instruction-level races inside a warp, weak memory order between blocks, registers, occupancy, speed.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>

#include <signal.h>
#include <sys/mman.h>

#ifndef __x86_64__
#error "the kernel emulator switches stacks in x86-64 assembly"
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __constant__ static
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define DYNAMIC_SHARED(type, name) type* const name = reinterpret_cast<type*>(emu::dynamic_shared)
#define __shared__ static __attribute__((section("emu_shared")))

// ------------------------------------------------------------------------------------------------------------- types

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
using uint3 = dim3;
#define EMU_VECTOR(type, name, bytes2, bytes4)                                                                            \
    struct alignas(bytes2) name##2 { type x, y; };                                                                        \
    struct name##3 { type x, y, z; };                                                                                     \
    struct alignas(bytes4) name##4 { type x, y, z, w; };                                                                  \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }                                                      \
    inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }                                           \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
EMU_VECTOR(float, float, 8, 16)
EMU_VECTOR(int, int, 8, 16)
#undef EMU_VECTOR
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) double2 { double x, y; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }

template <typename To, typename From> inline To emu_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "bits of one size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
inline int __float_as_int(float x) { return emu_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return emu_bits<unsigned>(x); }
inline float __int_as_float(int x) { return emu_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return emu_bits<float>(x); }

struct __nv_bfloat16 {
    uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};
inline float __bfloat162float(__nv_bfloat16 x) { return __uint_as_float(uint32_t(x.bits) << 16); }
// To nearest, ties to even; every NaN becomes 0x7fff as on the device.
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    if (x != x) return {0x7fff};
    const uint32_t bits = __float_as_uint(x);
    return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
inline __nv_bfloat16 __float2bfloat16(float x) { return __float2bfloat16_rn(x); }
inline __nv_bfloat162 __floats2bfloat162_rn(float low, float high) { return {__float2bfloat16_rn(low), __float2bfloat16_rn(high)}; }
inline float2 __bfloat1622float2(__nv_bfloat162 x) { return {__bfloat162float(x.x), __bfloat162float(x.y)}; }
inline float __low2float(__nv_bfloat162 x) { return __bfloat162float(x.x); }
inline float __high2float(__nv_bfloat162 x) { return __bfloat162float(x.y); }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return {bits}; }

// -------------------------------------------------------------------------------------------------------- the machine

namespace emu {

enum Order : unsigned { FORWARD = 0, BACKWARD = 1 };  // and any larger number: random with that seed
enum Wait { RUNS, AT_WARP, AT_BLOCK, AT_LAUNCH, SPINS, ENDED };
constexpr unsigned WARP = 32, MAX_THREADS = 1024, MAX_SHARED = 227 * 1024;
constexpr unsigned PROCESSORS = 6;
constexpr size_t STACK = 128 * 1024;

struct Place {
    const char* file;
    int line;
};

// What the lanes of a group do together once all of them have arrived: `operands[lane]` for the lanes of `mask`.
using Meaning = void (*)(void* const* operands, unsigned mask);

struct Copy {
    char* to;
    const char* from;  // null: `values`
    char values[16];
};
struct Product {
    float* sums;
    uint64_t a, b;
    void (*multiply)(const Product&, unsigned thread);
};
// Operations under way: those of finished groups in order, then those of the group being filled.
template <typename Operation> struct Groups {
    static constexpr unsigned LIMIT = 256;
    Operation operations[LIMIT];
    unsigned count, ends[LIMIT], groups;
};

struct Thread {
    void* stack_pointer;
    char* stack;
    uint3 index;
    unsigned number;
    Wait wait;
    Meaning meaning;
    unsigned mask;
    void* operands;
    Place place;
    bool has_waited;  // for the launch before
    Groups<Copy>* copies;
    Groups<Product>* products;
};

inline Thread* threads;  // of the block that runs
inline Thread* current;
inline unsigned thread_count;
inline dim3 grid_size, block_size, block;
inline unsigned order;
inline uint64_t random_state;
inline char* dynamic_shared;
inline size_t dynamic_bytes;
inline void* scheduler;
inline const char* kernel_name;
inline char message[512];
inline bool failed;
inline int votes, block_votes;
inline bool launch_before_runs;
// Grows when something happens that others may wait for.
inline uint64_t progress;

extern "C" char __start_emu_shared[], __stop_emu_shared[];
extern "C" void emu_switch(void** save, void* load);

inline unsigned random_below(unsigned bound) {
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return unsigned(random_state >> 32) % bound;
}

inline void to_scheduler() { emu_switch(&current->stack_pointer, scheduler); }

// The launch has failed, by this doing of `current`. Said by the scheduler, which then ends the launch.
__attribute__((format(printf, 1, 2))) inline void report(const char* format, ...) {
    char what[320];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    const uint3& t = current->index;
    snprintf(message, sizeof message, "%s, block (%u, %u, %u), thread (%u, %u, %u): %s", kernel_name, block.x, block.y,
             block.z, t.x, t.y, t.z, what);
    failed = true;
}
// The same, said by the thread itself, which goes no further.
template <typename... Values> [[noreturn]] inline void fail(const char* format, Values... values) {
    report(format, values...);
    to_scheduler();
    abort();
}

inline bool is_shared(const void* address, size_t bytes) {
    const char* at = static_cast<const char*>(address);
    return (at >= __start_emu_shared && at + bytes <= __stop_emu_shared) ||
           (at >= dynamic_shared && at + bytes <= dynamic_shared + dynamic_bytes);
}

inline void collective(Meaning meaning, unsigned mask, void* operands, Place place) {
    Thread* self = current;
    if (!(mask >> self->number % WARP & 1)) fail("calls a collective whose mask %08x leaves it out (%s:%d)", mask, place.file, place.line);
    self->wait = AT_WARP, self->meaning = meaning, self->mask = mask, self->operands = operands, self->place = place;
    to_scheduler();
}

inline void wait(Wait wait, Place place) {
    current->wait = wait, current->place = place;
    to_scheduler();
}
inline void barrier(Place place) { emu::wait(AT_BLOCK, place); }

// ------------------------------------------------------------------------------------- copies and products under way

template <typename Operation> inline Groups<Operation>& groups_of(Groups<Operation>*& groups) {
    if (!groups) groups = static_cast<Groups<Operation>*>(calloc(1, sizeof *groups));
    return *groups;
}
template <typename Operation> inline void issue(Groups<Operation>& groups, const Operation& operation) {
    if (groups.count == groups.LIMIT) fail("more than %u asynchronous operations under way", groups.LIMIT);
    groups.operations[groups.count++] = operation;
}
template <typename Operation> inline void commit(Groups<Operation>& groups) {
    if (groups.groups == groups.LIMIT) fail("more than %u groups under way", groups.LIMIT);
    groups.ends[groups.groups++] = groups.count;
}
// Carries out the oldest groups until `left` of them remain.
template <typename Operation, typename Carry> inline void wait_for(Groups<Operation>& groups, unsigned left, Carry carry_out) {
    if (groups.groups <= left) return;
    const unsigned finished = groups.groups - left, end = groups.ends[finished - 1];
    for (unsigned i = 0; i < end; ++i) carry_out(groups.operations[i]);
    for (unsigned i = end; i < groups.count; ++i) groups.operations[i - end] = groups.operations[i];
    for (unsigned i = finished; i < groups.groups; ++i) groups.ends[i - finished] = groups.ends[i] - end;
    groups.count -= end, groups.groups = left;
}

}  // namespace emu

#define threadIdx (emu::current->index)
#define blockIdx (emu::block)
#define blockDim (emu::block_size)
#define gridDim (emu::grid_size)
constexpr int warpSize = emu::WARP;
#define EMU_HERE const char* file = __builtin_FILE(), int line = __builtin_LINE()

// ------------------------------------------------------------------------------------------- barriers and collectives

inline void __syncthreads(EMU_HERE) { emu::barrier({file, line}); }
inline int __syncthreads_count(int predicate, EMU_HERE) {
    emu::votes += predicate != 0;
    emu::barrier({file, line});
    return emu::block_votes;
}
inline int __syncthreads_or(int predicate, EMU_HERE) { return __syncthreads_count(predicate, file, line) != 0; }
inline int __syncthreads_and(int predicate, EMU_HERE) { return __syncthreads_count(!predicate, file, line) == 0; }
inline void __threadfence() {}
inline void __threadfence_block() {}

inline void __syncwarp(unsigned mask = ~0u, EMU_HERE) {
    emu::collective([](void* const*, unsigned) {}, mask, nullptr, {file, line});
}

namespace emu {
template <typename T> struct Shuffle {
    T value, result;
    unsigned source;
    bool own;
};
template <typename T> inline T shuffle(unsigned mask, T value, unsigned source, bool own, Place place) {
    Shuffle<T> operands{value, value, source % WARP, own};
    collective(
        [](void* const* all, unsigned present) {
            for (unsigned lane = 0; lane < WARP; ++lane) {
                if (!(present >> lane & 1)) continue;
                auto* to = static_cast<Shuffle<T>*>(all[lane]);
                if (to->own) continue;
                if (present >> to->source & 1) {
                    to->result = static_cast<Shuffle<T>*>(all[to->source])->value;
                } else {
                    memset(static_cast<void*>(&to->result), 0xff, sizeof to->result);  // undefined on the device
                }
            }
        },
        mask, &operands, place);
    return operands.result;
}
inline unsigned lane() { return current->number % WARP; }
}  // namespace emu

template <typename T> inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMU_HERE) {
    const unsigned first = emu::lane() & ~unsigned(width - 1);
    return emu::shuffle(mask, value, first + (unsigned(source) & unsigned(width - 1)), false, {file, line});
}
template <typename T> inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, EMU_HERE) {
    const unsigned source = emu::lane() ^ unsigned(lanes), end = (emu::lane() & ~unsigned(width - 1)) + width;
    return emu::shuffle(mask, value, source, source >= end, {file, line});
}
template <typename T> inline T __shfl_down_sync(unsigned mask, T value, unsigned lanes, int width = 32, EMU_HERE) {
    const unsigned source = emu::lane() + lanes, end = (emu::lane() & ~unsigned(width - 1)) + width;
    return emu::shuffle(mask, value, source, source >= end, {file, line});
}
template <typename T> inline T __shfl_up_sync(unsigned mask, T value, unsigned lanes, int width = 32, EMU_HERE) {
    const unsigned first = emu::lane() & ~unsigned(width - 1);
    return emu::shuffle(mask, value, emu::lane() - lanes, emu::lane() < first + lanes, {file, line});
}
inline unsigned __ballot_sync(unsigned mask, int predicate, EMU_HERE) {
    struct Vote {
        int predicate;
        unsigned result;
    } operands{predicate, 0};
    emu::collective(
        [](void* const* all, unsigned present) {
            unsigned result = 0;
            for (unsigned lane = 0; lane < emu::WARP; ++lane) {
                if (present >> lane & 1 && static_cast<Vote*>(all[lane])->predicate) result |= 1u << lane;
            }
            for (unsigned lane = 0; lane < emu::WARP; ++lane) {
                if (present >> lane & 1) static_cast<Vote*>(all[lane])->result = result;
            }
        },
        mask, &operands, {file, line});
    return operands.result;
}
inline int __any_sync(unsigned mask, int predicate, EMU_HERE) { return __ballot_sync(mask, predicate, file, line) != 0; }
inline int __all_sync(unsigned mask, int predicate, EMU_HERE) { return __ballot_sync(mask, !predicate, file, line) == 0; }

template <typename T> inline T emu_atomic(T* at, T value) {
    const T old = *at;
    *at = value;
    ++emu::progress;
    return old;
}
template <typename T> inline T atomicAdd(T* at, T value) { return emu_atomic(at, T(*at + value)); }
template <typename T> inline T atomicMax(T* at, T value) { return emu_atomic(at, value > *at ? value : *at); }
template <typename T> inline T atomicMin(T* at, T value) { return emu_atomic(at, value < *at ? value : *at); }
template <typename T> inline T atomicExch(T* at, T value) { return emu_atomic(at, value); }
template <typename T> inline T atomicOr(T* at, T value) { return emu_atomic(at, T(*at | value)); }
template <typename T> inline T atomicCAS(T* at, T expected, T value) { return emu_atomic(at, *at == expected ? value : *at); }
template <typename T> inline T atomicInc(T* at, T limit) { return emu_atomic(at, *at >= limit ? T(0) : T(*at + 1)); }

// ------------------------------------------------------------------------------------------------ launches and blocks

inline void wait_for_launch_before(EMU_HERE) {
    if (emu::launch_before_runs) emu::wait(emu::AT_LAUNCH, {file, line});
    emu::current->has_waited = true;
}
inline void let_next_launch_begin() {}
[[noreturn]] inline void __trap() { __builtin_trap(); }
inline void let_other_blocks_run(EMU_HERE) { emu::wait(emu::SPINS, {file, line}); }

// --------------------------------------------------------------------------------------- copies and matrix instructions

inline void cp_async16(void* shared, const void* global, bool valid) {
    if (!emu::is_shared(shared, 16)) emu::fail("cp_async16 to an address outside shared memory");
    if (uintptr_t(shared) % 16 || uintptr_t(global) % 16) emu::fail("cp_async16 between addresses that are not multiples of 16");
    memset(shared, 0xff, 16);
    if (valid) (void)*static_cast<const volatile char*>(global);  // fails here rather than at the wait
    emu::Copy copy{static_cast<char*>(shared), static_cast<const char*>(global), {}};
    // The hardware may read at any time until the wait, so here it reads early what must not be read early.
    if (valid && emu::launch_before_runs) memcpy(copy.values, global, 16);
    if (!valid || emu::launch_before_runs) copy.from = nullptr;
    emu::issue(emu::groups_of(emu::current->copies), copy);
}
inline void cp_async16_cached(void* shared, const void* global, bool valid) { cp_async16(shared, global, valid); }
inline void cp_async_commit() { emu::commit(emu::groups_of(emu::current->copies)); }
template <int N> inline void cp_async_wait() {
    emu::wait_for(emu::groups_of(emu::current->copies), N, [](const emu::Copy& copy) {
        memcpy(copy.to, copy.from ? copy.from : copy.values, 16);
    });
}

namespace emu {
struct LoadMatrix {
    const void* row;
    uint32_t* out;
};
struct Multiply {
    float* d;
    const uint32_t *a, *b;
};
inline float half_of(uint32_t word, int upper) { return __uint_as_float(upper ? word & 0xffff0000u : word << 16); }
// What a matrix unit makes of a factor in TF32: it does not see the last 13 bits.
inline float seen_as_tf32(uint32_t word) { return __uint_as_float(word & 0xffffe000u); }
inline bool whole_warp(unsigned present) {
    if (present != ~0u) report("a matrix instruction without the whole warp: lanes %08x", present);
    return present == ~0u;
}
}  // namespace emu

// Lane 8 m + r names row r of matrix m; lane l receives elements (l / 4, 2 (l % 4)) and the next one of every matrix.
inline void ldmatrix_x4(uint32_t (&out)[4], const void* row, EMU_HERE) {
    if (!emu::is_shared(row, 16)) emu::fail("ldmatrix of a row outside shared memory (%s:%d)", file, line);
    if (uintptr_t(row) % 16) emu::fail("ldmatrix of a row whose address is not a multiple of 16 (%s:%d)", file, line);
    emu::LoadMatrix operands{row, out};
    emu::collective(
        [](void* const* all, unsigned present) {
            if (!emu::whole_warp(present)) return;
            for (int lane = 0; lane < 32; ++lane) {
                for (int matrix = 0; matrix < 4; ++matrix) {
                    const void* from = static_cast<emu::LoadMatrix*>(all[8 * matrix + lane / 4])->row;
                    memcpy(&static_cast<emu::LoadMatrix*>(all[lane])->out[matrix], static_cast<const char*>(from) + lane % 4 * 4, 4);
                }
            }
        },
        ~0u, &operands, {file, line});
}

// d [16, 8] += a [16, 16] b [16, 8]. With g = lane / 4 and t = 2 (lane % 4): word i of a holds row g + 8 (i % 2), columns
// t + 8 (i / 2) and the next; word i of b rows t + 8 i and the next of column g; d[i] row g + 8 (i / 2), column t + i % 2.
inline void mma_bf16_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], EMU_HERE) {
    emu::Multiply operands{d, a, b};
    emu::collective(
        [](void* const* all, unsigned present) {
            if (!emu::whole_warp(present)) return;
            float left[16][16], right[16][8];
            for (int lane = 0; lane < 32; ++lane) {
                const auto* from = static_cast<emu::Multiply*>(all[lane]);
                const int g = lane / 4, t = lane % 4 * 2;
                for (int next = 0; next < 2; ++next) {
                    for (int i = 0; i < 4; ++i) left[g + i % 2 * 8][t + i / 2 * 8 + next] = emu::half_of(from->a[i], next);
                    for (int i = 0; i < 2; ++i) right[t + i * 8 + next][g] = emu::half_of(from->b[i], next);
                }
            }
            for (int lane = 0; lane < 32; ++lane) {
                for (int i = 0; i < 4; ++i) {
                    const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
                    float sum = static_cast<emu::Multiply*>(all[lane])->d[i];
                    for (int k = 0; k < 16; ++k) sum += left[row][k] * right[k][column];
                    static_cast<emu::Multiply*>(all[lane])->d[i] = sum;
                }
            }
        },
        ~0u, &operands, {file, line});
}

// d [16, 8] += a [16, 8] b [8, 8] in TF32. With g = lane / 4 and t = lane % 4: word i of a holds row g + 8 (i % 2), column
// t + 4 (i / 2); word i of b row t + 4 i of column g; d as above.
inline void mma_tf32_m16n8k8(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], EMU_HERE) {
    emu::Multiply operands{d, a, b};
    emu::collective(
        [](void* const* all, unsigned present) {
            if (!emu::whole_warp(present)) return;
            float left[16][8], right[8][8];
            for (int lane = 0; lane < 32; ++lane) {
                const auto* from = static_cast<emu::Multiply*>(all[lane]);
                const int g = lane / 4, t = lane % 4;
                for (int i = 0; i < 4; ++i) left[g + i % 2 * 8][t + i / 2 * 4] = emu::seen_as_tf32(from->a[i]);
                for (int i = 0; i < 2; ++i) right[t + i * 4][g] = emu::seen_as_tf32(from->b[i]);
            }
            for (int lane = 0; lane < 32; ++lane) {
                for (int i = 0; i < 4; ++i) {
                    const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
                    float sum = static_cast<emu::Multiply*>(all[lane])->d[i];
                    for (int k = 0; k < 8; ++k) sum += left[row][k] * right[k][column];
                    static_cast<emu::Multiply*>(all[lane])->d[i] = sum;
                }
            }
        },
        ~0u, &operands, {file, line});
}

// -------------------------------------------------------------------------------------------------------- arithmetic

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float rsqrtf(float a) { return 1.0f / sqrtf(a); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float a) { return expf(a); }
inline float __logf(float a) { return logf(a); }
inline float __log2f(float a) { return log2f(a); }
inline float __sinf(float a) { return sinf(a); }
inline float __cosf(float a) { return cosf(a); }
inline float __powf(float a, float b) { return powf(a, b); }
inline float sinpif(float a) { return float(sin(M_PI * double(a))); }
inline float cospif(float a) { return float(cos(M_PI * double(a))); }
inline void sincospif(float a, float* sine, float* cosine) { *sine = sinpif(a), *cosine = cospif(a); }
inline void __sincosf(float a, float* sine, float* cosine) { *sine = sinf(a), *cosine = cosf(a); }
inline float __saturatef(float a) { return a > 0 ? a < 1 ? a : 1.0f : 0.0f; }
inline int __float2int_rn(float a) { return int(nearbyintf(a)); }
inline int __float2int_rd(float a) { return int(floorf(a)); }
inline int __float2int_rz(float a) { return int(a); }
inline float __int2float_rn(int a) { return float(a); }
inline float __uint2float_rn(unsigned a) { return float(a); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __ffs(int a) { return __builtin_ffs(a); }
inline int __clz(int a) { return a ? __builtin_clz(unsigned(a)) : 32; }
template <typename T> inline T __ldg(const T* at) { return *at; }
template <typename T> inline T __ldcs(const T* at) { return *at; }
template <typename T> inline void __stcs(T* at, T value) { *at = value; }
template <typename T> constexpr T min(T a, T b) { return b < a ? b : a; }
template <typename T> constexpr T max(T a, T b) { return a < b ? b : a; }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
using std::isfinite;
using std::isinf;
using std::isnan;
