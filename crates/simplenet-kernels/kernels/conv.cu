// Convolution, bias, residual and activation in one kernel, as an implicit matrix product over activations stored
// channels last.
//
// A convolution is C = A W^T with a row of A per output pixel: all taps of all `in_channels` values, gathered on the way to
// shared memory and never stored. Channels are padded with zeros to a multiple of 8, so every 16-byte piece of a row lies
// within one tap. Matrix units are faster than the second cache can feed them, so there k runs over blocks of channels of 128
// bytes first and taps second: neighbouring taps read nearly the same pixels, and find them in the first cache.
// Reference: simplenet_kernels::engine::reference.
#include "common.cuh"
#include "hopper.cuh"

struct ConvShape {
    int images, height, width, in_channels;
    int out_height, out_width, out_channels;
    int kernel_rows, kernel_columns, row_stride, column_stride, pad_top, pad_left;
    int activation;
    // Blocks that share the sum over k of a tile; each then adds up a part of the tile, in a fixed order.
    int splits;
};

constexpr int TILE_M = 128;
constexpr int THREADS = 256;

// ------------------------------------------------------------------------------------- bf16 and TF32, matrix units

constexpr int STAGES = 3;
// Pieces of 16 bytes per row and stage: 64 values of k in bf16, 32 in TF32.
constexpr int PIECES = 8;
// Values of a piece.
template <typename T> constexpr int VALUES = 16 / sizeof(T);

template <int TILE_N> constexpr int STAGE_BYTES = (TILE_M + TILE_N) * 128;

// Pieces of a pixel that are worked through tap by tap before the next ones: a row's, or all where the pixel is no multiple of
// that.
template <typename T> __device__ __forceinline__ int block_pieces(const ConvShape& s) {
    return s.in_channels % (PIECES * VALUES<T>) == 0 ? PIECES : s.in_channels / VALUES<T>;
}

// Taps whose being inside the image fits a word.
constexpr int MASKED_TAPS = 32;

