// A training step of the head between its matrix products: the discriminator's hidden layer forward and back, the loss,
// Adam. Reference: simplenet_heads::hidden, loss and optimizer, whose three sweeps and symbols these are.
//
// Pre-activations come as z [rows, hidden] of the normal features and e, what the noise adds to it; batch norm's statistics
// are over z and z + e together. Every sum has a fixed order, so a step is a function of its arguments.
#include "adam.cuh"
#include "columns.cuh"
#include "common.cuh"

// Rows whose sums one block makes.
constexpr int ROWS_PER_PARTIAL = 16;
constexpr float LEAKY_SLOPE = 0.2f;
constexpr double EPSILON = 1e-5;
constexpr double MOMENTUM = 0.1;

// What the sweeps find per hidden unit; each points to `hidden` floats.
struct Units {
    float* mean;
    float* inverse_deviation;
    float* scale;
    float* back_weight;
    float* back_offset;
    float* back_slope;
};

// 0: truncated L1 with its two margins; 1: cross entropy.
struct Loss {
    int kind;
    float positive, negative, share;
};

__device__ __forceinline__ float leaky(float x) {
    const float scaled = x * LEAKY_SLOPE;
    return x > scaled ? x : scaled;
}
__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// The loss's derivative with respect to a score; at a margin itself it is not zero, as with torch.clip.
__device__ __forceinline__ float at_normal(const Loss& loss, float score) {
    if (loss.kind == 1) return -sigmoid(-score) * loss.share;
    return loss.positive - score >= 0.0f ? -loss.share : 0.0f;
}
__device__ __forceinline__ float at_noised(const Loss& loss, float score) {
    if (loss.kind == 1) return sigmoid(score) * loss.share;
    return score - loss.negative >= 0.0f ? loss.share : 0.0f;
}

// First sweep. partials [blocks of rows, 2 hidden]: sums of differences from the first row and of their squares.
// Grid: blocks of 128 units times blocks of rows; 128 threads.
extern "C" __global__ void hidden_sums(const float* z, const float* e, float* partials, int rows, int hidden) {
    const int2 block = block_of_two((hidden + blockDim.x - 1) / blockDim.x);
    const int unit = block.x * blockDim.x + threadIdx.x;
    if (unit >= hidden) return;
    const int begin = block.y * ROWS_PER_PARTIAL, end = min(begin + ROWS_PER_PARTIAL, rows);
    const float shift = z[unit];
    float first = 0.0f, second = 0.0f;
#pragma unroll 4
    for (int row = begin; row < end; ++row) {
        const float normal = z[size_t(row) * hidden + unit] - shift;
        const float noised = normal + e[size_t(row) * hidden + unit];
        first += normal + noised;
        second += normal * normal + noised * noised;
    }
    partials[size_t(block.y) * 2 * hidden + unit] = first;
    partials[size_t(block.y) * 2 * hidden + hidden + unit] = second;
}

// Mean and deviation of every unit, and PyTorch's update of the running statistics. `bias` is the first layer's, folded.
extern "C" __global__ void hidden_statistics(const float* partials, int count, const float* z, const float* gamma,
                                             const float* bias, float* running_mean, float* running_var, Units units, int rows,
                                             int hidden) {
    const int unit = blockIdx.x * MERGE_COLUMNS + threadIdx.x;
    const double2 sums = merge(partials, count, hidden, unit);
    if (threadIdx.y != 0 || unit >= hidden) return;
    const double total = 2.0 * rows;
    const double offset = sums.x / total;
    double variance = sums.y / total - offset * offset;
    if (variance < 0.0) variance = 0.0;
    const double mean = double(z[unit]) + offset;
    // An infinite variance would silence the unit; the loss must show it instead.
    const double inverse = isfinite(variance) ? 1.0 / sqrt(variance + EPSILON) : double(NAN);
    units.mean[unit] = float(mean);
    units.inverse_deviation[unit] = float(inverse);
    units.scale[unit] = float(inverse * double(gamma[unit]));
    running_mean[unit] = float((1.0 - MOMENTUM) * double(running_mean[unit]) + MOMENTUM * (mean + double(bias[unit])));
    running_var[unit] = float((1.0 - MOMENTUM) * double(running_var[unit]) + MOMENTUM * (variance * total / (total - 1.0)));
}

