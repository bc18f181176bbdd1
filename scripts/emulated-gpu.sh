#!/usr/bin/env bash
# Makes target/emulated-gpu/: an emulated GPU in the place of the CUDA driver, cuBLAS and cuRAND (kernels/emu/driver.cc).
# A program built with `--features cuda` then runs its kernels on the host, slowly and under checks:
#
#   scripts/emulated-gpu.sh
#   LD_LIBRARY_PATH=$PWD/target/emulated-gpu SIMPLENET_REQUIRE_GPU=1 cargo test -p simplenet-kernels --features cuda --test cuda
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=${CARGO_TARGET_DIR:-target}/emulated-gpu
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
# As in build.rs of the crate, which compiles the same for the emulator's own tests.
c++ -shared -fPIC -fvisibility=hidden -std=c++17 -O3 -Wall -Wextra -Wno-unknown-pragmas -fno-strict-aliasing -ffp-contract=off \
    -fsanitize=alignment,bounds,shift,integer-divide-by-zero -fsanitize-undefined-trap-on-error \
    crates/simplenet-kernels/kernels/emu/driver.cc -o "$folder/libcuda.so.1"
ln -sf libcuda.so.1 "$folder/libcublas.so.13"
ln -sf libcuda.so.1 "$folder/libcurand.so.10"
echo "$folder"
