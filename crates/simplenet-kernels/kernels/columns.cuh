// Sums over rows, column by column, whose order depends on the number of rows alone.
#pragma once

#include "common.cuh"

constexpr int MERGE_COLUMNS = 32;
constexpr int MERGE_ROWS = 8;

// Adds up `first` and `second` of a column's threads; those with threadIdx.y == 0 get the sums. No template, because the emulator
// cannot tell the shared memory of one.
__device__ __forceinline__ double2 sum_of_column(double first, double second) {
    __shared__ double firsts[MERGE_ROWS][MERGE_COLUMNS], seconds[MERGE_ROWS][MERGE_COLUMNS];
    firsts[threadIdx.y][threadIdx.x] = first;
    seconds[threadIdx.y][threadIdx.x] = second;
    __syncthreads();
    double2 sums = make_double2(0.0, 0.0);
    if (threadIdx.y == 0) {
        for (int row = 0; row < MERGE_ROWS; ++row) {
            sums.x += firsts[row][threadIdx.x];
            sums.y += seconds[row][threadIdx.x];
        }
    }
    return sums;
}

// Adds up column `column` and the one `width` further of partials [count, 2 width] in f64. Blocks of (32, 8) threads;
// the threads with threadIdx.y == 0 get the sums.
template <typename T> __device__ __forceinline__ double2 merge(const T* partials, int count, int width, int column) {
    double first = 0.0, second = 0.0;
    if (column < width) {
#pragma unroll 4
        for (int row = threadIdx.y; row < count; row += MERGE_ROWS) {
            first += double(partials[size_t(row) * 2 * width + column]);
            second += double(partials[size_t(row) * 2 * width + width + column]);
        }
    }
    return sum_of_column(first, second);
}
