#!/usr/bin/env python3
"""Stand-ins for the CUDA libraries at link time, which open the real ones at run time.

    gen_shim.py CUDARC_SRC OUT_DIR

Writes OUT_DIR/lib{cuda,cublas,cublasLt,curand,nvrtc,cudnn}.a. Every function that cudarc's bindings name becomes a jump
through a slot. A slot first points at a resolver, which opens the library (libcuda.so.1, libcublas.so.13, ...), looks the
function up, stores it in the slot and jumps there; the second call costs one indirect jump. So one binary serves machines
with and without a GPU, and building it needs none of the libraries.

Where a library is absent its functions return its own error code ("no device", "not initialised"); functions that return
text return "absent" and those that return a size return 0. Absence of the driver is normal and silent, since it means
that there is no GPU; that of any other library, or of a function in one that is there, is one line on standard error.
cuRAND is the exception: candle opens a generator with every device, which this project never draws from, and PyTorch's
wheels do not always bring cuRAND. Without it a generator can be made and destroyed, and drawing from it fails.

x86-64 System V only. Run again for another version of cudarc: a name that it misses is an error at link time.
"""

import re
import subprocess
import sys
from pathlib import Path

# Link name: (module of cudarc, names to open, value of a failed call).
LIBRARIES = {
    "cuda": ("driver", ["libcuda.so.1", "libcuda.so"], 100),  # CUDA_ERROR_NO_DEVICE
    "cublas": ("cublas", ["libcublas.so.13"], 1),  # CUBLAS_STATUS_NOT_INITIALIZED
    "cublasLt": ("cublaslt", ["libcublasLt.so.13"], 1),
    "curand": ("curand", ["libcurand.so.10"], 101),  # CURAND_STATUS_NOT_INITIALIZED
    "nvrtc": ("nvrtc", ["libnvrtc.so.13"], 11),  # NVRTC_ERROR_INTERNAL_ERROR
    "cudnn": ("cudnn", ["libcudnn.so.9"], 1001),  # CUDNN_STATUS_NOT_INITIALIZED
}

# Succeed without their library. The first one fills in its handle.
IDLE = {
    "curandCreateGenerator": "new_handle",
    "curandDestroyGenerator": "nothing",
    "curandSetStream": "nothing",
    "curandSetPseudoRandomGeneratorSeed": "nothing",
}
QUIET = {"cuda", "curand"}

DECLARATION = re.compile(r"^ {12}fn (\w+)\([^;]*\)(?: -> ([^;]+))?;$", re.MULTILINE)
LOADED = re.compile(r'load::<_F>\("(\w+)"\)')

# Pushed registers keep the caller's arguments (rax: the number of vector registers of a variadic call) over the resolver.
INTEGER_ARGUMENTS = ["rdi", "rsi", "rdx", "rcx", "r8", "r9", "rax"]
VECTOR_ARGUMENTS = 8


def functions(bindings: str) -> dict[str, str]:
    """Name to what it does where the library is absent: returns `text`, `size` or `status`, or as in IDLE."""
    found = {}
    for name, result in DECLARATION.findall(bindings):
        kind = IDLE.get(name) or ("text" if "c_char" in result else "size" if result == "usize" else "status")
        if found.setdefault(name, kind) != kind:
            sys.exit(f"gen_shim: `{name}` is declared with two kinds of result")
    if set(found) != set(LOADED.findall(bindings)):
        sys.exit("gen_shim: the bindings of cudarc are not laid out as expected; look at DECLARATION and LOADED")
    return dict(sorted(found.items()))


