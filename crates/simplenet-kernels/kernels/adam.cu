// One update of Adam or AdamW. Reference: simplenet_kernels::candle_ops::adam_step on the processor.
#include "adam.cuh"

extern "C" __global__ void adam_update(float* parameters, const float* gradients, float* firsts, float* seconds,
                                       AdamUpdate update, int count) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= count) return;
    float first = firsts[index], second = seconds[index];
    const float parameter = adam_updated(update.step, update.decay, parameters[index], gradients[index], first, second);
    firsts[index] = first;
    seconds[index] = second;
    parameters[index] = parameter;
}
