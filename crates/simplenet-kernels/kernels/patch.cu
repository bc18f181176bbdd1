// Patch embedding of feature maps stored channels last, without unfolding a neighbourhood into memory. Reference:
// simplenet_kernels::patch. A map is [images, height, width, pitch], of which `channels` are real.
#include "common.cuh"

struct PatchShape {
    int images;
    // Of the map.
    int height, width, channels, pitch;
    // Of the patch grid.
    int rows, columns;
    int patch;
    // Length of a row of the output, and where this map's share begins in it.
    int dim, first;
};

// Where one output position reads along one axis (PyTorch, align_corners = false).
struct Tap {
    int low, high;
    float high_weight;
};

__device__ __forceinline__ Tap tap_of(int position, int from, int to) {
    const float scale = float(from) / float(to);
    const float source = fmaxf(scale * (float(position) + 0.5f) - 0.5f, 0.0f);
    Tap tap;
    tap.low = min(int(source), from - 1);
    tap.high = min(tap.low + 1, from - 1);
    tap.high_weight = fminf(fmaxf(source - float(tap.low), 0.0f), 1.0f);
    return tap;
}

// How much row (or column) `at` counts in the interpolated mean of a neighbourhood of `reach` to each side.
__device__ __forceinline__ float share(const Tap& tap, int at, int reach) {
    float weight = 0.0f;
    if (abs(at - tap.low) <= reach) weight += 1.0f - tap.high_weight;
    if (abs(at - tap.high) <= reach) weight += tap.high_weight;
    return weight;
}

// Channels of a block of the mean embedding.
constexpr int MEAN_CHANNELS = 128;

// Mean of every neighbourhood, zeros outside, resized to the patch grid. Both are separable: a block makes one row of patches
// for 128 channels, first the weighted sums down every column of the map, then of those across. Grid: (image times row of
// patches, blocks of channels); dynamic shared memory: width times 128 floats.
template <typename T> __device__ __forceinline__ void mean_embed(const PatchShape& s, const T* map, float* output) {
    DYNAMIC_SHARED(float, columns);
    let_next_launch_begin();
    constexpr int GROUPS = MEAN_CHANNELS / 8;
    const int y = blockIdx.x % s.rows, image = blockIdx.x / s.rows, first_channel = blockIdx.y * MEAN_CHANNELS;
    const int reach = s.patch / 2;
    const Tap down = tap_of(y, s.height, s.rows);
    wait_for_launch_before();
    const int top = max(down.low - reach, 0), bottom = min(down.high + reach, s.height - 1);
    float sums[8], values[8];
    for (int index = threadIdx.x; index < s.width * GROUPS; index += blockDim.x) {
        const int channel = first_channel + index % GROUPS * 8, column = index / GROUPS;
        if (channel >= s.channels) continue;
#pragma unroll
        for (int i = 0; i < 8; ++i) sums[i] = 0.0f;
        for (int row = top; row <= bottom; ++row) {
            const float weight = share(down, row, reach);
            load8(&map[((size_t(image) * s.height + row) * s.width + column) * s.pitch + channel], values);
#pragma unroll
            for (int i = 0; i < 8; ++i) sums[i] += weight * values[i];
        }
        store8(&columns[index * 8], sums);
    }
    __syncthreads();
    const float scale = 1.0f / float(s.patch * s.patch);
    for (int index = threadIdx.x; index < s.columns * GROUPS; index += blockDim.x) {
        const int channel = first_channel + index % GROUPS * 8, x = index / GROUPS;
        if (channel >= s.channels) continue;
        const Tap across = tap_of(x, s.width, s.columns);
        const int left = max(across.low - reach, 0), right = min(across.high + reach, s.width - 1);
#pragma unroll
        for (int i = 0; i < 8; ++i) sums[i] = 0.0f;
        for (int column = left; column <= right; ++column) {
            const float weight = share(across, column, reach) * scale;
            load8(&columns[(column * GROUPS + index % GROUPS) * 8], values);
#pragma unroll
            for (int i = 0; i < 8; ++i) sums[i] += weight * values[i];
        }
        float* to = &output[(size_t(blockIdx.x) * s.columns + x) * s.dim + s.first + channel];
        if ((s.dim | s.first) % 4 == 0 && channel + 8 <= s.channels) {
            store8(to, sums);
        } else {
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                if (channel + i < s.channels) to[i] = sums[i];
            }
        }
    }
}

