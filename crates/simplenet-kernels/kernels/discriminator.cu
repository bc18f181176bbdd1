// A discriminator's scores behind its first layer, and their loss, forward and back. Reference:
// simplenet_kernels::candle_ops::{discriminator_scores, truncated_l1} on the processor.
//
// Pre-activations are z [rows, hidden]. Sums over rows are made in f64 for blocks of rows, and those added up in one order,
// so results are functions of the arguments.
#include "columns.cuh"
#include "common.cuh"

// Rows of a tensor [5, hidden]: the parameters, and what discriminator_statistics finds.
struct Units {
    const float *gamma, *beta, *output, *mean, *inverse;

    __device__ __forceinline__ Units(const float* units, int hidden)
        : gamma(units), beta(units + hidden), output(units + 2 * size_t(hidden)), mean(units + 3 * size_t(hidden)),
          inverse(units + 4 * size_t(hidden)) {}
};

__device__ __forceinline__ float leaky(float x, float slope) { return x > 0.0f ? x : x * slope; }

// Mean and 1/sqrt(biased variance + epsilon) of every unit into statistics [2, hidden], from the partial sums that
// `channel_sums` of head.cu makes of z. Blocks of (32, 8) threads.
extern "C" __global__ void discriminator_statistics(const double* partials, int count, const float* z, float* statistics,
                                                    double epsilon, int rows, int hidden) {
    const int unit = blockIdx.x * MERGE_COLUMNS + threadIdx.x;
    const double2 sums = merge(partials, count, hidden, unit);
    if (threadIdx.y != 0 || unit >= hidden) return;
    const double offset = sums.x / rows;
    double variance = sums.y / rows - offset * offset;
    if (variance < 0.0) variance = 0.0;
    statistics[unit] = float(double(z[unit]) + offset);
    // An infinite variance would silence the unit; the loss must show it instead.
    statistics[hidden + unit] = isfinite(variance) ? float(1.0 / sqrt(variance + epsilon)) : NAN;
}

// scores[row] = sum of leaky(gamma (z - mean) inverse + beta) output. One warp per row.
extern "C" __global__ void discriminator_scores(const float* z, const float* units, float* scores, float slope, int rows,
                                                int hidden) {
    const int row = warp_of_grid(), lane = threadIdx.x % 32;
    if (row >= rows) return;
    const Units of(units, hidden);
    float sum = 0.0f;
#pragma unroll 4
    for (int unit = lane; unit < hidden; unit += 32) {
        const float centred = z[size_t(row) * hidden + unit] - of.mean[unit];
        sum += leaky(centred * (of.gamma[unit] * of.inverse[unit]) + of.beta[unit], slope) * of.output[unit];
    }
    sum = warp_sum(sum);
    if (lane == 0) scores[row] = sum;
}

// Way back, first pass: with g, the gradient of a row's score, times LeakyReLU's slope there, the sums of g and of
// g (z - mean) over `rows_per_block` rows into partials [blocks of rows, 2 hidden].
// Grid: (blocks of 128 units, blocks of rows); 128 threads.
extern "C" __global__ void discriminator_back_sums(const float* z, const float* units, const float* gradient, double* partials,
                                                   float slope, int rows, int rows_per_block, int hidden) {
    const int unit = blockIdx.x * blockDim.x + threadIdx.x;
    if (unit >= hidden) return;
    const int begin = blockIdx.y * rows_per_block, end = rows - begin < rows_per_block ? rows : begin + rows_per_block;
    const Units of(units, hidden);
    const float mean = of.mean[unit], scale = of.gamma[unit] * of.inverse[unit], offset = of.beta[unit];
    double first = 0.0, second = 0.0;
#pragma unroll 4
    for (int row = begin; row < end; ++row) {
        const float centred = z[size_t(row) * hidden + unit] - mean;
        const float back = centred * scale + offset > 0.0f ? gradient[row] : gradient[row] * slope;
        first += double(back);
        second += double(back * centred);
    }
    partials[size_t(blockIdx.y) * 2 * hidden + unit] = first;
    partials[size_t(blockIdx.y) * 2 * hidden + hidden + unit] = second;
}

// Second pass: gradients [5, hidden] of the units, none for the statistics, which the third pass takes as functions of z; and
// what that needs, back [3, hidden], so that dz = weight g - offset - slope (z - mean). Blocks of (32, 8) threads.
extern "C" __global__ void discriminator_gradients(const double* partials, int count, const float* units, float* gradients,
                                                   float* back, int rows, int hidden) {
    const int unit = blockIdx.x * MERGE_COLUMNS + threadIdx.x;
    const double2 sums = merge(partials, count, hidden, unit);
    if (threadIdx.y != 0 || unit >= hidden) return;
    const Units of(units, hidden);
    const double inverse = of.inverse[unit], weight = of.output[unit], gamma = of.gamma[unit], beta = of.beta[unit];
    const double plain = sums.x, normalised = sums.y * inverse;
    gradients[unit] = float(weight * normalised);
    gradients[hidden + unit] = float(weight * plain);
    gradients[2 * hidden + unit] = float(gamma * normalised + beta * plain);
    gradients[3 * hidden + unit] = 0.0f;
    gradients[4 * hidden + unit] = 0.0f;
    back[unit] = float(gamma * inverse * weight);
    back[hidden + unit] = float(gamma * inverse * weight * plain / rows);
    back[2 * hidden + unit] = float(gamma * inverse * inverse * weight * normalised / rows);
}

// Third pass: gradient of z.
extern "C" __global__ void discriminator_back(const float* z, const float* units, const float* gradient, const float* back,
                                              float* out, float slope, int rows, int hidden) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= rows * hidden) return;
    const int row = index / hidden, unit = index - row * hidden;
    const Units of(units, hidden);
    const float centred = z[index] - of.mean[unit];
    const float scale = of.gamma[unit] * of.inverse[unit];
    const float at = centred * scale + of.beta[unit] > 0.0f ? gradient[row] : gradient[row] * slope;
    out[index] = at * back[unit] - back[hidden + unit] - centred * back[2 * hidden + unit];
}

// loss[0] = mean of max(0, positive - normal) + mean of max(0, noised - negative). One block of 256 threads.
extern "C" __global__ void truncated_l1(const float* normal, const float* noised, float* loss, float positive, float negative,
                                        int rows) {
    __shared__ double sums[8];
    double mine = 0.0;
    for (int row = threadIdx.x; row < rows; row += blockDim.x) {
        const double below = double(positive) - double(normal[row]), above = double(noised[row]) - double(negative);
        // NaN must stay NaN.
        mine += (below < 0.0 ? 0.0 : below) + (above < 0.0 ? 0.0 : above);
    }
    mine = warp_sum(mine);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = mine;
    __syncthreads();
    if (threadIdx.x != 0) return;
    double sum = 0.0;
    for (int warp = 0; warp < 8; ++warp) sum += sums[warp];
    loss[0] = float(sum / rows);
}

// Its way back: gradient[0] of the loss to out [2, rows], those of the normal scores first. At a margin itself they are not
// zero, as with torch.clip.
extern "C" __global__ void truncated_l1_back(const float* normal, const float* noised, const float* gradient, float* out,
                                             float positive, float negative, float share, int rows) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    const float back = gradient[0] * share;
    out[row] = positive - normal[row] >= 0.0f ? -back : 0.0f;
    out[size_t(rows) + row] = noised[row] - negative >= 0.0f ? back : 0.0f;
}
