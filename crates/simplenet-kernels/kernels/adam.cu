// One update of Adam or AdamW, by PyTorch's formula. Reference: simplenet_kernels::candle_ops::adam_step on the
// processor.
#include "common.cuh"

// What is the same for all parameters; learning rate and bias correction in one.
struct AdamUpdate {
    float shrink, into_gradient, step_size, second_correction;
    float keep_first, take_first, keep_second, take_second, epsilon;
};

extern "C" __global__ void adam_update(float* parameters, const float* gradients, float* firsts, float* seconds,
                                       AdamUpdate update, int count) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= count) return;
    const float parameter = parameters[index];
    const float gradient = gradients[index] + update.into_gradient * parameter;
    const float first = update.keep_first * firsts[index] + update.take_first * gradient;
    const float second = update.keep_second * seconds[index] + update.take_second * (gradient * gradient);
    firsts[index] = first;
    seconds[index] = second;
    const float denominator = sqrtf(second) / update.second_correction + update.epsilon;
    parameters[index] = update.shrink * parameter - update.step_size * (first / denominator);
}
