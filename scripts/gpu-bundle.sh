#!/usr/bin/env bash
# Makes .gpu/: all that a machine with a GPU, but without Rust or a network, needs to test and time this project. At most
# 58 MiB; beside the checkout's own files (experiments, backbone) it holds programs and tests, compressed.
#
#   scripts/gpu-bundle.sh        here; then, there, in a copy of the checkout:
#   .gpu/run.sh                  device and library versions, the GPU tests, `xtask bench cuda`
#   .gpu/run.sh bench --quick    only the benchmark, with these arguments
#   .gpu/run.sh tests patch      only the tests, of these names
#   .gpu/run.sh sanitizer patch  the same under NVIDIA's compute-sanitizer: memcheck, racecheck, initcheck, synccheck
#   . .gpu/env.sh                for commands of your own: .gpu/bin is on the PATH
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

profile=${PROFILE:-dev}
limit=58 # MiB
scripts/setup-cuda.sh
. .cuda/env.sh

rm -rf .gpu
mkdir -p .gpu/content/bin .gpu/content/tests
# The packages of `cargo test --workspace`, so that most dependencies are built once for both.
cargo build --workspace --features xtask/cuda --profile "$profile" --message-format=json \
    --bin xtask --bin simplenet --test cuda >.gpu/artifacts.json
python3 - .gpu/artifacts.json .gpu/content <<'PYTHON'
import json, shutil, sys

artifacts, content = sys.argv[1:]
for line in open(artifacts):
    message = json.loads(line)
    if message.get("reason") != "compiler-artifact" or not message.get("executable"):
        continue
    if message["profile"]["test"]:
        if message["target"]["kind"] != ["test"]:
            continue
        package = message["manifest_path"].split("/")[-2]
        target = f"{content}/tests/{package}"
    else:
        target = f"{content}/bin/{message['target']['name']}"
    shutil.copy(message["executable"], target)
    print(target.removeprefix(content + "/"))
PYTHON
rm .gpu/artifacts.json
strip .gpu/content/bin/* .gpu/content/tests/*

# NVIDIA's checker of memory accesses and races, for CUDA 13.0 (14 MB).
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile --only-binary=:all: \
    --target .gpu/sanitizer nvidia-cuda-sanitizer-api==13.0.85
mkdir .gpu/content/sanitizer
mv .gpu/sanitizer/nvidia/cu13/bin .gpu/sanitizer/nvidia/cu13/lib .gpu/content/sanitizer
rm -r .gpu/sanitizer
chmod +x .gpu/content/sanitizer/bin/compute-sanitizer

tar -C .gpu/content -cf - . | gzip -6 >.gpu/content.tar.gz
rm -r .gpu/content

commit=$(git rev-parse --short=12 HEAD)
git diff --quiet HEAD || commit+=-dirty
echo "export SIMPLENET_COMMIT=$commit" >.gpu/env.sh
cat >>.gpu/env.sh <<'ENV'
# Finds the CUDA libraries that the programs open: those of Python's wheels (as PyTorch brings them), else an installed toolkit.
gpu_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ ! "$gpu_folder/unpacked" -nt "$gpu_folder/content.tar.gz" ]; then
    tar -C "$gpu_folder" -xzf "$gpu_folder/content.tar.gz" && touch "$gpu_folder/unpacked"
fi
gpu_wheels=$("${PYTHON:-python3}" -c 'import nvidia; print(*nvidia.__path__)' 2>/dev/null || true)
gpu_libraries=
for gpu_library in libcublas.so.13 libcublasLt.so.13 libcurand.so.10 libnvrtc.so.13 libcudnn.so.9; do
    # shellcheck disable=SC2086 # several folders
    gpu_found=$(find -L $gpu_wheels /usr/local/cuda /usr/local/cuda-13* /usr/lib/x86_64-linux-gnu /usr/local/lib/python3*/*-packages/nvidia \
        -name "$gpu_library" -print -quit 2>/dev/null)
    if [ -n "$gpu_found" ]; then
        case ":$gpu_libraries:" in
        *":$(dirname "$gpu_found"):"*) ;;
        *) gpu_libraries=$gpu_libraries:$(dirname "$gpu_found") ;;
        esac
    else
        echo "env.sh: $gpu_library is not here" >&2
    fi
done
export LD_LIBRARY_PATH="${gpu_libraries#:}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PATH="$gpu_folder/bin:$PATH"
ENV

cat >.gpu/run.sh <<'RUN'
#!/usr/bin/env bash
# See scripts/gpu-bundle.sh. Goes on after a failed step and fails at the end.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .gpu/env.sh
python=${PYTHON:-python3}
what=${1:-all}
[ $# -gt 0 ] && shift
failed=

if [ "$what" = all ]; then
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv || failed+=' nvidia-smi'
    echo "LD_LIBRARY_PATH=$LD_LIBRARY_PATH"
    "$python" -c 'import sys, torch
print("python", sys.version.split()[0], "torch", torch.__version__, "cuda", torch.version.cuda, "cudnn", torch.backends.cudnn.version())'
    if ldd .gpu/bin/xtask | grep -E 'libcu|not found'; then
        failed+=' ldd'
    fi
fi
if [ "$what" = all ] || [ "$what" = tests ]; then
    for test in .gpu/tests/*; do
        printf '\n== %s\n' "$test"
        # Tests look for files from the folder of their package, as under cargo.
        (cd "crates/$(basename "$test")" && SIMPLENET_REQUIRE_GPU=1 "../../$test" "$@") || failed+=" $test"
    done
fi
if [ "$what" = sanitizer ]; then
    for tool in memcheck racecheck initcheck synccheck; do
        for test in .gpu/tests/*; do
            printf '\n== %s %s\n' "$tool" "$test"
            (cd "crates/$(basename "$test")" && SIMPLENET_REQUIRE_GPU=1 ../../.gpu/sanitizer/bin/compute-sanitizer --tool "$tool" \
                --error-exitcode 1 --print-limit 10 "../../$test" --test-threads=1 "$@") || failed+=" $tool:$test"
        done
    done
fi
if [ "$what" = all ] || [ "$what" = bench ]; then
    printf '\n== xtask bench cuda\n'
    xtask bench cuda "$@" || failed+=' bench'
fi
if [ -n "$failed" ]; then
    echo "failed:$failed" >&2
    exit 1
fi
RUN
chmod +x .gpu/run.sh

size=$(du -sk .gpu | cut -f1)
echo ".gpu holds $((size / 1024)) MiB"
if ((size > limit * 1024)); then
    echo "gpu-bundle: more than the $limit MiB that it may have" >&2
    exit 1
fi