// The rows of A that this thread copies: where each begins, and at which channels of which tap all of them are. Copies are
// many and products fast, so all that does not change from tile to tile is worked out once.
template <typename T> struct Gather {
    // The pixel under the first tap, which may lie outside, and for each tap whether its pixel lies inside.
    const T* first[TILE_M / 32];
    uint32_t inside[TILE_M / 32];
    // The first piece of the block, and the piece within it.
    int block, piece, tap, tap_row, tap_column;

    // Image (its first row), top and left of the kernel over output pixel `row`; a negative image past the last one.
    __device__ __forceinline__ static int3 corner(const ConvShape& s, int row) {
        const int x = row % s.out_width, rest = row / s.out_width;
        const bool exists = row < s.images * s.out_height * s.out_width;
        return make_int3(exists ? rest / s.out_height * s.height : -1, rest % s.out_height * s.row_stride - s.pad_top,
                         x * s.column_stride - s.pad_left);
    }

    __device__ __forceinline__ static bool is_inside(const ConvShape& s, const int3& corner, int tap_row, int tap_column) {
        return corner.x >= 0 && unsigned(corner.y + tap_row) < unsigned(s.height) &&
               unsigned(corner.z + tap_column) < unsigned(s.width);
    }

    __device__ __forceinline__ Gather(const ConvShape& s, const T* input, int first_row, int first_piece) {
        const int taps = s.kernel_rows * s.kernel_columns;
#pragma unroll
        for (int i = 0; i < TILE_M / 32; ++i) {
            const int3 at = corner(s, first_row + threadIdx.x / PIECES + 32 * i);
            first[i] = input + (int64_t(at.x + at.y) * s.width + at.z) * s.in_channels;
            inside[i] = 0;
            if (taps > MASKED_TAPS) continue;
            uint32_t columns = 0;
            for (int tap_column = 0; tap_column < s.kernel_columns; ++tap_column) {
                columns |= uint32_t(unsigned(at.z + tap_column) < unsigned(s.width)) << tap_column;
            }
            for (int tap_row = 0; tap_row < s.kernel_rows; ++tap_row) {
                const bool is_row = at.x >= 0 && unsigned(at.y + tap_row) < unsigned(s.height);
                inside[i] |= is_row ? columns << tap_row * s.kernel_columns : 0;
            }
        }
        const int per_tap = block_pieces<T>(s), at = first_piece + threadIdx.x % PIECES;
        tap = at / per_tap % taps;
        block = at / per_tap / taps * per_tap;
        piece = at % per_tap;
        tap_row = tap / s.kernel_columns;
        tap_column = tap % s.kernel_columns;
    }

    __device__ __forceinline__ void advance(const ConvShape& s) {
        const int per_tap = block_pieces<T>(s);
        piece += PIECES;
        while (piece >= per_tap) {
            piece -= per_tap;
            ++tap;
            if (++tap_column == s.kernel_columns) {
                tap_column = 0;
                if (++tap_row == s.kernel_rows) tap_row = 0, tap = 0, block += per_tap;
            }
        }
    }

    __device__ __forceinline__ void copy(const ConvShape& s, const T* input, int first_row, char* tile) const {
        const int row = threadIdx.x / PIECES, channel = (block + piece) * VALUES<T>;
        const int64_t offset = int64_t(tap_row * s.width + tap_column) * s.in_channels + channel;
        char* to = tile + swizzled(row, threadIdx.x % PIECES);
        if (s.kernel_rows * s.kernel_columns <= MASKED_TAPS) {
#pragma unroll
            for (int i = 0; i < TILE_M / 32; ++i) {
                const bool is_there = (inside[i] >> tap & 1) && channel < s.in_channels;
                cp_async16_cached(to + i * 32 * 128, is_there ? first[i] + offset : input, is_there);
            }
            return;
        }
#pragma unroll 1
        for (int i = 0; i < TILE_M / 32; ++i) {
            const int3 at = corner(s, first_row + row + 32 * i);
            const bool is_there = is_inside(s, at, tap_row, tap_column) && channel < s.in_channels;
            const T* from = input + (int64_t(at.x + at.y) * s.width + at.z) * s.in_channels + offset;
            cp_async16_cached(to + i * 32 * 128, is_there ? from : input, is_there);
        }
    }
};

// One stage of products with the warp's own instructions: warps 4 x 2, each 32 x TILE_N / 2.
template <typename T, int TILE_N>
__device__ __forceinline__ void multiply_warp(float (&sums)[TILE_N / 2], const char* a, const char* b) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int first_row = warp / 2 * 32, first_column = warp % 2 * (TILE_N / 2);
#pragma unroll
    for (int step = 0; step < 4; ++step) {
        uint32_t left[2][4];
#pragma unroll
        for (int i = 0; i < 2; ++i) ldmatrix_x4(left[i], a + swizzled(first_row + 16 * i + lane % 16, 2 * step + lane / 16));
#pragma unroll
        for (int j = 0; j < TILE_N / 32; ++j) {
            uint32_t right[4];
            ldmatrix_x4(right, b + swizzled(first_column + 16 * j + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
            const uint32_t low[2] = {right[0], right[1]}, high[2] = {right[2], right[3]};
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                float(&first)[4] = *reinterpret_cast<float(*)[4]>(&sums[(i * (TILE_N / 16) + 2 * j) * 4]);
                float(&second)[4] = *reinterpret_cast<float(*)[4]>(&sums[(i * (TILE_N / 16) + 2 * j + 1) * 4]);
                MatrixUnits<T>::multiply(first, left[i], low);
                MatrixUnits<T>::multiply(second, left[i], high);
            }
        }
    }
}

