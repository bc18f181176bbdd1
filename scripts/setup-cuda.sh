#!/usr/bin/env bash
# Makes .cuda/: the CUDA 13.0 compiler and headers (105 MB of wheels, 215 MB on disk), stand-ins for the CUDA libraries to
# link against, and env.sh. No GPU, driver or CUDA installation is needed. A second run changes nothing.
#
#   scripts/setup-cuda.sh && . .cuda/env.sh && cargo build --features cuda
#
# 13.0 and not newer: the driver series 580 refuses the PTX of later compilers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

destination=$PWD/.cuda
root=$destination/nvidia/cu13
wheels=(
    nvidia-cuda-nvcc==13.0.88    # nvcc, ptxas, fatbinary
    nvidia-nvvm==13.0.88         # cicc, libdevice
    nvidia-cuda-crt==13.0.88     # include/crt
    nvidia-cuda-runtime==13.0.96 # cuda_runtime.h, cuda_bf16.h, libcudart_static.a
    nvidia-cuda-cccl==13.0.85    # cub and libcu++, which candle's kernels include
)

if [[ $(cat "$destination/wheels.txt" 2>/dev/null) != "${wheels[*]}" ]]; then
    rm -rf "$destination"
    mkdir -p "$destination"
    if ! python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile \
        --only-binary=:all: --target "$destination" "${wheels[@]}"; then
        echo 'setup-cuda: the CUDA compiler could not be installed from PyPI' >&2
        exit 1
    fi
    chmod +x "$root"/bin/* "$root"/nvvm/bin/*
    rm -f "$root"/lib/libnvvm.so* # 63 MB that the compiler does not open
    echo "${wheels[*]}" >"$destination/wheels.txt"
fi

# The stand-ins follow the version of cudarc in Cargo.lock.
cudarc=$(cargo metadata --format-version 1 --manifest-path xtask/Cargo.toml --features cuda \
    --filter-platform x86_64-unknown-linux-gnu |
    python3 -c 'import json, pathlib, sys
print(next(pathlib.Path(p["manifest_path"]).parent for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"))')
stubs=$root/lib/stubs
made_for="$(basename "$cudarc") $(cksum <scripts/gen_shim.py)"
if [[ $(cat "$stubs/made-for.txt" 2>/dev/null) != "$made_for" ]]; then
    rm -rf "$stubs"
    python3 scripts/gen_shim.py "$cudarc/src" "$stubs"
    cp "$root/lib/libcudart_static.a" "$stubs/libcudart.a"
    echo "$made_for" >"$stubs/made-for.txt"
fi

# Compute capability 8.0 for candle's own kernels: PTX that every card since Ampere accepts.
cat >"$destination/env.sh" <<ENV
export CUDA_HOME='$root'
export PATH="\$CUDA_HOME/bin:\$PATH"
export NVCC='$PWD/scripts/nvcc-wrap'
export CUDA_COMPUTE_CAP=80 CUDARC_CUDA_VERSION=13000
export CUDAFORGE_THREADS=$(nproc)
ENV
echo "the CUDA compiler is ready: . .cuda/env.sh"
