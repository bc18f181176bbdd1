// What ../hopper.cuh is on the host.
#pragma once

#include "cuda_emu.h"

// Hopper's warpgroup product, d [64, N] += a [64, k] b [N, k] transposed, of tiles in shared memory whose 128-byte rows are
// swizzled; k is 16 in bf16 and 8 in TF32. Descriptors are addresses here. Each thread makes its own sums, when the hardware may
// do it at the latest.
inline uint64_t tile_descriptor(const void* tile) { return reinterpret_cast<uint64_t>(tile); }
inline uint64_t advance_k(uint64_t descriptor, int step) { return descriptor + 32 * step; }
// A factor as the matrix unit sees it.
inline float emu_factor(__nv_bfloat16 value) { return __bfloat162float(value); }
inline float emu_factor(uint32_t tf32) { return emu::seen_as_tf32(tf32); }
// The 32 bytes of k that the descriptor is at, of row `row`. The hardware swizzles address bits, which only a tile that
// starts at a multiple of 1024 bytes may rely on.
template <typename T> inline void tile_row(uint64_t descriptor, int row, float (&values)[32 / sizeof(T)]) {
    constexpr int PIECE = 16 / sizeof(T);
    for (int piece = 0; piece < 2; ++piece) {
        uint64_t at = descriptor + row / 8 * 1024 + row % 8 * 128 + piece * 16;
        at ^= (at >> 7 & 7) << 4;
        for (int i = 0; i < PIECE; ++i) values[PIECE * piece + i] = emu_factor(reinterpret_cast<const T*>(at)[i]);
    }
}
template <typename T, int N> inline void emu_multiply(const emu::Product& product, unsigned thread) {
    constexpr int DEPTH = 32 / sizeof(T);
    const int warp = thread % 128 / 32, lane = thread % 32;
    float left[2][DEPTH], right[DEPTH];
    for (int lower = 0; lower < 2; ++lower) tile_row<T>(product.a, 16 * warp + lane / 4 + 8 * lower, left[lower]);
    for (int pair = 0; pair < N / 8; ++pair) {
        for (int next = 0; next < 2; ++next) {
            tile_row<T>(product.b, 8 * pair + 2 * (lane % 4) + next, right);
            for (int lower = 0; lower < 2; ++lower) {
                float& sum = product.sums[4 * pair + 2 * lower + next];
                for (int k = 0; k < DEPTH; ++k) sum += left[lower][k] * right[k];
            }
        }
    }
}
template <typename T, int N> inline void emu_wgmma(float (&d)[N / 2], uint64_t a, uint64_t b) {
    if ((a & ~uint64_t(0x60)) % 1024 || (b & ~uint64_t(0x60)) % 1024) emu::fail("a tile of wgmma does not start at a multiple of 1024");
    const emu::Product product{d, a, b, emu_multiply<T, N>};
    if (emu::order == emu::BACKWARD) return product.multiply(product, emu::current->number);
    emu::issue(emu::groups_of(emu::current->products), product);
}
template <int N> inline void wgmma_bf16(float (&d)[N / 2], uint64_t a, uint64_t b) { emu_wgmma<__nv_bfloat16, N>(d, a, b); }
template <int N> inline void wgmma_tf32(float (&d)[N / 2], uint64_t a, uint64_t b) { emu_wgmma<uint32_t, N>(d, a, b); }
inline void wgmma_begin() {}
inline void wgmma_commit() { emu::commit(emu::groups_of(emu::current->products)); }
template <int N> inline void wgmma_wait() {
    emu::wait_for(emu::groups_of(emu::current->products), N,
                  [](const emu::Product& product) { product.multiply(product, emu::current->number); });
}
inline void fence_async_proxy() {}
// Keeps a sum from being moved over an instruction that uses it behind the compiler's back; no such danger here.
inline void hold(float&) {}