// Second sweep: D of every row, and sums of g slope and g slope (x - mean) per unit, where g is the loss's derivative at the
// row's score. One block of 256 threads per 16 rows.
extern "C" __global__ void hidden_scores(const float* z, const float* e, Units units, const float* beta, const float* output,
                                         Loss loss, float* normal_scores, float* noised_scores, float* partials, int rows,
                                         int hidden) {
    __shared__ float gradients[ROWS_PER_PARTIAL][2];
    const int begin = blockIdx.x * ROWS_PER_PARTIAL, end = min(begin + ROWS_PER_PARTIAL, rows);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    for (int row = begin + warp; row < end; row += warps) {
        float normal = 0.0f, noised = 0.0f;
#pragma unroll 4
        for (int unit = lane; unit < hidden; unit += 32) {
            const float centred = z[size_t(row) * hidden + unit] - units.mean[unit];
            const float moved = centred + e[size_t(row) * hidden + unit];
            normal += leaky(centred * units.scale[unit] + beta[unit]) * output[unit];
            noised += leaky(moved * units.scale[unit] + beta[unit]) * output[unit];
        }
        normal = warp_sum(normal);
        noised = warp_sum(noised);
        if (lane == 0) {
            normal_scores[row] = normal;
            noised_scores[row] = noised;
            gradients[row - begin][0] = at_normal(loss, normal);
            gradients[row - begin][1] = at_noised(loss, noised);
        }
    }
    __syncthreads();
    for (int unit = threadIdx.x; unit < hidden; unit += blockDim.x) {
        const float mean = units.mean[unit], scale = units.scale[unit], offset = beta[unit];
        float first = 0.0f, second = 0.0f;
        for (int row = begin; row < end; ++row) {
            const float normal = gradients[row - begin][0], noised = gradients[row - begin][1];
            // Rows past their margins add nothing, and late in training most are.
            if (normal == 0.0f && noised == 0.0f) continue;
            const float centred = z[size_t(row) * hidden + unit] - mean;
            const float moved = centred + e[size_t(row) * hidden + unit];
            const float at_centred = centred * scale + offset > 0.0f ? normal : normal * LEAKY_SLOPE;
            const float at_moved = moved * scale + offset > 0.0f ? noised : noised * LEAKY_SLOPE;
            if (normal != 0.0f) first += at_centred, second += at_centred * centred;
            if (noised != 0.0f) first += at_moved, second += at_moved * moved;
        }
        partials[size_t(blockIdx.x) * 2 * hidden + unit] = first;
        partials[size_t(blockIdx.x) * 2 * hidden + hidden + unit] = second;
    }
}

// Gradients of batch norm and of the last layer, and what the third sweep needs.
extern "C" __global__ void hidden_gradients(const float* partials, int count, const float* gamma, const float* beta,
                                            const float* output, Units units, float* gamma_gradient, float* beta_gradient,
                                            float* output_gradient, int rows, int hidden) {
    const int unit = blockIdx.x * MERGE_COLUMNS + threadIdx.x;
    const double2 sums = merge(partials, count, hidden, unit);
    if (threadIdx.y != 0 || unit >= hidden) return;
    const double total = 2.0 * rows, inverse = units.inverse_deviation[unit], weight = output[unit];
    const double plain = sums.x, normalised = sums.y * inverse;
    output_gradient[unit] = float(double(gamma[unit]) * normalised + double(beta[unit]) * plain);
    beta_gradient[unit] = float(weight * plain);
    gamma_gradient[unit] = float(weight * normalised);
    const double back = double(gamma[unit]) * inverse * weight;
    units.back_weight[unit] = float(back);
    units.back_offset[unit] = float(back * plain / total);
    units.back_slope[unit] = float(back * inverse * normalised / total);
}