// Row and column within the tile of the pair of sums `2 pair` and `2 pair + 1`.
template <int TILE_N, bool WARPGROUPS> __device__ __forceinline__ int2 place(int pair) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (WARPGROUPS) return make_int2(warp * 16 + lane / 4 + pair % 2 * 8, pair / 2 * 8 + lane % 4 * 2);
    const int tile = pair / 2, i = tile / (TILE_N / 16), j = tile % (TILE_N / 16);
    return make_int2(warp / 2 * 32 + i * 16 + lane / 4 + pair % 2 * 8, warp % 2 * (TILE_N / 2) + j * 8 + lane % 4 * 2);
}

// What the end of a convolution works with at a time: a piece of a pixel, and as many sums or biases.
__device__ __forceinline__ void load_piece(const float* from, float (&to)[8]) { load8(from, to); }
__device__ __forceinline__ void load_piece(const float* from, float (&to)[4]) {
    const float4 values = *reinterpret_cast<const float4*>(from);
    to[0] = values.x, to[1] = values.y, to[2] = values.z, to[3] = values.w;
}
__device__ __forceinline__ void unpack_piece(const uint4& words, float (&to)[8]) { unpack8(words, to); }
__device__ __forceinline__ void unpack_piece(const uint4& words, float (&to)[4]) {
    to[0] = __uint_as_float(words.x), to[1] = __uint_as_float(words.y);
    to[2] = __uint_as_float(words.z), to[3] = __uint_as_float(words.w);
}
__device__ __forceinline__ void store_piece(float* to, const float (&from)[8]) { store8(to, from); }
__device__ __forceinline__ void store_piece(float* to, const float (&from)[4]) {
    *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
}
__device__ __forceinline__ void store_piece(__nv_bfloat16* to, const float (&from)[8]) { store8(to, from); }
__device__ __forceinline__ void store_piece(Tf32* to, const float (&from)[4]) {
    const float rounded[4] = {to_tf32(from[0]), to_tf32(from[1]), to_tf32(from[2]), to_tf32(from[3])};
    store_piece(&to->value, rounded);
}

