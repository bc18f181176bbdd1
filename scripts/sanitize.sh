#!/usr/bin/env bash
# Runs the tests of the kernels under AddressSanitizer, on every instruction set of this processor: the SIMD code works on
# raw pointers, and a read beyond a buffer rarely changes a result. Builds its dependencies anew, in target/sanitize.
#
#     scripts/sanitize.sh [arguments of cargo test, instead of all tests of the kernels]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The sanitizer is an unstable option of the stable compiler. A target apart from the host keeps it out of build scripts.
export RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=address' CARGO_TARGET_DIR=target/sanitize
host=$(rustc -vV | sed -n 's/^host: //p')
cargo test -p simplenet-kernels --target "$host" "${@:---tests}"
