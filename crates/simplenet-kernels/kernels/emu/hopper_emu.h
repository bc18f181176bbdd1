// What ../hopper.cuh is on the host.
#pragma once

#include "cuda_emu.h"

// Hopper's warpgroup product, d [64, N] += a [64, 16] b [N, 16] transposed, of tiles in shared memory whose 128-byte rows are
// swizzled. Descriptors are addresses here. Each thread makes its own sums, when the hardware may do it at the latest.
inline uint64_t tile_descriptor(const void* tile) { return reinterpret_cast<uint64_t>(tile); }
inline uint64_t advance_k16(uint64_t descriptor, int step) { return descriptor + 32 * step; }
// The 16 values of k that the descriptor is at, of row `row`. The hardware swizzles address bits, which only a tile that
// starts at a multiple of 1024 bytes may rely on.
inline void tile_row(uint64_t descriptor, int row, float (&values)[16]) {
    for (int piece = 0; piece < 2; ++piece) {
        uint64_t at = descriptor + row / 8 * 1024 + row % 8 * 128 + piece * 16;
        at ^= (at >> 7 & 7) << 4;
        for (int i = 0; i < 8; ++i) values[8 * piece + i] = __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(at)[i]);
    }
}
template <int N> inline void emu_multiply(const emu::Product& product, unsigned thread) {
    const int warp = thread % 128 / 32, lane = thread % 32;
    float left[2][16], right[16];
    for (int lower = 0; lower < 2; ++lower) tile_row(product.a, 16 * warp + lane / 4 + 8 * lower, left[lower]);
    for (int pair = 0; pair < N / 8; ++pair) {
        for (int next = 0; next < 2; ++next) {
            tile_row(product.b, 8 * pair + 2 * (lane % 4) + next, right);
            for (int lower = 0; lower < 2; ++lower) {
                float& sum = product.sums[4 * pair + 2 * lower + next];
                for (int k = 0; k < 16; ++k) sum += left[lower][k] * right[k];
            }
        }
    }
}
template <int N> inline void wgmma_bf16(float (&d)[N / 2], uint64_t a, uint64_t b) {
    if ((a & ~uint64_t(0x60)) % 1024 || (b & ~uint64_t(0x60)) % 1024) emu::fail("a tile of wgmma does not start at a multiple of 1024");
    const emu::Product product{d, a, b, emu_multiply<N>};
    if (emu::order == emu::BACKWARD) return product.multiply(product, emu::current->number);
    emu::issue(emu::groups_of(emu::current->products), product);
}
inline void wgmma_begin() {}
inline void wgmma_commit() { emu::commit(emu::groups_of(emu::current->products)); }
template <int N> inline void wgmma_wait() {
    emu::wait_for(emu::groups_of(emu::current->products), N,
                  [](const emu::Product& product) { product.multiply(product, emu::current->number); });
}
inline void fence_async_proxy() {}
// Keeps a sum from being moved over an instruction that uses it behind the compiler's back; no such danger here.
inline void hold(float&) {}