template <typename T, int TILE_N, bool WARPGROUPS>
__device__ __forceinline__ void conv_products(const ConvShape& s, const T* input, const T* weight, const float* bias,
                                              const T* residual, T* output, float* workspace, int* arrivals) {
    DYNAMIC_SHARED(char, shared);
    let_next_launch_begin();
    const int rows = s.images * s.out_height * s.out_width;
    const int2 tile_of_block = block_of_two(unsigned(s.out_channels + TILE_N - 1) / TILE_N);
    const int first_row = tile_of_block.y * TILE_M, first_column = tile_of_block.x * TILE_N;
    const int pieces = s.kernel_rows * s.kernel_columns * (s.in_channels / VALUES<T>);
    const int all_tiles = (pieces + PIECES - 1) / PIECES;
    const int first_tile = int(int64_t(all_tiles) * blockIdx.z / s.splits);
    const int tiles = int(int64_t(all_tiles) * (blockIdx.z + 1) / s.splits) - first_tile;

    Gather<T> gather(s, input, first_row, first_tile * PIECES);
    // The same for the filters, whose rows lie whole in memory.
    const int row = threadIdx.x / PIECES, filter = first_column + row;
    int piece = first_tile * PIECES + threadIdx.x % PIECES;
    const T* from = weight + (size_t(filter) * pieces + piece) * VALUES<T>;
    const int64_t next_rows = int64_t(32) * pieces * VALUES<T>;
    auto load_pixels = [&](int tile) {
        gather.copy(s, input, first_row, shared + tile % STAGES * STAGE_BYTES<TILE_N>);
        gather.advance(s);
    };
    auto load_filters = [&](int tile) {
        char* to = shared + tile % STAGES * STAGE_BYTES<TILE_N> + TILE_M * 128 + swizzled(row, threadIdx.x % PIECES);
#pragma unroll
        for (int i = 0; i < TILE_N / 32; ++i) {
            const bool is_there = filter + 32 * i < s.out_channels && piece < pieces;
            cp_async16(to + i * 32 * 128, is_there ? from + i * next_rows : weight, is_there);
        }
        piece += PIECES;
        from += PIECES * VALUES<T>;
    };

    float sums[TILE_N / 2] = {};
    // No launch writes the filters.
#pragma unroll
    for (int tile = 0; tile < STAGES - 1; ++tile) {
        if (tile < tiles) load_filters(tile);
    }
    wait_for_launch_before();
#pragma unroll
    for (int tile = 0; tile < STAGES - 1; ++tile) {
        if (tile < tiles) load_pixels(tile);
        cp_async_commit();
    }
    for (int tile = 0; tile < tiles; ++tile) {
        cp_async_wait<STAGES - 2>();
#if SIMPLENET_HAS_WGMMA
        if (WARPGROUPS) {
            // The products of the tile before must be through with the stage that is filled next.
            wgmma_wait<0>();
            fence_async_proxy();
        }
#endif
        __syncthreads();
        const char* a = shared + tile % STAGES * STAGE_BYTES<TILE_N>;
        const char* b = a + TILE_M * 128;
        if (WARPGROUPS) {
#if SIMPLENET_HAS_WGMMA
            const uint64_t left = tile_descriptor(a + threadIdx.x / 128 * 64 * 128), right = tile_descriptor(b);
            wgmma_begin();
#pragma unroll
            for (int step = 0; step < 4; ++step) {
                MatrixUnits<T>::template multiply_tiles<TILE_N>(sums, advance_k(left, step), advance_k(right, step));
            }
            wgmma_commit();
#endif
        } else {
            multiply_warp<T, TILE_N>(sums, a, b);
        }
        if (tile + STAGES - 1 < tiles) load_pixels(tile + STAGES - 1), load_filters(tile + STAGES - 1);
        cp_async_commit();
    }
#if SIMPLENET_HAS_WGMMA
    if (WARPGROUPS) {
        wgmma_wait<0>();
#pragma unroll
        for (int index = 0; index < TILE_N / 2; ++index) hold(sums[index]);
    }
#endif
    cp_async_wait<0>();
    __syncthreads();

    // By way of shared memory, so that global memory is read and written in whole lines. The 8 extra columns keep the
    // writes of a half warp in different banks.
    constexpr int PITCH = TILE_N + 8;
    float* staged = reinterpret_cast<float*>(shared);
#pragma unroll
    for (int pair = 0; pair < TILE_N / 4; ++pair) {
        const int2 at = place<TILE_N, WARPGROUPS>(pair);
        *reinterpret_cast<float2*>(&staged[at.x * PITCH + at.y]) = make_float2(sums[2 * pair], sums[2 * pair + 1]);
    }

    // From here on a tile is pieces of pixels, each a unit of work.
    constexpr int UNIT = VALUES<T>, PER_ROW = TILE_N / UNIT, UNITS = TILE_M * PER_ROW, ROUNDS = UNITS / THREADS;
    auto staged_at = [&](int unit) { return &staged[unit / PER_ROW * PITCH + unit % PER_ROW * UNIT]; };
    auto is_inside = [&](int unit) { return first_row + unit / PER_ROW < rows && first_column + unit % PER_ROW * UNIT < s.out_channels; };
    auto place_of = [&](int unit) { return size_t(first_row + unit / PER_ROW) * s.out_channels + first_column + unit % PER_ROW * UNIT; };
    const Bounds bounds(s.activation);
    float values[UNIT], added[UNIT], biases[UNIT];

    if (s.splits > 1) {
        const size_t tile_index = blockIdx.x;
        float* partials = workspace + tile_index * s.splits * (TILE_M * TILE_N);
        __syncthreads();
#pragma unroll
        for (int round = 0; round < ROUNDS; ++round) {
            const int unit = threadIdx.x + round * THREADS;
            load_piece(staged_at(unit), values);
            store_piece(&partials[(size_t(blockIdx.z) * UNITS + unit) * UNIT], values);
        }
        meet(&arrivals[tile_index], s.splits);
        const int begin = UNITS * blockIdx.z / s.splits, end = UNITS * (blockIdx.z + 1) / s.splits;
#pragma unroll 1
        for (int unit = begin + threadIdx.x; unit < end; unit += THREADS) {
            if (!is_inside(unit)) continue;
            load_piece(&bias[first_column + unit % PER_ROW * UNIT], values);
            if (residual) {
                unpack_piece(*reinterpret_cast<const uint4*>(&residual[place_of(unit)]), added);
#pragma unroll
                for (int i = 0; i < UNIT; ++i) values[i] += added[i];
            }
            // Four parts side by side: one after the other they would wait for memory as often as there are parts.
#pragma unroll 4
            for (int split = 0; split < s.splits; ++split) {
                load_piece(&partials[(size_t(split) * UNITS + unit) * UNIT], added);
#pragma unroll
                for (int i = 0; i < UNIT; ++i) values[i] += added[i];
            }
#pragma unroll
            for (int i = 0; i < UNIT; ++i) values[i] = bounds(values[i]);
            store_piece(&output[place_of(unit)], values);
        }
        return;
    }
    // Asked for before anything waits.
    uint4 residuals[ROUNDS];
    const int column = first_column + threadIdx.x % PER_ROW * UNIT;
    if (column < s.out_channels) load_piece(&bias[column], biases);
#pragma unroll
    for (int round = 0; round < ROUNDS; ++round) {
        const int unit = threadIdx.x + round * THREADS;
        residuals[round] = make_uint4(0, 0, 0, 0);
        if (residual && is_inside(unit)) residuals[round] = *reinterpret_cast<const uint4*>(&residual[place_of(unit)]);
    }
    __syncthreads();
#pragma unroll
    for (int round = 0; round < ROUNDS; ++round) {
        const int unit = threadIdx.x + round * THREADS;
        if (!is_inside(unit)) continue;
        load_piece(staged_at(unit), values);
        unpack_piece(residuals[round], added);
#pragma unroll
        for (int i = 0; i < UNIT; ++i) values[i] = bounds(values[i] + biases[i] + added[i]);
        store_piece(&output[place_of(unit)], values);
    }
}

