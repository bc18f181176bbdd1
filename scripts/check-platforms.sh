#!/usr/bin/env bash
# Builds `simplenet` for Windows on x86-64 and Linux on ARM where cross compilers are installed
# (Debian: gcc-mingw-w64-x86-64, gcc-aarch64-linux-gnu), and names what it skips.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
while read -r target compiler; do
    if ! command -v "$compiler" >/dev/null; then
        echo "skipping $target: there is no $compiler" >&2
    elif ! command -v rustup >/dev/null || ! rustup target add "$target"; then
        echo "skipping $target: its standard library is not there, and rustup could not add it" >&2
    else
        cargo build -p simplenet --bin simplenet --target "$target" </dev/null
    fi
done <<'TARGETS'
x86_64-pc-windows-gnu x86_64-w64-mingw32-gcc
aarch64-unknown-linux-gnu aarch64-linux-gnu-gcc
TARGETS
