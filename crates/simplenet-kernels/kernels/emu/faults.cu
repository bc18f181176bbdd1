// Kernels with one mistake each, for the test that the emulator finds it; `fault` 0 is the correct kernel.
#include "../common.cuh"
#include "../hopper.cuh"

// to[i] = from[n - 1 - i] of each block, by way of shared memory.
extern "C" __global__ void reverse_block(const float* from, float* to, int fault) {
    __shared__ float values[256];
    values[threadIdx.x] = from[blockIdx.x * blockDim.x + threadIdx.x];
    if (fault != 1) __syncthreads();
    if (fault == 2 && threadIdx.x == 5) __syncthreads();
    const int mirrored = blockDim.x - 1 - threadIdx.x + (fault == 3 ? 1 : 0);
    to[blockIdx.x * blockDim.x + threadIdx.x] = values[mirrored];
}

// The same with dynamic shared memory and asynchronous copies, four floats per thread.
extern "C" __global__ void reverse_copied(const float* from, float* to, int fault) {
    DYNAMIC_SHARED(float, values);
    const int first = blockIdx.x * blockDim.x * 4, count = blockDim.x * 4;
    cp_async16(&values[threadIdx.x * 4], &from[first + threadIdx.x * 4], true);
    cp_async_commit();
    if (fault != 1) cp_async_wait<0>();
    if (fault != 2) __syncthreads();
    if (fault == 3) cp_async16(&values[threadIdx.x * 4], &from[first], true);  // while others still read
    for (int i = threadIdx.x; i < count; i += blockDim.x) to[first + i + (fault == 4)] = values[count - 1 - i];
    if (fault == 5) values[count + threadIdx.x] = 0.0f;
}

// to[i] = 2 from[i], in a launch that may overlap the one before.
extern "C" __global__ void double_overlapping(const float* from, float* to, int fault) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    let_next_launch_begin();
    const float early = fault == 2 ? from[i] : 0.0f;
    if (fault == 3) to[i] = 0.0f;
    if (fault != 1 || i != 40) wait_for_launch_before();
    to[i] = 2.0f * (fault == 2 ? early : from[i]);
}