def assembly(prefix: str, symbols: list[str]) -> str:
    """The entry of every function, its slot, and the way to the resolver."""
    lines = [".text"]
    for i, symbol in enumerate(symbols):
        lines += [f".globl {symbol}", f".type {symbol},@function", f"{symbol}:", f"\tjmp *{prefix}_slots+{8 * i}(%rip)"]
        lines += [f".L{prefix}_first{i}:", f"\tpushq ${i}", f"\tjmp .L{prefix}_resolve"]
    lines.append(f".L{prefix}_resolve:")
    lines += [f"\tpushq %{register}" for register in INTEGER_ARGUMENTS]
    frame = 16 * VECTOR_ARGUMENTS + 8  # return address, index and seven registers: 8 more make the stack even to 16
    lines.append(f"\tsubq ${frame},%rsp")
    lines += [f"\tmovups %xmm{k},{16 * k}(%rsp)" for k in range(VECTOR_ARGUMENTS)]
    lines += [f"\tmovq {frame + 8 * len(INTEGER_ARGUMENTS)}(%rsp),%rdi", f"\tcall {prefix}_resolve", "\tmovq %rax,%r11"]
    lines += [f"\tmovups {16 * k}(%rsp),%xmm{k}" for k in range(VECTOR_ARGUMENTS)]
    lines.append(f"\taddq ${frame},%rsp")
    lines += [f"\tpopq %{register}" for register in reversed(INTEGER_ARGUMENTS)]
    lines += ["\taddq $8,%rsp", "\tjmp *%r11"]
    lines += [".data", ".balign 8", f".globl {prefix}_slots", f".hidden {prefix}_slots", f"{prefix}_slots:"]
    lines += [f"\t.quad .L{prefix}_first{i}" for i in range(len(symbols))]
    lines.append('.section .note.GNU-stack,"",@progbits')
    return "\n".join(lines) + "\n"


def resolver(prefix: str, symbols: dict[str, str], sonames: list[str], error: int, quiet: bool) -> str:
    names = ",\n".join(f'  {{"{name}", absent_{kind}}}' for name, kind in symbols.items())
    opened = ", ".join(f'"{soname}"' for soname in sonames)
    report = "" if quiet else 'fprintf(stderr, "CUDA: %s; its functions will fail\\n", dlerror());'
    return f"""#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

static long absent_status(void) {{ return {error}; }}
__attribute__((unused)) static long absent_size(void) {{ return 0; }}
__attribute__((unused)) static long absent_text(void) {{ return (long)"absent"; }}
__attribute__((unused)) static long absent_nothing(void) {{ return 0; }}
__attribute__((unused)) static long absent_new_handle(void **handle) {{ *handle = 0; return 0; }}

static const struct {{ const char *name; void *absent; }} functions[] = {{
{names}
}};
extern void *{prefix}_slots[] __attribute__((visibility("hidden")));
static pthread_once_t once = PTHREAD_ONCE_INIT;
static void *library;

static void open_library(void) {{
  static const char *const sonames[] = {{{opened}}};
  for (unsigned i = 0; !library && i < sizeof sonames / sizeof *sonames; i++)
    library = dlopen(sonames[i], RTLD_NOW | RTLD_GLOBAL);
  if (!library) {{ {report} }}
}}

__attribute__((visibility("hidden"))) void *{prefix}_resolve(long index) {{
  pthread_once(&once, open_library);
  void *function = library ? dlsym(library, functions[index].name) : 0;
  if (library && !function)
    fprintf(stderr, "CUDA: {sonames[0]} has no function %s; it is another version than this program was built for\\n",
            functions[index].name);
  if (!function) function = functions[index].absent;
  __atomic_store_n(&{prefix}_slots[index], function, __ATOMIC_RELEASE);
  return function;
}}
"""


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: gen_shim.py CUDARC_SRC OUT_DIR")
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for name, (module, sonames, error) in LIBRARIES.items():
        symbols = functions((source / module / "sys" / "mod.rs").read_text())
        prefix = f"shim_{name}"
        parts = [out / f"{prefix}.S", out / f"{prefix}.c"]
        parts[0].write_text(assembly(prefix, list(symbols)))
        parts[1].write_text(resolver(prefix, symbols, sonames, error, quiet=name in QUIET))
        objects = [part.with_suffix(part.suffix + ".o") for part in parts]
        for part, compiled in zip(parts, objects):
            subprocess.run(["cc", "-O2", "-fPIC", "-c", part, "-o", compiled], check=True)
        archive = out / f"lib{name}.a"
        archive.unlink(missing_ok=True)
        subprocess.run(["ar", "rcs", archive, *objects], check=True)
        for path in parts + objects:
            path.unlink()


if __name__ == "__main__":
    main()
