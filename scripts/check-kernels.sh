#!/usr/bin/env bash
# Compiles every CUDA kernel to machine code for Hopper and Ampere and fails where one spills registers, takes more static
# shared memory than a launch may have, is missing from the emulator's list, or reads vectors from a shared array that is
# aligned to less. Prints registers and shared memory of each.
#
#   scripts/setup-cuda.sh && scripts/check-kernels.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .cuda/env.sh

folder=crates/simplenet-kernels/kernels
output=$(mktemp -d)
trap 'rm -rf "$output"' EXIT
compile() {
    local arch=$1 result=$3/$1/$(basename "$2" .cu)
    mkdir -p "$result"
    nvcc -cubin -O3 -std=c++17 --expt-relaxed-constexpr -gencode "arch=compute_$arch,code=sm_$arch" -Xptxas -v "$2" \
        --keep --keep-dir "$result" -o "$result/code.cubin" 2>"$result/log" || mv "$result/log" "$result/failed"
}
export -f compile
for arch in 90a 80; do
    for source in "$folder"/*.cu; do echo "$arch $source"; done
done | xargs -P "$(nproc)" -L 1 bash -c 'compile "$2" "$3" "$1"' _ "$output"

if compgen -G "$output/*/*/failed" >/dev/null; then
    cat "$output"/*/*/failed >&2
    echo 'check-kernels: nvcc refuses a kernel' >&2
    exit 1
fi
python3 - "$folder/emu/emulator.cc" "$output" <<'PYTHON'
import pathlib, re, sys

emulator, output = sys.argv[1], pathlib.Path(sys.argv[2])
listed = set(re.findall(r"KERNEL\(\w+, (\w+)\)", open(emulator).read()))
faults = []


def resources(arch):
    """Registers, shared memory and stack of every kernel, by name, as ptxas tells them."""
    name, rows = "", {}
    for log in sorted(output.glob(f"{arch}/*/log")):
        for line in log.open():
            if found := re.search(r"Compiling entry function .(\w+). for", line):
                name = found[1]
            elif found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
                stack, stores, loads = map(int, found.groups())
            elif found := re.search(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?", line):
                shared = int(found[2] or 0)
                rows[name] = int(found[1]), shared, stack
                if stores or loads:
                    faults.append(f"{name} for sm_{arch} spills: {stores} bytes stored, {loads} loaded")
                if shared > 48 * 1024:
                    faults.append(f"{name} has {shared} bytes of static shared memory; a launch may have 49152")
                if name not in listed:
                    faults.append(f"{name} has no line in {emulator}")
    return rows


# Wide accesses of shared memory: v2 and v4 of loads and stores, asynchronous copies, matrices.
VECTOR = re.compile(r"\b(?:ld|st)(?:\.\w+)*?\.shared(?:\.\w+)*?\.v([24])\.[a-z]+(\d+)")
PIECE = re.compile(r"\bcp\.async\.c[ag]\.shared|\bldmatrix\b")


def widest(body):
    widths = [int(count) * int(bits) // 8 for count, bits in VECTOR.findall(body)]
    return max(widths + [16 for _ in PIECE.findall(body)[:1]], default=1)


kernels_with_vectors = 0
for ptx in sorted(output.glob("90a/*/*.ptx")):
    text = ptx.read_text()
    arrays = {name: int(align) for align, name in re.findall(r"\.shared \.align (\d+) \.\w+ (\w+)", text)}
    parts = re.split(r"\.entry (\w+)\(", text)
    for name, body in zip(parts[1::2], parts[2::2]):
        used, width = arrays.keys() & set(re.findall(r"\w+", body)), widest(body)
        kernels_with_vectors += bool(used and width > 1)
        for array in sorted(used):
            if arrays[array] < width:
                faults.append(f"{name} moves {width} bytes at a time in shared memory, and {array} is aligned to {arrays[array]}")
# Or the compiler writes its PTX in another way than this looks for.
if not kernels_with_vectors:
    faults.append("no kernel was found to move vectors in shared memory")

hopper, ampere = resources("90a"), resources("80")
for name in sorted(hopper.keys() | ampere.keys()):
    columns = [f"{rows[name][0]:3} registers" if name in rows else " " * 13 for rows in (hopper, ampere)]
    _, shared, stack = hopper.get(name) or ampere[name]
    print(f"{name:26} {columns[0]}, sm_80 {columns[1]} {shared:6} bytes shared {stack:5} bytes stack")
if not hopper or not ampere:
    faults.append("no kernel was compiled")
for fault in faults:
    print(f"check-kernels: {fault}", file=sys.stderr)
sys.exit(bool(faults))
PYTHON
