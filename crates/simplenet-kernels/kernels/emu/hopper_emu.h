// What ../hopper.cuh is on the host.
#pragma once

#include "cuda_emu.h"

// Hopper's warpgroup product, d [64, N] += a [64, 16] b [N, 16] transposed, of tiles in shared memory whose 128-byte rows are
// swizzled. Descriptors are addresses here. Each thread makes its own sums, when the hardware may do it at the latest.
inline uint64_t tile_descriptor(const void* tile) { return reinterpret_cast<uint64_t>(tile); }
inline uint64_t advance_k16(uint64_t descriptor, int step) { return descriptor + 32 * step; }
inline float tile_element(uint64_t descriptor, int row, int k) {
    // The hardware swizzles address bits, which only a tile that starts at a multiple of 1024 bytes may rely on.
    uint64_t at = descriptor + row / 8 * 1024 + row % 8 * 128 + k * 2;
    at ^= (at >> 7 & 7) << 4;
    return __bfloat162float(*reinterpret_cast<const __nv_bfloat16*>(at));
}
template <int N> inline void emu_multiply(const emu::Product& product, unsigned thread) {
    const int warp = thread % 128 / 32, lane = thread % 32;
    for (int index = 0; index < N / 2; ++index) {
        const int row = 16 * warp + lane / 4 + 8 * (index / 2 % 2), column = 8 * (index / 4) + 2 * (lane % 4) + index % 2;
        for (int k = 0; k < 16; ++k) product.sums[index] += tile_element(product.a, row, k) * tile_element(product.b, column, k);
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
