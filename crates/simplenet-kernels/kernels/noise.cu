// Counter-based normals, and the features of a training step with their noise. Reference: simplenet_kernels::noise, whose
// module says which word makes which normal; the bits are the same, so no operation here may be fused.
#include "common.cuh"

struct Words {
    uint32_t w[4];
};

__device__ __forceinline__ Words philox4x32_10(Words x, uint32_t key0, uint32_t key1) {
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const uint64_t first = uint64_t(0xD2511F53u) * x.w[0], second = uint64_t(0xCD9E8D57u) * x.w[2];
        x = {{uint32_t(second >> 32) ^ x.w[1] ^ key0, uint32_t(second), uint32_t(first >> 32) ^ x.w[3] ^ key1, uint32_t(first)}};
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return x;
}

__device__ __forceinline__ float mul(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ float add(float a, float b) { return __fadd_rn(a, b); }

// Natural logarithm of a normal number in (0, 1] (Cephes' logf).
__device__ __forceinline__ float natural_log(float x) {
    const uint32_t sqrt_half = 0x3F3504F3u, one = 0x3F800000u;
    const uint32_t bits = __float_as_uint(x) + (one - sqrt_half);
    const float exponent = float(int(bits >> 23) - 127);
    const float y = add(__uint_as_float((bits & 0x007FFFFFu) + sqrt_half), -1.0f);
    const float square = mul(y, y);
    float sum = 7.0376836e-2f;
    sum = add(mul(sum, y), -1.151461e-1f);
    sum = add(mul(sum, y), 1.1676999e-1f);
    sum = add(mul(sum, y), -1.2420141e-1f);
    sum = add(mul(sum, y), 1.4249323e-1f);
    sum = add(mul(sum, y), -1.6668057e-1f);
    sum = add(mul(sum, y), 2.0000715e-1f);
    sum = add(mul(sum, y), -2.4999994e-1f);
    sum = add(mul(sum, y), 3.333333e-1f);
    const float tail = add(add(mul(mul(y, square), sum), -mul(2.1219444e-4f, exponent)), -mul(0.5f, square));
    return add(add(y, tail), mul(0.6933594f, exponent));
}

// Cosine and sine of turn / 2^32 of a full turn (Cephes' cosf and sinf).
__device__ __forceinline__ float2 cosine_sine(uint32_t turn) {
    const uint32_t eighth = 1u << 29;
    const uint32_t turned = turn + eighth, quadrant = turned >> 30;
    const int within = int(turned & (2 * eighth - 1)) - int(eighth);
    const float angle = mul(float(within), 0.78539816339744830962f / 536870912.0f);
    const float square = mul(angle, angle);
    float sine = -1.9515296e-4f;
    sine = add(mul(sine, square), 8.332161e-3f);
    sine = add(mul(sine, square), -1.6666655e-1f);
    sine = add(mul(mul(sine, square), angle), angle);
    float cosine = 2.4433157e-5f;
    cosine = add(mul(cosine, square), -1.3887316e-3f);
    cosine = add(mul(cosine, square), 4.1666646e-2f);
    cosine = add(add(mul(mul(cosine, square), square), -mul(0.5f, square)), 1.0f);
    const bool odd = quadrant & 1;
    const float across = odd ? sine : cosine, up = odd ? cosine : sine;
    return make_float2(__uint_as_float(__float_as_uint(across) ^ ((quadrant + 1) & 2) << 30),
                       __uint_as_float(__float_as_uint(up) ^ (quadrant & 2) << 30));
}

__device__ __forceinline__ float2 box_muller(uint32_t first, uint32_t second) {
    const float uniform = mul(add(__uint2float_rn(first), 0.5f), 1.0f / 4294967296.0f);
    const float radius = __fsqrt_rn(mul(-2.0f, natural_log(uniform)));
    const float2 direction = cosine_sine(second);
    return make_float2(mul(radius, direction.x), mul(radius, direction.y));
}

// The four normals of block `block`: elements 64 (block / 16) + block % 16 and those 16, 32 and 48 on.
__device__ __forceinline__ float4 normals(uint64_t block, uint64_t seed, uint64_t stream) {
    const Words words = philox4x32_10({{uint32_t(block), uint32_t(block >> 32), uint32_t(stream), uint32_t(stream >> 32)}},
                                      uint32_t(seed), uint32_t(seed >> 32));
    const float2 first = box_muller(words.w[0], words.w[1]), second = box_muller(words.w[2], words.w[3]);
    return make_float4(first.x, first.y, second.x, second.y);
}

// output[e] = sigma times normal e of (seed, stream), or that much more than it was. One block of the generator per thread.
template <bool ADD>
__device__ __forceinline__ void write_normals(float* output, uint64_t seed, uint64_t stream, float sigma, int count) {
    const int block = blockIdx.x * blockDim.x + threadIdx.x;
    const int first = block / 16 * 64 + block % 16;
    if (first >= count) return;
    const float4 four = normals(block, seed, stream);
    const float values[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int lane = 0; lane < 4; ++lane) {
        const int element = first + 16 * lane;
        if (element >= count) continue;
        const float noise = mul(sigma, values[lane]);
        output[element] = ADD ? add(output[element], noise) : noise;
    }
}

extern "C" __global__ void fill_normal(float* output, uint64_t seed, uint64_t stream, float sigma, int count) {
    write_normals<false>(output, seed, stream, sigma, count);
}

extern "C" __global__ void add_normal(float* output, uint64_t seed, uint64_t stream, float sigma, int count) {
    write_normals<true>(output, seed, stream, sigma, count);
}

// A training step's place in its epoch, kept on the device so that one launch list serves every step.
struct Progress {
    // Steps since the start of training: the noise's stream.
    unsigned long long step;
    // The next image of the epoch's order.
    unsigned long long next_image;
};

// features[e] = (bank[order[next_image ...]][e] - mean) * scale, and noise[e] = sigma times normal e of the step's stream.
// `order` lists the epoch's images, `image_size` is rows times dim. `mean` is null where nothing is standardised.
template <typename T>
__device__ __forceinline__ void gather(const float* bank, const int* order, const Progress* progress, const float* mean,
                                       const float* scale, T* features, T* noise, uint64_t seed, uint64_t purpose,
                                       float sigma, int image_size, int dim, int count) {
    const int block = blockIdx.x * blockDim.x + threadIdx.x;
    const int first = block / 16 * 64 + block % 16;
    if (first >= count) return;
    const float4 four = normals(block, seed, purpose << 56 | progress->step);
    const float values[4] = {four.x, four.y, four.z, four.w};
    const int next_image = int(progress->next_image);
#pragma unroll
    for (int lane = 0; lane < 4; ++lane) {
        const int element = first + 16 * lane;
        if (element >= count) return;
        const int image = element / image_size, within = element - image * image_size;
        float value = bank[size_t(order[next_image + image]) * image_size + within];
        if (mean) {
            const int channel = within % dim;
            value = mul(add(value, -mean[channel]), scale[channel]);
        }
        features[element] = from_float<T>(value);
        noise[element] = from_float<T>(mul(sigma, values[lane]));
    }
}

extern "C" __global__ void gather_f32(const float* bank, const int* order, const Progress* progress, const float* mean,
                                      const float* scale, float* features, float* noise, uint64_t seed, uint64_t purpose,
                                      float sigma, int image_size, int dim, int count) {
    gather(bank, order, progress, mean, scale, features, noise, seed, purpose, sigma, image_size, dim, count);
}
extern "C" __global__ void gather_bf16(const float* bank, const int* order, const Progress* progress, const float* mean,
                                       const float* scale, __nv_bfloat16* features, __nv_bfloat16* noise, uint64_t seed,
                                       uint64_t purpose, float sigma, int image_size, int dim, int count) {
    gather(bank, order, progress, mean, scale, features, noise, seed, purpose, sigma, image_size, dim, count);
}

// Rows [count / dim, dim] standardised and converted, for scoring.
template <typename T>
__device__ __forceinline__ void standardize(const float* rows, const float* mean, const float* scale, T* output, int dim, int count) {
    const int element = blockIdx.x * blockDim.x + threadIdx.x;
    if (element >= count) return;
    float value = rows[element];
    if (mean) value = mul(add(value, -mean[element % dim]), scale[element % dim]);
    output[element] = from_float<T>(value);
}

extern "C" __global__ void standardize_f32(const float* rows, const float* mean, const float* scale, float* output, int dim, int count) {
    standardize(rows, mean, scale, output, dim, count);
}
extern "C" __global__ void standardize_bf16(const float* rows, const float* mean, const float* scale, __nv_bfloat16* output,
                                            int dim, int count) {
    standardize(rows, mean, scale, output, dim, count);
}