extern "C" __global__ void mean_embed_f32(PatchShape s, const float* map, float* output) { mean_embed(s, map, output); }
extern "C" __global__ void mean_embed_bf16(PatchShape s, const __nv_bfloat16* map, float* output) { mean_embed(s, map, output); }

struct Bin {
    int start, end;
};

// Bin `index` of adaptive average pooling of `length` values to `bins`.
__device__ __forceinline__ Bin adaptive_bin(int index, int length, int bins) {
    return {int(int64_t(index) * length / bins), int((int64_t(index + 1) * length + bins - 1) / bins)};
}

// The authors' two adaptive poolings on a layer's own grid: this layer's share of target `first_target + t` at every
// position, to shares [images, height, width, targets]. One target of one position per thread.
template <typename T>
__device__ __forceinline__ void code_pool(const PatchShape& s, const T* map, float* shares, int layer, int layers,
                                          int pretrain_dim, int first_target, int targets) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= s.images * s.height * s.width * targets) return;
    const int target = first_target + index % targets, position = index / targets;
    const int x = position % s.width, y = position / s.width % s.height, image = position / s.width / s.height;
    const int cells = s.patch * s.patch, length = s.channels * cells, reach = s.patch / 2;
    const Bin second = adaptive_bin(target, layers * pretrain_dim, s.dim);
    const int begin = max(second.start - layer * pretrain_dim, 0), end = min(second.end - layer * pretrain_dim, pretrain_dim);
    float total = 0.0f;
    for (int value = begin; value < end; ++value) {
        const Bin first = adaptive_bin(value, length, pretrain_dim);
        float sum = 0.0f;
        for (int element = first.start; element < first.end; ++element) {
            const int channel = element / cells, cell = element % cells;
            const int row = y + cell / s.patch - reach, column = x + cell % s.patch - reach;
            if (unsigned(row) < unsigned(s.height) && unsigned(column) < unsigned(s.width)) {
                sum += to_float(map[((size_t(image) * s.height + row) * s.width + column) * s.pitch + channel]);
            }
        }
        total += sum / float(first.end - first.start);
    }
    shares[index] = total / float(second.end - second.start);
}

extern "C" __global__ void code_pool_f32(PatchShape s, const float* map, float* shares, int layer, int layers,
                                         int pretrain_dim, int first_target, int targets) {
    code_pool(s, map, shares, layer, layers, pretrain_dim, first_target, targets);
}
extern "C" __global__ void code_pool_bf16(PatchShape s, const __nv_bfloat16* map, float* shares, int layer, int layers,
                                          int pretrain_dim, int first_target, int targets) {
    code_pool(s, map, shares, layer, layers, pretrain_dim, first_target, targets);
}

// Adds shares [images, height, width, targets], resized to the patch grid, to the targets they belong to.
extern "C" __global__ void add_resized(PatchShape s, const float* shares, float* output, int targets) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= s.images * s.rows * s.columns * targets) return;
    const int target = index % targets, position = index / targets;
    const int x = position % s.columns, y = position / s.columns % s.rows, image = position / s.columns / s.rows;
    const Tap down = tap_of(y, s.height, s.rows), across = tap_of(x, s.width, s.columns);
    auto at = [&](int row, int column) {
        return shares[((size_t(image) * s.height + row) * s.width + column) * targets + target];
    };
    const float top = (1.0f - across.high_weight) * at(down.low, across.low) + across.high_weight * at(down.low, across.high);
    const float bottom = (1.0f - across.high_weight) * at(down.high, across.low) + across.high_weight * at(down.high, across.high);
    output[size_t(position) * s.dim + s.first + target] += (1.0f - down.high_weight) * top + down.high_weight * bottom;
}
