#!/usr/bin/env bash
# Runs what scripts/check-platforms.sh has built, under QEMU and Wine where they are installed (Debian: qemu-user-static, wine64), and
# says how far scores lie from those of the program for this machine:
#
#     scripts/run-platforms.sh data/toy/toy-v1-seed0-40x20x5/ring > results/detector/platforms.txt
#
# The folder is a category in the layout of MVTec AD; this one is drawn by `cargo xtask reproduce table1 --quick`. Each program trains on twelve good pictures of it and judges its test pictures; so
# it does with the detector that was trained here, and the program here with its own.
set -euo pipefail

category=$(realpath "${1:?usage: scripts/run-platforms.sh CATEGORY}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=$(realpath "${CARGO_TARGET_DIR:-target}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export WINEPREFIX=$work/wine WINEDEBUG=-all

cargo build --quiet -p simplenet --bin simplenet
here=("$target/debug/simplenet")
mkdir "$work/good" "$work/test"
find "$category/train/good" -name '*.png' | sort | head -12 | xargs -I{} cp {} "$work/good"
# One of every kind.
for kind in "$category"/test/*/; do
    cp "$(find "$kind" -name '*.png' | sort | head -1)" "$work/test/$(basename "$kind").png"
done

# Columns 1 to 3 and 13 of the table are file, verdict, score and absence.
compare() {
    paste -d, <(tr -d '\r' <"$1") <(tr -d '\r' <"$2") | awk -F, -v what="$3" '
        function far(a, b) { a = a > b ? a - b : b - a; return b > 0 ? a / b : a }
        NR == 1 { width = NF / 2; next }
        { verdicts += $2 != $(width + 2); s = far($3, $(width + 3)); a = far($13, $(width + 13))
          score = s > score ? s : score; absence = a > absence ? a : absence; count++ }
        END { printf "  %s: %d of %d verdicts are others, scores differ by at most %.1e of them, absence by %.1e\n", what, verdicts, count, score, absence }'
}
train() { "$@" train "$work/good" --out "$work/$name.simplenet" >"$work/$name.out" 2>&1 || { cat "$work/$name.out" >&2; return 1; }; }
judge() { "${@:3}" predict "$work/$1.simplenet" "$work/test" --csv "$work/$2.csv" >"$work/$2.out" 2>&1 || { cat "$work/$2.out" >&2; return 1; }; }

name=here
train "${here[@]}"
judge here here "${here[@]}"
echo "scripts/run-platforms.sh, $(basename "$category"): trained on 12 pictures, judged $(find "$work/test" -name '*.png' | wc -l)"
while read -r name runner program; do
    file=$target/$program
    if ! command -v "$runner" >/dev/null; then
        echo "$name: skipped, there is no $runner" >&2
    elif [ ! -e "$file" ]; then
        echo "$name: skipped, scripts/check-platforms.sh has not built $file" >&2
    else
        there=("$runner" "$file")
        if [ "$runner" = wine ]; then
            # Rust's random numbers come from a library that Wine has from version 9 on.
            cp "$file" "$work/" && there=("$runner" "$work/$(basename "$file")")
            echo 'int __stdcall SystemFunction036(void*, unsigned long);
                  __declspec(dllexport) int __stdcall ProcessPrng(void *bytes, unsigned long long length) { return SystemFunction036(bytes, length); }' |
                x86_64-w64-mingw32-gcc -shared -x c - -o "$work/bcryptprimitives.dll" -ladvapi32
        else
            there=("$runner" -L /usr/aarch64-linux-gnu "$file")
        fi
        echo "$name, $("$runner" --version </dev/null 2>/dev/null | head -1)"
        judge here "$name-theirs" "${there[@]}" </dev/null
        compare "$work/$name-theirs.csv" "$work/here.csv" "the detector that was trained here, judged there"
        train "${there[@]}" </dev/null
        judge "$name" "$name-own" "${there[@]}" </dev/null
        judge "$name" "$name-here" "${here[@]}" </dev/null
        compare "$work/$name-own.csv" "$work/$name-here.csv" "trained and judged there, against judged here"
        "${there[@]}" watch "$work/$name.simplenet" "$work/test" --out "$work/$name-judged" --once --settle 0 </dev/null >"$work/watch.out" 2>&1 ||
            { cat "$work/watch.out" >&2; exit 1; }
        echo "  watched: $(wc -l <"$work/$name-judged/judged.jsonl") lines in its log"
    fi
done <<'PROGRAMS'
aarch64-linux qemu-aarch64-static aarch64-unknown-linux-gnu/debug/simplenet
x86_64-windows wine x86_64-pc-windows-gnu/debug/simplenet.exe
PROGRAMS