// Third sweep: gradients of the pre-activations; those of the noised rows to `noised_back`, the sum of both to `sum_back`.
// One value per thread.
template <typename T>
__device__ __forceinline__ void hidden_back(const float* z, const float* e, Units units, const float* beta, Loss loss,
                                            const float* normal_scores, const float* noised_scores, T* sum_back,
                                            T* noised_back, int rows, int hidden) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= rows * hidden) return;
    const int row = index / hidden, unit = index - row * hidden;
    const float normal = at_normal(loss, normal_scores[row]), noised = at_noised(loss, noised_scores[row]);
    const float centred = z[index] - units.mean[unit], moved = centred + e[index];
    const float at_centred = centred * units.scale[unit] + beta[unit] > 0.0f ? normal : normal * LEAKY_SLOPE;
    const float at_moved = moved * units.scale[unit] + beta[unit] > 0.0f ? noised : noised * LEAKY_SLOPE;
    const float weight = units.back_weight[unit], offset = units.back_offset[unit], slope = units.back_slope[unit];
    const float back_normal = at_centred * weight - offset - centred * slope;
    const float back_noised = at_moved * weight - offset - moved * slope;
    sum_back[index] = from_float<T>(back_normal + back_noised);
    noised_back[index] = from_float<T>(back_noised);
}

extern "C" __global__ void hidden_back_f32(const float* z, const float* e, Units units, const float* beta, Loss loss,
                                           const float* normal_scores, const float* noised_scores, float* sum_back,
                                           float* noised_back, int rows, int hidden) {
    hidden_back(z, e, units, beta, loss, normal_scores, noised_scores, sum_back, noised_back, rows, hidden);
}
extern "C" __global__ void hidden_back_bf16(const float* z, const float* e, Units units, const float* beta, Loss loss,
                                            const float* normal_scores, const float* noised_scores, __nv_bfloat16* sum_back,
                                            __nv_bfloat16* noised_back, int rows, int hidden) {
    hidden_back(z, e, units, beta, loss, normal_scores, noised_scores, sum_back, noised_back, rows, hidden);
}

// out[h] = own[h] + sum over i of weight[h, i] bias[i]; `bias` may be null. One warp per unit.
extern "C" __global__ void fold_bias(const float* own, const float* weight, const float* bias, float* out, int hidden, int dim) {
    const int unit = warp_of_grid(), lane = threadIdx.x % 32;
    if (unit >= hidden) return;
    double sum = 0.0;
    if (bias) {
        for (int i = lane; i < dim; i += 32) sum += double(weight[size_t(unit) * dim + i]) * double(bias[i]);
        sum = warp_sum(sum);
    }
    if (lane == 0) out[unit] = float(double(own[unit]) + sum);
}

// Two-layer adaptor: values = leaky(values + bias) in place, and a copy in the products' type; `bias` may be null.
template <typename T>
__device__ __forceinline__ void inner_forward(float* values, const float* bias, T* copy, int count, int dim) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= count) return;
    const float value = leaky(values[index] + (bias ? bias[index % dim] : 0.0f));
    values[index] = value;
    copy[index] = from_float<T>(value);
}
extern "C" __global__ void inner_forward_f32(float* values, const float* bias, float* copy, int count, int dim) {
    inner_forward(values, bias, copy, count, dim);
}
extern "C" __global__ void inner_forward_bf16(float* values, const float* bias, __nv_bfloat16* copy, int count, int dim) {
    inner_forward(values, bias, copy, count, dim);
}