// Grid: (tiles of TILE_N channels times tiles of 128 pixels, 1, splits); 256 threads; dynamic shared memory of STAGES stages, or
// the staged tile where that is larger.
#define CONV_PRODUCTS(NAME, T, TILE_N, WARPGROUPS)                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS, WARPGROUPS ? 2 : 1)                                             \
        NAME(ConvShape shape, const T* input, const T* weight, const float* bias, const T* residual, T* output,           \
             float* workspace, int* arrivals) {                                                                           \
        conv_products<T, TILE_N, WARPGROUPS>(shape, input, weight, bias, residual, output, workspace, arrivals);          \
    }
CONV_PRODUCTS(conv_bf16_warp_64, __nv_bfloat16, 64, false)
CONV_PRODUCTS(conv_bf16_warp_128, __nv_bfloat16, 128, false)
CONV_PRODUCTS(conv_tf32_warp_64, Tf32, 64, false)
CONV_PRODUCTS(conv_tf32_warp_128, Tf32, 128, false)
#if SIMPLENET_HAS_WGMMA
CONV_PRODUCTS(conv_bf16_warpgroup_64, __nv_bfloat16, 64, true)
CONV_PRODUCTS(conv_bf16_warpgroup_128, __nv_bfloat16, 128, true)
CONV_PRODUCTS(conv_tf32_warpgroup_64, Tf32, 64, true)
CONV_PRODUCTS(conv_tf32_warpgroup_128, Tf32, 128, true)
#endif

// ------------------------------------------------------------------------------------------------------- f32, strict

constexpr int F32_TILE_N = 64;
constexpr int F32_TILE_K = 16;

