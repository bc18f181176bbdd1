// Every kernel of kernels/*.cu, compiled for the host. A new file is an #include below, a new kernel a name in KERNELS.
#define SIMPLENET_EMU
#include "launch.h"

// In a namespace without linkage, the statics that shared memory is made of may share one section.
namespace {
#include "../adam.cuh"
#include "../columns.cuh"
#include "../common.cuh"
#include "../hopper.cuh"

namespace faults {
#include "faults.cu"
}
namespace candle {
#include "candle.cu"
}
namespace conv {
#include "../conv.cu"
}
namespace adam {
#include "../adam.cu"
}
namespace discriminator {
#include "../discriminator.cu"
}
namespace epilogue {
#include "../epilogue.cu"
}
namespace head {
#include "../head.cu"
}
namespace maps {
#include "../maps.cu"
}
namespace noise {
#include "../noise.cu"
}
namespace patch {
#include "../patch.cu"
}

#define KERNEL(file, name) emu::kernel(#name, file::name)
const emu::Kernel KERNELS[] = {
    KERNEL(faults, reverse_block),
    KERNEL(faults, reverse_copied),
    KERNEL(faults, double_overlapping),
    KERNEL(faults, sum_of_blocks),
    KERNEL(faults, swap_neighbours),
    KERNEL(faults, multiply_tile_bf16),
    KERNEL(faults, multiply_tile_tf32),
    KERNEL(faults, multiply_tiles_bf16),
    KERNEL(faults, multiply_tiles_tf32),
    KERNEL(faults, collect),

    KERNEL(candle, copy2d_f32),
    KERNEL(candle, const_set_f32),
    KERNEL(candle, badd_f32),
    KERNEL(candle, bmul_f32),

    KERNEL(conv, conv_bf16_warp_64),
    KERNEL(conv, conv_bf16_warp_128),
    KERNEL(conv, conv_bf16_warpgroup_64),
    KERNEL(conv, conv_bf16_warpgroup_128),
    KERNEL(conv, conv_tf32_warp_64),
    KERNEL(conv, conv_tf32_warp_128),
    KERNEL(conv, conv_tf32_warpgroup_64),
    KERNEL(conv, conv_tf32_warpgroup_128),
    KERNEL(conv, conv_f32),
    KERNEL(conv, depthwise_f32),
    KERNEL(conv, depthwise_tf32),
    KERNEL(conv, depthwise_bf16),
    KERNEL(conv, max_pool_f32),
    KERNEL(conv, max_pool_bf16),
    KERNEL(conv, channels_last_f32),
    KERNEL(conv, channels_last_tf32),
    KERNEL(conv, channels_last_bf16),
    KERNEL(conv, pixel_pairs_tf32),
    KERNEL(conv, pixel_pairs_bf16),

    KERNEL(adam, adam_update),

    KERNEL(discriminator, discriminator_statistics),
    KERNEL(discriminator, discriminator_scores),
    KERNEL(discriminator, discriminator_back_sums),
    KERNEL(discriminator, discriminator_gradients),
    KERNEL(discriminator, discriminator_back),
    KERNEL(discriminator, truncated_l1),
    KERNEL(discriminator, truncated_l1_back),

    KERNEL(epilogue, bias_activation),
    KERNEL(epilogue, bias_activation_x4),

    KERNEL(head, hidden_sums),
    KERNEL(head, hidden_statistics),
    KERNEL(head, hidden_scores),
    KERNEL(head, hidden_gradients),
    KERNEL(head, hidden_back_f32),
    KERNEL(head, hidden_back_bf16),
    KERNEL(head, fold_bias),
    KERNEL(head, inner_forward_f32),
    KERNEL(head, inner_forward_bf16),
    KERNEL(head, inner_back_f32),
    KERNEL(head, inner_back_bf16),
    KERNEL(head, merge_columns),
    KERNEL(head, adam_f32),
    KERNEL(head, adam_bf16),
    KERNEL(head, end_step),
    KERNEL(head, score_rows),
    KERNEL(head, fold_batch_norm),
    KERNEL(head, channel_sums),
    KERNEL(head, find_not_finite),

    KERNEL(maps, anomaly_maps),

    KERNEL(noise, fill_normal),
    KERNEL(noise, add_normal),
    KERNEL(noise, gather_f32),
    KERNEL(noise, gather_bf16),

    KERNEL(noise, standardize_f32),
    KERNEL(noise, standardize_bf16),
    KERNEL(patch, mean_embed_f32),
    KERNEL(patch, mean_embed_bf16),
    KERNEL(patch, code_pool_f32),
    KERNEL(patch, code_pool_bf16),
    KERNEL(patch, add_resized),
};
}  // namespace

// Has `kernel` run behind the launches before it; null or what went wrong with one of them. `arguments` are pointers to the
// values, of the kinds that `signature` names.
extern "C" const char* simplenet_emu_launch(const char* kernel, const char* signature, const unsigned* grid, const unsigned* block,
                                            size_t shared, unsigned order, bool overlaps, void* const* arguments) {
    static std::string fault;
    const emu::Shape shape{{grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared, overlaps};
    for (const emu::Kernel& known : KERNELS) {
        if (strcmp(known.name, kernel) != 0) continue;
        fault = emu::queue.add(std::make_unique<emu::Launch>(known, signature, shape, order, arguments));
        return fault.empty() ? nullptr : fault.c_str();
    }
    return "no such kernel in kernels/emu/emulator.cc";
}

// Waits for all launches; null or what went wrong with one of them.
extern "C" const char* simplenet_emu_finish() {
    static std::string fault;
    fault = emu::queue.finish();
    return fault.empty() ? nullptr : fault.c_str();
}
