// Hopper's warpgroup matrix product: 128 threads multiply two tiles that lie in shared memory.
//
// A tile is [rows, 64] bf16 or [rows, 32] TF32 with its 128-byte rows swizzled: 16-byte piece p of row r lies at piece
// p ^ (r % 8) of that row, and the tile starts at a multiple of 1024 bytes. `swizzled` says where a piece is; the descriptor
// says the same to the hardware.
#pragma once

#include "common.cuh"

// Byte offset of 16-byte piece `piece` (0 to 7) of row `row` in a tile.
__device__ __forceinline__ int swizzled(int row, int piece) { return row * 128 + ((piece ^ (row & 7)) << 4); }

#if defined(SIMPLENET_EMU) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SIMPLENET_HAS_WGMMA 1
#else
#define SIMPLENET_HAS_WGMMA 0
#endif

#ifdef SIMPLENET_EMU
#include "emu/hopper_emu.h"
#elif SIMPLENET_HAS_WGMMA
// Swizzle of 128 bytes, groups of 8 rows 1024 bytes apart, k running along the rows.
__device__ __forceinline__ uint64_t tile_descriptor(const void* tile) {
    const uint64_t address = __cvta_generic_to_shared(tile);
    return (address & 0x3ffff) >> 4 | uint64_t(1) << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}
// The next step of k: 32 bytes on, 16 values in bf16 and 8 in TF32.
__device__ __forceinline__ uint64_t advance_k(uint64_t descriptor, int step) { return descriptor + 2 * step; }
// Between this thread's writes to accumulators and the products that add to them.
__device__ __forceinline__ void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> __device__ __forceinline__ void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
// Makes this thread's ordinary writes to shared memory visible to the matrix unit.
__device__ __forceinline__ void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Keeps the compiler from reading an accumulator before this point.
__device__ __forceinline__ void hold(float& accumulator) { asm volatile("" : "+f"(accumulator)::"memory"); }

// d [64, N] += a [64, k] b [N, k] transposed, with k = 16 in bf16 and 8 in TF32. Thread t of the warpgroup holds rows
// 16 (t / 32) + t % 32 / 4 and 8 more, columns 8 j + 2 (t % 4) and the next: d[4 j + 2 (8 more?) + next?].
template <int N> __device__ __forceinline__ void wgmma_bf16(float (&d)[N / 2], uint64_t a, uint64_t b);
template <int N> __device__ __forceinline__ void wgmma_tf32(float (&d)[N / 2], uint64_t a, uint64_t b);

// ORDER says along what the rows of 16-bit factors run; in TF32 it is always k.
#define WGMMA_64(NAME, FACTORS, ORDER) \
    template <> __device__ __forceinline__ void NAME<64>(float (&d)[32], uint64_t a, uint64_t b) { \
        asm volatile( \
            "wgmma.mma_async.sync.aligned.m64n64" FACTORS " " \
            "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
            "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, %32, %33, 1, 1, 1" ORDER ";" \
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), \
              "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), \
              "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), \
              "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]) \
            : "l"(a), "l"(b)); \
    }
#define WGMMA_128(NAME, FACTORS, ORDER) \
    template <> __device__ __forceinline__ void NAME<128>(float (&d)[64], uint64_t a, uint64_t b) { \
        asm volatile( \
            "wgmma.mma_async.sync.aligned.m64n128" FACTORS " " \
            "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
            "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
            "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
            "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, 1, 1, 1" ORDER ";" \
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), \
              "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), \
              "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), \
              "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), \
              "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), \
              "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), \
              "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), \
              "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]) \
            : "l"(a), "l"(b)); \
    }
WGMMA_64(wgmma_bf16, "k16.f32.bf16.bf16", ", 0, 0")
WGMMA_128(wgmma_bf16, "k16.f32.bf16.bf16", ", 0, 0")
WGMMA_64(wgmma_tf32, "k8.f32.tf32.tf32", "")
WGMMA_128(wgmma_tf32, "k8.f32.tf32.tf32", "")
#undef WGMMA_64
#undef WGMMA_128
#endif

// The matrix instructions for factors of type T; one step of k is 32 bytes of every row.
template <typename T> struct MatrixUnits;
template <> struct MatrixUnits<__nv_bfloat16> {
    __device__ __forceinline__ static void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
        mma_bf16_m16n8k16(d, a, b);
    }
#if SIMPLENET_HAS_WGMMA
    template <int N> __device__ __forceinline__ static void multiply_tiles(float (&d)[N / 2], uint64_t a, uint64_t b) {
        wgmma_bf16<N>(d, a, b);
    }
#endif
};
template <> struct MatrixUnits<Tf32> {
    __device__ __forceinline__ static void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
        mma_tf32_m16n8k8(d, a, b);
    }
#if SIMPLENET_HAS_WGMMA
    template <int N> __device__ __forceinline__ static void multiply_tiles(float (&d)[N / 2], uint64_t a, uint64_t b) {
        wgmma_tf32<N>(d, a, b);
    }
#endif
};