// 128 pixels x 64 channels per block, 8 x 4 per thread. Grid: tiles of 64 channels times tiles of 128 pixels; 256 threads.
extern "C" __global__ void __launch_bounds__(THREADS)
    conv_f32(ConvShape s, const float* input, const float* weight, const float* bias, const float* residual, float* output) {
    __shared__ __align__(16) float a[2][F32_TILE_K][TILE_M + 4];
    __shared__ __align__(16) float b[2][F32_TILE_K][F32_TILE_N + 4];
    let_next_launch_begin();
    const int rows = s.images * s.out_height * s.out_width;
    const int2 tile_of_block = block_of_two(unsigned(s.out_channels + F32_TILE_N - 1) / F32_TILE_N);
    const int first_row = tile_of_block.y * TILE_M, first_column = tile_of_block.x * F32_TILE_N;
    const int depth = s.kernel_rows * s.kernel_columns * s.in_channels;
    const int tiles = (depth + F32_TILE_K - 1) / F32_TILE_K;

    // Four values of k of two rows of A and of one filter are this thread's to copy.
    const int k_of_thread = threadIdx.x % 4 * 4, row_of_thread = threadIdx.x / 4;
    int image[2], top[2], left[2];
    for (int i = 0; i < 2; ++i) {
        const int row = first_row + row_of_thread + 64 * i;
        const int rest = row / s.out_width;
        image[i] = row < rows ? rest / s.out_height * s.height : -1;
        top[i] = rest % s.out_height * s.row_stride - s.pad_top;
        left[i] = row % s.out_width * s.column_stride - s.pad_left;
    }
    float4 next_a[2], next_b;
    auto fetch = [&](int tile) {
        const int k = tile * F32_TILE_K + k_of_thread, tap = k / s.in_channels, channel = k % s.in_channels;
        const int tap_row = tap / s.kernel_columns, tap_column = tap % s.kernel_columns;
        for (int i = 0; i < 2; ++i) {
            const int y = top[i] + tap_row, x = left[i] + tap_column;
            const bool inside = image[i] >= 0 && k < depth && unsigned(y) < unsigned(s.height) &&
                                unsigned(x) < unsigned(s.width);
            next_a[i] = make_float4(0, 0, 0, 0);
            if (inside) {
                const size_t pixel = size_t(image[i] + y) * s.width + x;
                next_a[i] = *reinterpret_cast<const float4*>(&input[pixel * s.in_channels + channel]);
            }
        }
        const int filter = first_column + row_of_thread;
        next_b = make_float4(0, 0, 0, 0);
        if (filter < s.out_channels && k < depth) {
            next_b = *reinterpret_cast<const float4*>(&weight[size_t(filter) * depth + k]);
        }
    };
    auto place_fetched = [&](int buffer) {
        for (int i = 0; i < 2; ++i) {
            a[buffer][k_of_thread + 0][row_of_thread + 64 * i] = next_a[i].x;
            a[buffer][k_of_thread + 1][row_of_thread + 64 * i] = next_a[i].y;
            a[buffer][k_of_thread + 2][row_of_thread + 64 * i] = next_a[i].z;
            a[buffer][k_of_thread + 3][row_of_thread + 64 * i] = next_a[i].w;
        }
        b[buffer][k_of_thread + 0][row_of_thread] = next_b.x;
        b[buffer][k_of_thread + 1][row_of_thread] = next_b.y;
        b[buffer][k_of_thread + 2][row_of_thread] = next_b.z;
        b[buffer][k_of_thread + 3][row_of_thread] = next_b.w;
    };

    const int row = threadIdx.x / 16 * 8, column = threadIdx.x % 16 * 4;
    float sums[8][4] = {};
    wait_for_launch_before();
    fetch(0);
    place_fetched(0);
    __syncthreads();
    for (int tile = 0; tile < tiles; ++tile) {
        const int buffer = tile % 2;
        if (tile + 1 < tiles) fetch(tile + 1);
#pragma unroll
        for (int k = 0; k < F32_TILE_K; ++k) {
            float left_values[8];
            load8(&a[buffer][k][row], left_values);
            const float4 right = *reinterpret_cast<const float4*>(&b[buffer][k][column]);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                sums[i][0] += left_values[i] * right.x;
                sums[i][1] += left_values[i] * right.y;
                sums[i][2] += left_values[i] * right.z;
                sums[i][3] += left_values[i] * right.w;
            }
        }
        // The other buffer was read in the tile before, and every thread has passed the barrier since.
        if (tile + 1 < tiles) place_fetched(1 - buffer);
        __syncthreads();
    }
    if (first_column + column >= s.out_channels) return;
    const float4 biases = *reinterpret_cast<const float4*>(&bias[first_column + column]);
    const Bounds bounds(s.activation);
    for (int i = 0; i < 8; ++i) {
        if (first_row + row + i >= rows) return;
        const size_t at = size_t(first_row + row + i) * s.out_channels + first_column + column;
        float4 value = make_float4(sums[i][0] + biases.x, sums[i][1] + biases.y, sums[i][2] + biases.z, sums[i][3] + biases.w);
        if (residual) {
            const float4 added = *reinterpret_cast<const float4*>(&residual[at]);
            value.x += added.x, value.y += added.y, value.z += added.z, value.w += added.w;
        }
        value.x = bounds(value.x), value.y = bounds(value.y), value.z = bounds(value.z), value.w = bounds(value.w);
        *reinterpret_cast<float4*>(&output[at]) = value;
    }
}

