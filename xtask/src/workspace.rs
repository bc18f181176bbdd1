//! Where things are and what machine this is.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The project's root: the nearest folder above the current one with `xtask/experiments`. Not `CARGO_MANIFEST_DIR`, so that
/// the binary also runs from a copy of the tree on a machine without cargo.
pub(crate) fn root() -> Result<PathBuf> {
    let here = std::env::current_dir().context("failed to find the current folder")?;
    match here
        .ancestors()
        .find(|folder| folder.join("xtask/experiments").is_dir())
    {
        Some(root) => Ok(root.to_path_buf()),
        None => bail!(
            "`{}` is not inside the project\n\nhint: run it from the folder that has Cargo.toml and xtask",
            here.display()
        ),
    }
}

/// `SIMPLENET_COMMIT`, where it is set; else the short commit of the tree, `-dirty` when tracked files differ from it, `unknown`
/// outside a checkout.
pub(crate) fn commit(root: &Path) -> String {
    // A copy of the tree without its history says so itself (scripts/gpu-bundle.sh).
    if let Some(commit) = std::env::var("SIMPLENET_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty())
    {
        return commit;
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".into();
    };
    // Results themselves do not make the code that wrote them dirty.
    let code = [
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        "crates",
        "xtask",
        "Cargo.toml",
        "Cargo.lock",
        "data",
    ];
    match git(&code) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit}-dirty"),
    }
}

/// The processor's name, as it gives it.
pub(crate) fn processor() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| "unknown processor".into(), |(_, name)| name.trim().into())
}

/// What `machine.txt` says beside a run's rows.
pub(crate) fn machine(threads: usize) -> String {
    let of = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let known = |value: Option<String>| value.unwrap_or_else(|| "unknown".into());
    let isa = match simplenet_kernels::isa::Isa::detect() {
        Ok(isa) => isa.to_string(),
        Err(error) => error.to_string(),
    };
    format!(
        "processor     {}\ncores         {}\nmemory        {}\nthreads       {threads}\ninstructions  {isa}\nsystem        {} {}\n",
        processor(),
        std::thread::available_parallelism().map_or(0, usize::from),
        known(of(&memory, "MemTotal")),
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}

/// The command that started this process, as one types it.
pub(crate) fn command() -> String {
    let quoted = |argument: String| match argument
        .chars()
        .any(|c| c.is_whitespace() || "'\"$&;|<>()*?{}[]~#!`\\".contains(c))
    {
        true => format!("'{}'", argument.replace('\'', "'\\''")),
        false => argument,
    };
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|part| quoted(part.to_string_lossy().into_owned()))
        .collect();
    let program = match cfg!(feature = "cuda") {
        true => "cargo run -p xtask --features cuda --",
        false => "cargo xtask",
    };
    format!("{program} {}", arguments.join(" "))
}

/// A third of the memory that is free now, in bytes: what one feature bank may take before it spills to disk. There are two at a
/// time, and the rest is for everything else.
pub(crate) fn memory_budget() -> u64 {
    const UNKNOWN: u64 = 4 << 30;
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = memory.lines().find_map(|line| {
        line.strip_prefix("MemAvailable:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
    });
    let available = available.map(|kib| kib * 1024);
    let least = available.into_iter().chain(container_memory()).min();
    least.map_or(UNKNOWN, |bytes| bytes / 3)
}

/// What the control group of this process, such as a container's, leaves it; `None` where it sets no limit.
fn container_memory() -> Option<u64> {
    // Version 2 of control groups; a container sees its own as the root.
    let read = |name: &str| std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    // What was read from files can be given up.
    let statistics = read("memory.stat").unwrap_or_default();
    let cached = statistics
        .lines()
        .find_map(|line| line.strip_prefix("inactive_file ")?.parse::<u64>().ok());
    let used = number("memory.current")?.saturating_sub(cached.unwrap_or(0));
    Some(number("memory.max")?.saturating_sub(used))
}

/// Lets [`peak_memory`] begin anew, where the system can do that.
pub(crate) fn forget_peak_memory() {
    // "5" resets the peak of the resident set (proc(5)). Elsewhere the peak stays that of the process.
    _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most memory that the process had resident since [`forget_peak_memory`], in bytes.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}
