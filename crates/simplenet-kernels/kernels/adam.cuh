// Adam and AdamW for one parameter, by PyTorch's formula in its order of operations. Reference:
// simplenet_kernels::adam::AdamUpdate.
#pragma once

#include "common.cuh"

// PyTorch's defaults, as simplenet_kernels::adam::AdamConfig::default has them.
constexpr double BETA1 = 0.9, BETA2 = 0.999;

// What changes from update to update or differs between groups of parameters; learning rate and bias correction in one.
struct AdamStep {
    float shrink, into_gradient, step_size, second_correction;
};
// What does not.
struct AdamDecay {
    float keep_first, take_first, keep_second, take_second, epsilon;
};
struct AdamUpdate {
    AdamStep step;
    AdamDecay decay;
};
__device__ __forceinline__ AdamDecay default_decay() {
    return {float(BETA1), float(1.0 - BETA1), float(BETA2), float(1.0 - BETA2), 1e-8f};
}

// The parameter after its update; `first` and `second` are its moments, before and after.
__device__ __forceinline__ float adam_updated(const AdamStep& step, const AdamDecay& decay, float parameter, float gradient,
                                              float& first, float& second) {
    gradient += step.into_gradient * parameter;
    first = decay.keep_first * first + decay.take_first * gradient;
    second = decay.keep_second * second + decay.take_second * (gradient * gradient);
    return step.shrink * parameter - step.step_size * (first / (sqrtf(second) / step.second_correction + decay.epsilon));
}