// Every block puts down its number plus one and, when all have met, adds up what is there.
extern "C" __global__ void sum_of_blocks(float* parts, int* arrivals, float* sums, int fault) {
    if (threadIdx.x == 0) parts[blockIdx.x] = float(blockIdx.x + 1);
    if (fault == 1) __syncthreads();
    else if (fault != 2 || blockIdx.x != 1) meet(arrivals, gridDim.x);
    float sum = 0.0f;
    for (int i = 0; i < int(gridDim.x); ++i) sum += parts[i];
    sums[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

// to[i] = from[i ^ 1], within a warp by way of shared memory.
extern "C" __global__ void swap_neighbours(const float* from, float* to, int fault) {
    __shared__ float values[64];
    values[threadIdx.x] = from[threadIdx.x];
    if (fault == 2) {
        if (threadIdx.x % 2) __syncwarp(0x55555555u);
    } else if (fault == 3) {
        if (threadIdx.x % 2) __syncwarp();
    } else if (fault != 1) {
        __syncwarp();
    }
    to[threadIdx.x] = values[threadIdx.x ^ 1];
}

// d [16, 8] = a [16, k] b [8, k] transposed, by one warp, with k = 16 in bf16 and 8 in TF32. Shared memory is the kernel's:
// the emulator cannot tell that of a template.
template <typename T>
__device__ __forceinline__ void multiply_tile(const T* a, const T* b, float* d, uint4 (&left)[32], uint4 (&right)[32]) {
    const int lane = threadIdx.x;
    left[lane] = reinterpret_cast<const uint4*>(a)[lane];
    right[lane] = lane < 16 ? reinterpret_cast<const uint4*>(b)[lane] : uint4{0, 0, 0, 0};
    __syncwarp();
    uint32_t fragment[4], columns[4];
    ldmatrix_x4(fragment, &left[lane % 16 * 2 + lane / 16]);
    ldmatrix_x4(columns, &right[lane % 8 * 2 + lane / 8 % 2 + lane / 16 * 16]);
    const uint32_t low[2] = {columns[0], columns[1]};
    float sums[4] = {};
    MatrixUnits<T>::multiply(sums, fragment, low);
    for (int i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}
extern "C" __global__ void multiply_tile_bf16(const __nv_bfloat16* a, const __nv_bfloat16* b, float* d) {
    __shared__ uint4 left[32], right[32];
    multiply_tile(a, b, d, left, right);
}
extern "C" __global__ void multiply_tile_tf32(const Tf32* a, const Tf32* b, float* d) {
    __shared__ uint4 left[32], right[32];
    multiply_tile(a, b, d, left, right);
}

__device__ __forceinline__ float sum_of_lower_half(float value) {
    for (int offset = 8; offset > 0; offset /= 2) value += __shfl_xor_sync(0x0000ffffu, value, offset);
    return value;
}

// Sums and votes over warps, half warps and the block.
extern "C" __global__ void collect(const float* from, float* to) {
    const int lane = threadIdx.x % 32;
    const float value = from[threadIdx.x];
    float* row = &to[threadIdx.x * 6];
    row[0] = warp_sum(value);
    float down = value, up = value;
    for (int offset = 8; offset > 0; offset /= 2) down += __shfl_down_sync(~0u, down, offset, 16);
    for (int offset = 1; offset < 32; offset *= 2) {
        const float before = __shfl_up_sync(~0u, up, offset);
        if (lane >= offset) up += before;
    }
    row[1] = __shfl_sync(~0u, down, 0, 16);
    row[2] = up;
    row[3] = float(__popc(__ballot_sync(~0u, value > 0.0f)));
    row[4] = float(__syncthreads_count(value > 0.0f));
    row[5] = lane < 16 ? sum_of_lower_half(value) : 0.0f;
}

// d [64, 64] = a [64, k] b [64, k] transposed, by one warpgroup, with k = 64 in bf16 and 32 in TF32.
template <typename T>
__device__ __forceinline__ void multiply_tiles(const T* a, const T* b, float* d, int fault, char* left, char* right) {
    for (int i = threadIdx.x; i < 64 * 8; i += 128) {
        *reinterpret_cast<uint4*>(left + swizzled(i / 8, i % 8)) = reinterpret_cast<const uint4*>(a)[i];
        *reinterpret_cast<uint4*>(right + swizzled(i / 8, i % 8)) = reinterpret_cast<const uint4*>(b)[i];
    }
    fence_async_proxy();
    __syncthreads();
    float sums[32] = {};
    wgmma_begin();
    for (int step = 0; step < 4; ++step) {
        const uint64_t rows = advance_k(tile_descriptor(left), step), columns = advance_k(tile_descriptor(right), step);
        MatrixUnits<T>::template multiply_tiles<64>(sums, rows, columns);
    }
    wgmma_commit();
    if (fault == 2) left[threadIdx.x * 64 + 3] = 1;
    if (fault != 1) wgmma_wait<0>();
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int i = 0; i < 32; ++i) d[(16 * warp + lane / 4 + 8 * (i / 2 % 2)) * 64 + 8 * (i / 4) + 2 * (lane % 4) + i % 2] = sums[i];
}
extern "C" __global__ void multiply_tiles_bf16(const __nv_bfloat16* a, const __nv_bfloat16* b, float* d, int fault) {
    __shared__ __align__(1024) char left[64 * 128], right[64 * 128];
    multiply_tiles(a, b, d, fault, left, right);
}
extern "C" __global__ void multiply_tiles_tf32(const Tf32* a, const Tf32* b, float* d, int fault) {
    __shared__ __align__(1024) char left[64 * 128], right[64 * 128];
    multiply_tiles(a, b, d, fault, left, right);
}
