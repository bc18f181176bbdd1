// From patch scores to image scores and anomaly maps. Reference: simplenet_kernels::maps, whose banded matrices (bilinear
// upsampling and Gaussian blur in one) these are.
#include "common.cuh"

// One axis: output o is the sum of weights[o * width + i] times input first[o] + i, over i < length[o].
struct Band {
    const int* first;
    const int* length;
    const float* weights;
    int width;
};

constexpr int ROWS_PER_BLOCK = 8;

// maps[n, height, width] of scores [n, h, w], and the largest score of each image (NaN where one is NaN). Grid: blocks of
// 8 output rows times n; dynamic shared memory: 8 w floats, and the image's score is found by the first block of each image.
extern "C" __global__ void anomaly_maps(const float* scores, float* maps, float* image_scores, Band down, Band across, int h,
                                        int w, int height, int width) {
    DYNAMIC_SHARED(float, columns);
    const int2 block = block_of_two(unsigned(height + ROWS_PER_BLOCK - 1) / ROWS_PER_BLOCK);
    const float* image = scores + size_t(block.y) * h * w;
    const int top = block.x * ROWS_PER_BLOCK, rows = min(ROWS_PER_BLOCK, height - top);
    for (int index = threadIdx.x; index < rows * w; index += blockDim.x) {
        const int row = top + index / w, column = index % w;
        float sum = 0.0f;
        for (int i = 0; i < down.length[row]; ++i) {
            sum += down.weights[row * down.width + i] * image[(down.first[row] + i) * w + column];
        }
        columns[index] = sum;
    }
    __syncthreads();
    for (int index = threadIdx.x; index < rows * width; index += blockDim.x) {
        const int row = index / width, column = index % width;
        float sum = 0.0f;
        for (int i = 0; i < across.length[column]; ++i) {
            sum += across.weights[column * across.width + i] * columns[row * w + across.first[column] + i];
        }
        maps[(size_t(block.y) * height + top + row) * width + column] = sum;
    }
    if (block.x != 0 || threadIdx.x >= 32) return;
    float highest = -INFINITY;
    for (int index = threadIdx.x; index < h * w; index += 32) {
        if (image[index] > highest || isnan(image[index])) highest = image[index];
        // A NaN stays: nothing is greater than it.
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, highest, offset);
        if (other > highest || isnan(other)) highest = other;
    }
    if (threadIdx.x == 0) image_scores[block.y] = highest;
}