// Its way back: gradients through LeakyReLU, whose output has the sign of its input, a copy in the products' type, and sums
// over 16 rows to partials [blocks of rows, 2 dim] (the second half zeros, so that `merge` serves here too).
// Grid: blocks of 128 channels times blocks of rows; 128 threads.
template <typename T>
__device__ __forceinline__ void inner_back(const float* gradient, const float* values, T* copy, float* partials, int rows, int dim) {
    const int2 block = block_of_two((dim + blockDim.x - 1) / blockDim.x);
    const int channel = block.x * blockDim.x + threadIdx.x;
    if (channel >= dim) return;
    const int begin = block.y * ROWS_PER_PARTIAL, end = min(begin + ROWS_PER_PARTIAL, rows);
    float sum = 0.0f;
    for (int row = begin; row < end; ++row) {
        const size_t at = size_t(row) * dim + channel;
        const float back = values[at] > 0.0f ? gradient[at] : gradient[at] * LEAKY_SLOPE;
        copy[at] = from_float<T>(back);
        sum += back;
    }
    partials[size_t(block.y) * 2 * dim + channel] = sum;
    partials[size_t(block.y) * 2 * dim + dim + channel] = 0.0f;
}
extern "C" __global__ void inner_back_f32(const float* gradient, const float* values, float* copy, float* partials, int rows, int dim) {
    inner_back(gradient, values, copy, partials, rows, dim);
}
extern "C" __global__ void inner_back_bf16(const float* gradient, const float* values, __nv_bfloat16* copy, float* partials,
                                           int rows, int dim) {
    inner_back(gradient, values, copy, partials, rows, dim);
}

extern "C" __global__ void merge_columns(const float* partials, int count, float* sums, int width) {
    const int column = blockIdx.x * MERGE_COLUMNS + threadIdx.x;
    const double2 both = merge(partials, count, width, column);
    if (threadIdx.y == 0 && column < width) sums[column] = float(both.x);
}

// Adam or AdamW on all parameters: the first `adaptor_count` by steps[0], the others by steps[1]; `copy` takes the new
// parameters in the products' type, where it is not null.
template <typename T>
__device__ __forceinline__ void adam(float* parameters, const float* gradients, float* firsts, float* seconds, T* copy,
                                     const AdamStep* steps, int adaptor_count, int count) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= count) return;
    const AdamStep step = steps[index < adaptor_count ? 0 : 1];
    float first = firsts[index], second = seconds[index];
    const float parameter = adam_updated(step, default_decay(), parameters[index], gradients[index], first, second);
    firsts[index] = first;
    seconds[index] = second;
    parameters[index] = parameter;
    if (copy) copy[index] = from_float<T>(parameter);
}
extern "C" __global__ void adam_f32(float* parameters, const float* gradients, float* firsts, float* seconds, float* copy,
                                    const AdamStep* steps, int adaptor_count, int count) {
    adam(parameters, gradients, firsts, seconds, copy, steps, adaptor_count, count);
}
extern "C" __global__ void adam_bf16(float* parameters, const float* gradients, float* firsts, float* seconds,
                                     __nv_bfloat16* copy, const AdamStep* steps, int adaptor_count, int count) {
    adam(parameters, gradients, firsts, seconds, copy, steps, adaptor_count, count);
}

// As in noise.cu.
struct Progress {
    unsigned long long step;
    unsigned long long next_image;
};

struct AdamRule {
    double learning_rate, weight_decay;
    int decoupled;
};

__device__ __forceinline__ AdamStep adam_step(const AdamRule& rule, double update) {
    AdamStep step;
    step.shrink = rule.decoupled ? float(1.0 - rule.learning_rate * rule.weight_decay) : 1.0f;
    step.into_gradient = rule.decoupled ? 0.0f : float(rule.weight_decay);
    step.step_size = float(rule.learning_rate / (1.0 - pow(BETA1, update)));
    step.second_correction = float(sqrt(1.0 - pow(BETA2, update)));
    return step;
}

constexpr int TOTALS = 5;

__device__ __forceinline__ double softplus(double x) { return (x > 0.0 ? x : 0.0) + log1p(exp(-fabs(x))); }

