//! Compiles `kernels/*.cu`: with `cuda` for the GPU, with `kernel-emu` for the host.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::{env, fs, io, thread};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        println!("cargo::rerun-if-changed=kernels");
        device(Path::new("kernels"), &out)?;
    }
    #[cfg(feature = "kernel-emu")]
    {
        println!("cargo::rerun-if-changed=kernels");
        emulator();
    }
    Ok(())
}

/// One fat binary for each file: machine code for Hopper, PTX for every other card since Ampere. `FATBINS` lists them.
fn device(kernels: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    let nvcc = match env::var_os("CUDA_HOME") {
        Some(home) => Path::new(&home).join("bin/nvcc"),
        None => PathBuf::from("nvcc"),
    };
    let mut sources = files(kernels, "cu")?;
    sources.sort();
    let mut list = String::from("pub(super) const FATBINS: &[(&str, &[u8])] = &[\n");
    for source in &sources {
        let stem = source
            .file_stem()
            .and_then(|stem| stem.to_str())
            .ok_or("a kernel's name is not UTF-8")?;
        writeln!(list, "    (\"{stem}\", include_bytes!(\"{stem}.fatbin\")),")?;
    }
    list.push_str("];\n");
    fs::write(out.join("fatbins.rs"), list)?;

    let newest_header = files(kernels, "cuh")?
        .iter()
        .map(|path| modified(path))
        .collect::<io::Result<Vec<_>>>()?;
    let floor = newest_header.into_iter().max();
    let workers = env::var("NUM_JOBS")
        .ok()
        .and_then(|jobs| jobs.parse().ok())
        .unwrap_or(1);
    let queue = Mutex::new(sources.iter());
    let faults = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(source) = next(&queue) {
                    let target = out
                        .join(source.file_name().unwrap_or_default())
                        .with_extension("fatbin");
                    let fresh = modified(&target).is_ok_and(|made| {
                        modified(source).is_ok_and(|changed| changed < made) && floor.is_none_or(|header| header < made)
                    });
                    if !fresh && let Err(fault) = compile(&nvcc, source, &target) {
                        lock(&faults).push(fault);
                    }
                }
            });
        }
    });
    let faults = lock(&faults);
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.join("\n").into())
    }
}

fn compile(nvcc: &Path, source: &Path, target: &Path) -> Result<(), String> {
    let output = Command::new(nvcc)
        .args(["-fatbin", "-O3", "-std=c++17", "--expt-relaxed-constexpr"])
        .args([
            "-gencode",
            "arch=compute_80,code=compute_80",
            "-gencode",
            "arch=compute_90a,code=sm_90a",
        ])
        .arg(source)
        .arg("-o")
        .arg(target)
        .output()
        .map_err(|error| {
            format!(
                "failed to run `{}`: {error}\n\nhint: `scripts/setup-cuda.sh && . .cuda/env.sh` installs the compiler",
                nvcc.display()
            )
        })?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "nvcc refuses `{}`:\n{}",
        source.display(),
        String::from_utf8_lossy(&output.stderr)
    ))
}

fn next<'a>(queue: &Mutex<std::slice::Iter<'a, PathBuf>>) -> Option<&'a PathBuf> {
    lock(queue).next()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn files(folder: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
    Ok(found)
}

fn modified(path: &Path) -> io::Result<std::time::SystemTime> {
    fs::metadata(path)?.modified()
}

/// The kernels for the host, in `libkernel_emu.a`.
#[cfg(feature = "kernel-emu")]
fn emulator() {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file("kernels/emu/emulator.cc")
        .opt_level(2)
        .flag("-Wno-unknown-pragmas")
        // Vectors are read from arrays of floats, which the device's compiler allows.
        .flag("-fno-strict-aliasing")
        // As with __fmul_rn: fused only where a kernel says so.
        .flag("-ffp-contract=off")
        // The checks trap, and the emulator says in which kernel and thread.
        .flag("-fsanitize=alignment,bounds,shift,integer-divide-by-zero")
        .flag("-fsanitize-undefined-trap-on-error")
        .compile("kernel_emu");
}
