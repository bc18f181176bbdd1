// What every kernel shares: element types, the hardware's asynchronous copies and matrix instructions, reductions.
//
// The same sources are compiled by nvcc for a GPU and, with SIMPLENET_EMU, by a host compiler against kernels/emu, where
// blocks and warps are emulated; the instructions below then have their meaning written out there.
#pragma once

#include <cstdint>

#ifdef SIMPLENET_EMU
#include "emu/cuda_emu.h"
#else
#include <cuda_bf16.h>
#include <cuda_runtime.h>
// The shared memory that the launch asks for.
#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(1024) type name[]
#endif

// Activation of a convolution, as simplenet_kernels::graph::Activation.
enum Activation : int { LINEAR = 0, RELU = 1, RELU6 = 2 };

// What an activation lets through.
struct Bounds {
    float low, high;

    __device__ __forceinline__ explicit Bounds(int activation)
        : low(activation == LINEAR ? -INFINITY : 0.0f), high(activation == RELU6 ? 6.0f : INFINITY) {}

    // NaN fails both comparisons and passes.
    __device__ __forceinline__ float operator()(float x) const {
        x = x < low ? low : x;
        return x > high ? high : x;
    }
};

// A value in TF32: an f32 of which 11 bits of significand are used, the leading one included. Storing one rounds it.
struct Tf32 {
    float value;
};

// To nearest, ties away from zero, as `cvt.rna.tf32.f32` does it: matrix units cut off the 13 bits that are left over, which
// would make every product smaller. Infinity stays what it is, and every NaN becomes the device's own.
// Rust's: simplenet_kernels::cuda::to_tf32.
__device__ __forceinline__ float to_tf32(float x) {
    return isnan(x) ? __uint_as_float(0x7fffffffu) : __uint_as_float((__float_as_uint(x) + 0x1000u) & 0xffffe000u);
}

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }

// Eight neighbouring values as floats; the pointer is aligned to all eight.
__device__ __forceinline__ void load8(const float* from, float (&to)[8]) {
    const float4 low = *reinterpret_cast<const float4*>(from), high = *reinterpret_cast<const float4*>(from + 4);
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}
__device__ __forceinline__ float upper_half(uint32_t word) { return __uint_as_float(word & 0xffff0000u); }
__device__ __forceinline__ float lower_half(uint32_t word) { return __uint_as_float(word << 16); }
// Eight bf16 values as floats.
__device__ __forceinline__ void unpack8(const uint4& words, float (&to)[8]) {
    to[0] = lower_half(words.x), to[1] = upper_half(words.x), to[2] = lower_half(words.y), to[3] = upper_half(words.y);
    to[4] = lower_half(words.z), to[5] = upper_half(words.z), to[6] = lower_half(words.w), to[7] = upper_half(words.w);
}
__device__ __forceinline__ void load8(const __nv_bfloat16* from, float (&to)[8]) {
    unpack8(*reinterpret_cast<const uint4*>(from), to);
}
__device__ __forceinline__ void load8(const Tf32* from, float (&to)[8]) { load8(&from->value, to); }
__device__ __forceinline__ uint32_t pack2(float low, float high) {
    return static_cast<uint32_t>(__bfloat16_as_ushort(__float2bfloat16_rn(low))) |
           static_cast<uint32_t>(__bfloat16_as_ushort(__float2bfloat16_rn(high))) << 16;
}
__device__ __forceinline__ void store8(float* to, const float (&from)[8]) {
    *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
    *reinterpret_cast<float4*>(to + 4) = make_float4(from[4], from[5], from[6], from[7]);
}
__device__ __forceinline__ void store8(__nv_bfloat16* to, const float (&from)[8]) {
    *reinterpret_cast<uint4*>(to) = make_uint4(pack2(from[0], from[1]), pack2(from[2], from[3]), pack2(from[4], from[5]),
                                               pack2(from[6], from[7]));
}
__device__ __forceinline__ void store8(Tf32* to, const float (&from)[8]) {
    float rounded[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) rounded[i] = to_tf32(from[i]);
    store8(&to->value, rounded);
}

// Where this block is in a grid that has one dimension in place of two, because the second may be longer than the 65535 of a
// grid: `x` of `across`, which runs fastest, and `y`.
__device__ __forceinline__ int2 block_of_two(unsigned across) {
    const unsigned y = blockIdx.x / across;
    return make_int2(int(blockIdx.x - y * across), int(y));
}

// Which warp of the grid this thread is in; a number of the thread itself would not fit where every row has a warp.
__device__ __forceinline__ int warp_of_grid() { return int(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32); }

// Sum over a warp; every lane gets it. The order is fixed.
template <typename T> __device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
}

#ifndef SIMPLENET_EMU
// A launch that overlaps (`Gpu::launch_overlapping`) begins while the one before it in the stream still runs, and returns from
// here when all that one wrote is there. Before that it touches no memory that a launch writes.
__device__ __forceinline__ void wait_for_launch_before() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// From when all blocks have said so, the next launch may begin.
__device__ __forceinline__ void let_next_launch_begin() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// In a loop that waits for other blocks.
__device__ __forceinline__ void let_other_blocks_run() {}

// 16 bytes from global to shared memory, behind the back of the registers; zeros where `valid` is not.
__device__ __forceinline__ void cp_async16(void* shared, const void* global, bool valid) {
    const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(valid ? 16 : 0));
}
// The same by way of the first cache, for what a block reads again soon.
__device__ __forceinline__ void cp_async16_cached(void* shared, const void* global, bool valid) {
    const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(valid ? 16 : 0));
}
// Ends a group of copies of this thread.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;"); }
// Until at most N groups of this thread are under way.
template <int N> __device__ __forceinline__ void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N)); }

// Four 8x8 matrices of 16-bit values: lane l gives the address of row l % 8 of matrix l / 8 and gets elements
// (l / 4, 2 (l % 4)) and the next one of each. Of 8x4 matrices of 32-bit values it gets element (l / 4, l % 4).
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&out)[4], const void* row) {
    const uint32_t from = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(from));
}
// d += a b with a 16x16 by rows, b 16x8 by columns.
__device__ __forceinline__ void mma_bf16_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// d += a b with a 16x8 by rows, b 8x8 by columns.
__device__ __forceinline__ void mma_tf32_m16n8k8(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

// Looks at a count before a launch that waits for it fails: some seconds, where a meeting takes microseconds.
constexpr int MOST_LOOKS = 1 << 24;

// Waits until all `blocks` blocks that count `arrivals` have come here, and sees what they wrote. They run side by side, because
// a grid that meets has no more blocks than there are processors, and a device has one stream of work. Where a program has made
// it two, the blocks of one grid can keep those of another from ever running: then the launch fails, and does not wait for ever.
__device__ __forceinline__ void meet(int* arrivals, int blocks) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        atomicAdd(arrivals, 1);
        for (int looks = 0; *reinterpret_cast<volatile int*>(arrivals) < blocks; ++looks) {
            if (looks == MOST_LOOKS) __trap();
            let_other_blocks_run();
        }
        __threadfence();
        // The last one to leave makes the count ready for the next launch.
        if (atomicAdd(arrivals, 1) == 2 * blocks - 1) *arrivals = 0;
    }
    __syncthreads();
}