// Last in a step: adds `share` of the loss, the mean scores and the fractions past the margins to `totals`, moves
// `progress` on by `images`, and prepares Adam's next update; updates count from 1, and steps from 0. One block of 256.
extern "C" __global__ void end_step(const float* normal_scores, const float* noised_scores, Loss loss, double share,
                                    double* totals, Progress* progress, AdamStep* steps, AdamRule adaptor, AdamRule discriminator,
                                    int images, int rows) {
    __shared__ double sums[TOTALS][8];
    double mine[TOTALS] = {};
    for (int row = threadIdx.x; row < rows; row += blockDim.x) {
        const double normal = normal_scores[row], noised = noised_scores[row];
        if (loss.kind == 1) {
            mine[0] += softplus(-normal) + softplus(noised);
        } else {
            const double below = double(loss.positive) - normal, above = noised - double(loss.negative);
            // NaN must stay NaN.
            mine[0] += (below < 0.0 ? 0.0 : below) + (above < 0.0 ? 0.0 : above);
        }
        mine[1] += normal;
        mine[2] += noised;
        mine[3] += normal >= double(loss.positive) ? 1.0 : 0.0;
        mine[4] += noised < double(loss.negative) ? 1.0 : 0.0;
    }
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int which = 0; which < TOTALS; ++which) {
        const double sum = warp_sum(mine[which]);
        if (lane == 0) sums[which][warp] = sum;
    }
    __syncthreads();
    if (threadIdx.x < TOTALS) {
        double sum = 0.0;
        for (int index = 0; index < int(blockDim.x) / 32; ++index) sum += sums[threadIdx.x][index];
        totals[threadIdx.x] += share * sum / rows;
    }
    if (threadIdx.x == 32) {
        progress->step += 1;
        progress->next_image += images;
        const double update = double(progress->step) + 1.0;
        steps[0] = adam_step(adaptor, update);
        steps[1] = adam_step(discriminator, update);
    }
}

// scores[row] = -sum of leaky(scale z + shift) output: the head in evaluation mode (Eq. 9). One warp per row.
extern "C" __global__ void score_rows(const float* z, const float* scale, const float* shift, const float* output, float* scores,
                                      int rows, int hidden) {
    const int row = warp_of_grid(), lane = threadIdx.x % 32;
    if (row >= rows) return;
    float sum = 0.0f;
#pragma unroll 4
    for (int unit = lane; unit < hidden; unit += 32) {
        sum += leaky(z[size_t(row) * hidden + unit] * scale[unit] + shift[unit]) * output[unit];
    }
    sum = warp_sum(sum);
    if (lane == 0) scores[row] = -sum;
}

// scale = gamma / sqrt(var + eps), shift = beta + scale (bias - mean): batch norm in evaluation mode with the first layer's
// folded bias.
extern "C" __global__ void fold_batch_norm(const float* gamma, const float* beta, const float* bias, const float* running_mean,
                                           const float* running_var, float* scale, float* shift, int hidden) {
    const int unit = blockIdx.x * blockDim.x + threadIdx.x;
    if (unit >= hidden) return;
    const double factor = double(gamma[unit]) / sqrt(double(running_var[unit]) + EPSILON);
    scale[unit] = float(factor);
    shift[unit] = float(double(beta[unit]) + factor * (double(bias[unit]) - double(running_mean[unit])));
}

// Sums of (x - shift) and (x - shift)^2 per channel over a block of rows, in f64, where shift is the first row: partials
// [blocks of rows, 2 dim]. Grid: (blocks of 128 channels, blocks of rows); 128 threads.
extern "C" __global__ void channel_sums(const float* rows, double* partials, int64_t count, int rows_per_block, int dim) {
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    if (channel >= dim) return;
    const int64_t begin = int64_t(blockIdx.y) * rows_per_block;
    const int64_t end = begin + rows_per_block < count ? begin + rows_per_block : count;
    const double shift = rows[channel];
    double first = 0.0, second = 0.0;
    for (int64_t row = begin; row < end; ++row) {
        const double difference = double(rows[row * dim + channel]) - shift;
        first += difference;
        second += difference * difference;
    }
    partials[int64_t(blockIdx.y) * 2 * dim + channel] = first;
    partials[int64_t(blockIdx.y) * 2 * dim + dim + channel] = second;
}

// Sets flag[0] to 1 where a value is NaN or infinite.
extern "C" __global__ void find_not_finite(const float* values, int64_t count, int* flag) {
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;
    for (int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; index < count; index += stride) {
        if (!isfinite(values[index])) *flag = 1;
    }
}
