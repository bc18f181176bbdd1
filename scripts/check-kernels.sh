#!/usr/bin/env bash
# Compiles every CUDA kernel to machine code for Hopper and fails where one spills registers, takes more static shared memory
# than a launch may have, or is missing from the emulator's list. Prints registers and shared memory of each.
#
#   scripts/setup-cuda.sh && scripts/check-kernels.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .cuda/env.sh

folder=crates/simplenet-kernels/kernels
output=$(mktemp -d)
trap 'rm -rf "$output"' EXIT
compile() {
    local result=$2/$(basename "$1")
    nvcc -cubin -O3 -std=c++17 --expt-relaxed-constexpr -gencode arch=compute_90a,code=sm_90a -Xptxas -v "$1" \
        -o "$result.cubin" 2>"$result.log" || mv "$result.log" "$result.failed"
}
export -f compile
printf '%s\n' "$folder"/*.cu | xargs -P "$(nproc)" -I {} bash -c 'compile "$@"' _ {} "$output"

if compgen -G "$output/*.failed" >/dev/null; then
    cat "$output"/*.failed >&2
    echo 'check-kernels: nvcc refuses a kernel' >&2
    exit 1
fi
cat "$output"/*.log | python3 -c '
import re, sys
listed = set(re.findall(r"KERNEL\(\w+, (\w+)\)", open(sys.argv[1]).read()))
name, rows, faults = "", [], []
for line in sys.stdin:
    if found := re.search(r"Compiling entry function .(\w+). for", line):
        name = found[1]
    elif found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
        stack, stores, loads = map(int, found.groups())
    elif found := re.search(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?", line):
        shared = int(found[2] or 0)
        rows.append((name, int(found[1]), shared, stack))
        if stores or loads:
            faults.append(f"{name} spills: {stores} bytes stored, {loads} loaded")
        if shared > 48 * 1024:
            faults.append(f"{name} has {shared} bytes of static shared memory; a launch may have 49152")
        if name not in listed:
            faults.append(f"{name} has no line in {sys.argv[1]}")
for name, registers, shared, stack in sorted(rows):
    print(f"{name:26} {registers:3} registers {shared:6} bytes shared {stack:5} bytes stack")
if not rows:
    faults.append("no kernel was compiled")
for fault in faults:
    print(f"check-kernels: {fault}", file=sys.stderr)
sys.exit(bool(faults))' "$folder/emu/emulator.cc"