// ----------------------------------------------------------------------------------- depthwise, pooling, the image

// Eight channels of one output pixel per thread. `weight` is [taps, channels].
template <typename T>
__device__ __forceinline__ void depthwise(const ConvShape& s, const T* input, const float* weight, const float* bias,
                                          const T* residual, T* output) {
    let_next_launch_begin();
    wait_for_launch_before();
    const int groups = s.out_channels / 8;
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= s.images * s.out_height * s.out_width * groups) return;
    const int channel = index % groups * 8, pixel = index / groups;
    const int x = pixel % s.out_width, y = pixel / s.out_width % s.out_height, image = pixel / s.out_width / s.out_height;
    const Bounds bounds(s.activation);
    float sums[8], values[8], weights[8];
    load8(&bias[channel], sums);
    for (int tap_row = 0; tap_row < s.kernel_rows; ++tap_row) {
        const int from_y = y * s.row_stride - s.pad_top + tap_row;
        if (unsigned(from_y) >= unsigned(s.height)) continue;
        for (int tap_column = 0; tap_column < s.kernel_columns; ++tap_column) {
            const int from_x = x * s.column_stride - s.pad_left + tap_column;
            if (unsigned(from_x) >= unsigned(s.width)) continue;
            load8(&input[((size_t(image) * s.height + from_y) * s.width + from_x) * s.in_channels + channel], values);
            load8(&weight[(tap_row * s.kernel_columns + tap_column) * s.out_channels + channel], weights);
#pragma unroll
            for (int i = 0; i < 8; ++i) sums[i] += values[i] * weights[i];
        }
    }
    const size_t at = size_t(pixel) * s.out_channels + channel;
    if (residual) {
        load8(&residual[at], values);
#pragma unroll
        for (int i = 0; i < 8; ++i) sums[i] += values[i];
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) sums[i] = bounds(sums[i]);
    store8(&output[at], sums);
}

extern "C" __global__ void depthwise_f32(ConvShape s, const float* input, const float* weight, const float* bias,
                                         const float* residual, float* output) {
    depthwise(s, input, weight, bias, residual, output);
}
extern "C" __global__ void depthwise_tf32(ConvShape s, const Tf32* input, const float* weight, const float* bias,
                                          const Tf32* residual, Tf32* output) {
    depthwise(s, input, weight, bias, residual, output);
}
extern "C" __global__ void depthwise_bf16(ConvShape s, const __nv_bfloat16* input, const float* weight, const float* bias,
                                          const __nv_bfloat16* residual, __nv_bfloat16* output) {
    depthwise(s, input, weight, bias, residual, output);
}

