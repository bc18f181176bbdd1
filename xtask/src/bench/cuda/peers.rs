//! The same work by PyTorch, on the same device in the same run: scripts/peers/cuda_peers.py.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use simplenet_backbone::{Arch, Backbone, GpuExtractor, Precision, Stage};
use simplenet_kernels::cuda::Buffer;
use simplenet_report::Benchmark;
use simplenet_report::file::write_atomic;

use super::features::{SIDE, features, images, weights_file};
use super::run::Bench;

const SCRIPT: &str = include_str!("../../../../scripts/peers/cuda_peers.py");

/// Images whose features are compared.
const COMPARED: usize = 2;

pub(super) fn run(bench: &mut Bench, python: &Path, given: &[(Arch, PathBuf)]) -> Result<()> {
    let arch = Arch::WideResNet50_2;
    let weights = weights_file(bench, arch, given)?;
    let folder = bench.cache.join("cuda-peers");
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
    let script = folder.join("cuda_peers.py");
    write_atomic(&script, SCRIPT.as_bytes())?;
    let (input, output) = (folder.join("images.safetensors"), folder.join("outputs.safetensors"));
    write_images(&input)?;
    let request = json!({
        "weights": weights, "arch": arch.name(), "images": input, "outputs": output, "rounds": bench.rounds,
        "seconds": if bench.rounds < 50 { 20 } else { 75 },
    });
    let mut child = Command::new(python)
        .arg("-u")
        .arg(&script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start `{}`", python.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        writeln!(stdin, "{request}")?;
    }
    let mut version = String::new();
    let mut rows = Vec::new();
    let answers = child.stdout.take().context("Python has no output")?;
    for line in BufReader::new(answers).lines() {
        let line = line?;
        let answer: Value =
            serde_json::from_str(&line).with_context(|| format!("`{}` printed `{line}`", python.display()))?;
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_string();
        if !text("torch").is_empty() {
            version = text("torch");
        } else if let Some(p50_ms) = answer["p50_ms"].as_f64() {
            rows.push(row(bench, &answer, &version, p50_ms));
        } else {
            errln!("torch: {line}");
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!(
            "`{}` ended with {status}\n\nhint: it needs a torch that sees the GPU",
            python.display()
        );
    }
    bench.push(rows)?;
    compare(bench, arch, &weights, &output)
}

/// A timing of PyTorch's as a row of ours.
fn row(bench: &Bench, answer: &Value, version: &str, p50_ms: f64) -> Benchmark {
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_string();
    let number = |key: &str| answer[key].as_f64().unwrap_or(p50_ms);
    let count = |key: &str| u32::try_from(answer[key].as_u64().unwrap_or(1)).unwrap_or(u32::MAX);
    let engine = text("engine");
    let own = bench
        .rows
        .iter()
        .find(|row| row.subject == text("subject") && row.model == text("model") && row.batch == count("batch"));
    Benchmark {
        subject: text("subject"),
        model: text("model"),
        engine: engine.replacen("torch", &format!("torch {version}"), 1),
        weights: own.map_or_else(|| "none".into(), |row| row.weights.clone()),
        gflop: own.and_then(|row| row.gflop),
        rounds: count("rounds"),
        p50_ms,
        p99_ms: number("p99_ms"),
        best_ms: number("best_ms"),
        ..bench.row("", &text("precision"), count("batch") as usize)
    }
}

/// Puts the distance between our features and PyTorch's, in the same precision, into our rows.
fn compare(bench: &mut Bench, arch: Arch, weights: &Path, output: &Path) -> Result<()> {
    let bytes = std::fs::read(output).with_context(|| format!("failed to read `{}`", output.display()))?;
    let theirs = SafeTensors::deserialize(&bytes).with_context(|| format!("failed to read `{}`", output.display()))?;
    let backbone = Backbone::load(arch, weights, Stage::Layer3)?;
    let mut changed = Vec::new();
    for (precision, name, tensor) in [(Precision::F32, "f32", "rows"), (Precision::Bf16, "bf16", "rows.bf16")] {
        let extractor = GpuExtractor::new(&backbone, features(), &bench.gpu, precision)?;
        let [h, w] = extractor.config().grid(SIDE, SIDE);
        let rows: Buffer<f32> = bench.gpu.zeros(COMPARED * h * w * extractor.dim())?;
        extractor.extract(&images(COMPARED), [COMPARED, 3, SIDE, SIDE], rows.all())?;
        let ours = bench.gpu.download(rows.all())?;
        let (values, _) = theirs.tensor(tensor)?.data().as_chunks::<4>();
        let theirs = values.iter().map(|&bytes| f64::from(f32::from_le_bytes(bytes)));
        if values.len() != ours.len() {
            bail!("PyTorch's features are {} values, ours {}", values.len(), ours.len());
        }
        let (mut difference, mut norm) = (0.0, 0.0);
        for (ours, theirs) in ours.iter().zip(theirs) {
            difference += (f64::from(*ours) - theirs).powi(2);
            norm += theirs * theirs;
        }
        let distance = (difference / norm).sqrt();
        outln!("{arch} {name}: features differ from PyTorch's by {distance:.1e}");
        let subjects = ["features", "backbone"];
        let model = format!("{arch} to layer3");
        for row in &mut bench.rows {
            let is_ours = row.engine == crate::bench::OWN && row.precision == name && row.model == model;
            if is_ours && subjects.contains(&row.subject.as_str()) {
                row.difference = Some(distance);
                changed.push(row.clone());
            }
        }
    }
    crate::bench::save(&bench.file, &changed)
}

/// A file with `images` `[COMPARED, 3, SIDE, SIDE]`.
fn write_images(path: &Path) -> Result<()> {
    let images = images(COMPARED);
    let header = json!({ "images": {
        "dtype": "F32", "shape": [COMPARED, 3, SIDE, SIDE], "data_offsets": [0, 4 * images.len()],
    }})
    .to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(images.iter().flat_map(|value| value.to_le_bytes()));
    Ok(write_atomic(path, &file)?)
}
