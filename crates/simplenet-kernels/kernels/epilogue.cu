// What follows a convolution, in one pass: activation(x + bias + residual). Reference:
// simplenet_kernels::candle_ops::bias_residual_activation on the processor, whose bits these are.
//
// Value i belongs to channel i / inner % channels: `inner` is the pixels of a plane where channels come before them, 1 where
// they come last. `residual` may be null.
#include "common.cuh"

extern "C" __global__ void bias_activation(const float* x, const float* bias, const float* residual, float* out, int activation,
                                           int count, int channels, int inner) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= count) return;
    float sum = x[index] + bias[index / inner % channels];
    if (residual) sum += residual[index];
    out[index] = Bounds(activation)(sum);
}

// The same, four values to a thread: either `inner` is a multiple of four, or it is 1 and `channels` is one.
extern "C" __global__ void bias_activation_x4(const float4* x, const float* bias, const float4* residual, float4* out,
                                              int activation, int count, int channels, int inner) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= count / 4) return;
    const int channel = 4 * index / inner % channels, step = inner == 1 ? 1 : 0;
    float4 sum = x[index];
    sum.x += bias[channel], sum.y += bias[channel + step], sum.z += bias[channel + 2 * step], sum.w += bias[channel + 3 * step];
    if (residual) {
        const float4 more = residual[index];
        sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
    }
    const Bounds bounds(activation);
    out[index] = make_float4(bounds(sum.x), bounds(sum.y), bounds(sum.z), bounds(sum.w));
}