// Eight channels of one output pixel per thread; padding never wins, NaN does.
template <typename T> __device__ __forceinline__ void max_pool(const ConvShape& s, const T* input, T* output) {
    let_next_launch_begin();
    wait_for_launch_before();
    const int groups = s.out_channels / 8;
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= s.images * s.out_height * s.out_width * groups) return;
    const int channel = index % groups * 8, pixel = index / groups;
    const int x = pixel % s.out_width, y = pixel / s.out_width % s.out_height, image = pixel / s.out_width / s.out_height;
    float highest[8], values[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) highest[i] = -INFINITY;
    for (int tap_row = 0; tap_row < s.kernel_rows; ++tap_row) {
        const int from_y = y * s.row_stride - s.pad_top + tap_row;
        if (unsigned(from_y) >= unsigned(s.height)) continue;
        for (int tap_column = 0; tap_column < s.kernel_columns; ++tap_column) {
            const int from_x = x * s.column_stride - s.pad_left + tap_column;
            if (unsigned(from_x) >= unsigned(s.width)) continue;
            load8(&input[((size_t(image) * s.height + from_y) * s.width + from_x) * s.in_channels + channel], values);
#pragma unroll
            for (int i = 0; i < 8; ++i) highest[i] = values[i] > highest[i] || isnan(values[i]) ? values[i] : highest[i];
        }
    }
    store8(&output[size_t(pixel) * s.out_channels + channel], highest);
}

extern "C" __global__ void max_pool_f32(ConvShape s, const float* input, float* output) { max_pool(s, input, output); }
extern "C" __global__ void max_pool_bf16(ConvShape s, const __nv_bfloat16* input, __nv_bfloat16* output) {
    max_pool(s, input, output);
}

// Images [n, channels, area] to [n, area, padded] with zeros in the padding; `padded` is a multiple of 8.
template <typename T>
__device__ __forceinline__ void channels_last(const float* images, T* output, int count, int channels, int area, int padded) {
    let_next_launch_begin();
    wait_for_launch_before();
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= count * area) return;
    const int pixel = index % area, image = index / area;
    for (int first = 0; first < padded; first += 8) {
        float values[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const int channel = first + i;
            values[i] = channel < channels ? images[(size_t(image) * channels + channel) * area + pixel] : 0.0f;
        }
        store8(&output[size_t(index) * padded + first], values);
    }
}

// Images [n, channels, height, width] of at most 4 channels to pairs of pixels [n, height, ceil(width / 2), 8]: a convolution
// with stride 2 is one with stride 1 over pairs, and reads half as many zeros.
template <typename T>
__device__ __forceinline__ void pixel_pairs(const float* images, T* output, int count, int channels, int height, int width) {
    let_next_launch_begin();
    wait_for_launch_before();
    const int pairs = (width + 1) / 2, index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= count * height * pairs) return;
    const int pair = index % pairs, row = index / pairs % height, image = index / pairs / height;
    float values[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const int channel = i % 4, column = 2 * pair + i / 4;
        const bool inside = channel < channels && column < width;
        values[i] = inside ? images[((size_t(image) * channels + channel) * height + row) * width + column] : 0.0f;
    }
    store8(&output[size_t(index) * 8], values);
}

extern "C" __global__ void pixel_pairs_tf32(const float* images, Tf32* output, int count, int channels, int height, int width) {
    pixel_pairs(images, output, count, channels, height, width);
}
extern "C" __global__ void pixel_pairs_bf16(const float* images, __nv_bfloat16* output, int count, int channels, int height,
                                            int width) {
    pixel_pairs(images, output, count, channels, height, width);
}

extern "C" __global__ void channels_last_f32(const float* images, float* output, int count, int channels, int area, int padded) {
    channels_last(images, output, count, channels, area, padded);
}
extern "C" __global__ void channels_last_tf32(const float* images, Tf32* output, int count, int channels, int area, int padded) {
    channels_last(images, output, count, channels, area, padded);
}
extern "C" __global__ void channels_last_bf16(const float* images, __nv_bfloat16* output, int count, int channels, int area,
                                              int padded) {
    channels_last(images, output, count, channels, area, padded);
}
