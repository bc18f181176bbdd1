// candle's own kernels that its autograd launches around our operations, for contiguous tensors, with the parameters that
// candle-kernels declares (src/fill.cu, src/binary.cu): only the emulator has these.
#include "../common.cuh"

extern "C" __global__ void copy2d_f32(const float* from, float* to, uint32_t rows, uint32_t columns, uint32_t from_pitch,
                                      uint32_t to_pitch) {
    const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= rows * columns) return;
    const uint32_t row = index / columns, column = index % columns;
    to[row * to_pitch + column] = from[row * from_pitch + column];
}

__device__ __forceinline__ void only_contiguous(const size_t* strides) {
    if (strides) emu::fail("kernels/emu/candle.cu has contiguous tensors only");
}

extern "C" __global__ void const_set_f32(size_t count, size_t, const size_t* strides, float value, float* out) {
    only_contiguous(strides);
    const size_t index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) out[index] = value;
}

extern "C" __global__ void badd_f32(size_t count, size_t, const size_t* strides, const float* left, const float* right,
                                    float* out) {
    only_contiguous(strides);
    const size_t index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) out[index] = left[index] + right[index];
}

extern "C" __global__ void bmul_f32(size_t count, size_t, const size_t* strides, const float* left, const float* right,
                                    float* out) {
    only_contiguous(strides);
    const size_t index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) out[index] = left[index] * right[index];
}
