//! Other engines, run by Python in processes of their own: `peers.py`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use simplenet_kernels::graph::{Activation, Graph, Node, ValueId};

const SCRIPT: &str = include_str!("peers.py");

/// What the environment gets from PyPI.
const PACKAGES: [&str; 4] = ["numpy", "torch", "onnxruntime", "openvino"];

/// Engines that the script looks for.
pub(crate) const NAMES: [&str; 3] = ["torch", "onnxruntime", "openvino"];

/// A Python process that runs other engines with one number of threads.
pub(crate) struct Peers {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pub(crate) engines: Vec<Engine>,
}

/// An engine that Python found.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Engine {
    /// With its version.
    pub(crate) name: String,
    pub(crate) isa: String,
    pub(crate) precisions: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer<T> {
    Ok(T),
    Error(String),
}

impl Peers {
    /// Starts `python` with the script in `folder`.
    pub(crate) fn start(python: &Path, folder: &Path, threads: usize) -> Result<Peers> {
        std::fs::create_dir_all(folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
        let script = folder.join("peers.py");
        std::fs::write(&script, SCRIPT).with_context(|| format!("failed to write `{}`", script.display()))?;
        let mut child = Command::new(python)
            .arg("-u")
            .arg(&script)
            .arg(threads.to_string())
            .env("OMP_NUM_THREADS", threads.to_string())
            .env("MKL_NUM_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start `{}`", python.display()))?;
        let requests = child.stdin.take();
        let answers = child.stdout.take().context("Python has no output")?;
        let mut peers = Peers {
            child,
            requests,
            answers: BufReader::new(answers),
            engines: Vec::new(),
        };
        peers.engines = peers.ask(&json!({ "do": "engines" })).with_context(|| {
            format!(
                "`{}` cannot run the peers\n\nhint: it needs numpy, and torch, onnxruntime or openvino",
                python.display()
            )
        })?;
        Ok(peers)
    }

    fn ask<T: DeserializeOwned>(&mut self, request: &Value) -> Result<T> {
        let requests = self.requests.as_mut().context("Python has no input")?;
        let mut line = String::new();
        let sent = writeln!(requests, "{request}").and_then(|()| requests.flush());
        if sent.is_err() || self.answers.read_line(&mut line)? == 0 {
            bail!("Python ended; what it said is above");
        }
        match serde_json::from_str(&line).with_context(|| format!("Python answered `{}`", line.trim()))? {
            Answer::Ok(value) => Ok(value),
            Answer::Error(error) => Err(anyhow!("Python: {error}")),
        }
    }

    /// Makes a network and its images known; see [`write_network`].
    pub(crate) fn load(&mut self, network: &Path) -> Result<()> {
        self.ask(&json!({ "do": "load", "network": network }))
    }

    /// Runs the network once.
    pub(crate) fn run(&mut self, engine: &str, precision: &str) -> Result<Duration> {
        let seconds: f64 = self.ask(&json!({ "do": "run", "engine": engine, "precision": precision }))?;
        Ok(Duration::from_secs_f64(seconds))
    }

    /// The outputs of the network, one after the other, `[n, c, h, w]` each.
    pub(crate) fn outputs(&mut self, engine: &str, precision: &str, folder: &Path) -> Result<Vec<f32>> {
        let path = folder.join("outputs.f32");
        let request = json!({ "do": "outputs", "engine": engine, "precision": precision, "to": path });
        self.ask::<Value>(&request)?;
        read_values(&path)
    }

    /// Makes a head and its features known.
    pub(crate) fn train_load(&mut self, training: &Path, precision: &str) -> Result<()> {
        self.ask(&json!({ "do": "train_load", "training": training, "precision": precision }))
    }

    /// Loss of a step with the noise that is known, and the gradient of the discriminator's first weight.
    pub(crate) fn train_check(&mut self, folder: &Path) -> Result<(f64, Vec<f32>)> {
        let path = folder.join("gradient.f32");
        let loss = self.ask(&json!({ "do": "train_check", "to": path }))?;
        Ok((loss, read_values(&path)?))
    }

    /// One step with noise of its own.
    pub(crate) fn train_step(&mut self) -> Result<Duration> {
        let seconds: f64 = self.ask(&json!({ "do": "train_step" }))?;
        Ok(Duration::from_secs_f64(seconds))
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // It ends when its input does.
        drop(self.requests.take());
        _ = self.child.wait();
    }
}

fn read_values(path: &Path) -> Result<Vec<f32>> {
    let bytes = std::fs::read(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    let (values, _) = bytes.as_chunks::<4>();
    Ok(values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}

/// Writes values one after the other; returns where each array begins, counted in values.
pub(crate) fn write_values(path: &Path, arrays: &[&[f32]]) -> Result<Vec<usize>> {
    let mut places = Vec::new();
    let mut bytes: Vec<u8> = Vec::new();
    for array in arrays {
        places.push(bytes.len() / 4);
        bytes.extend(array.iter().flat_map(|value| value.to_le_bytes()));
    }
    std::fs::write(path, bytes).with_context(|| format!("failed to write `{}`", path.display()))?;
    Ok(places)
}

/// Writes a network and its images `shape` `[n, 3, h, w]` as the peers read them; returns the file that describes them.
pub(crate) fn write_network(
    folder: &Path,
    graph: &Graph,
    outputs: &[ValueId],
    images: &[f32],
    shape: [usize; 4],
) -> Result<PathBuf> {
    let shapes = graph.shapes(shape)?;
    let mut arrays: Vec<&[f32]> = Vec::new();
    for node in graph.nodes() {
        if let Node::Conv(conv) = node {
            arrays.extend([&conv.weight[..], &conv.bias]);
        }
    }
    let (weights, image_file) = (folder.join("weights.f32"), folder.join("images.f32"));
    let mut places = write_values(&weights, &arrays)?.into_iter();
    write_values(&image_file, &[images])?;
    let mut nodes = Vec::new();
    for node in graph.nodes() {
        let (input, kernel, stride, padding) = match node {
            Node::Conv(conv) => (conv.input, conv.kernel, conv.stride, conv.padding),
            Node::MaxPool(pool) => (pool.input, pool.kernel, pool.stride, pool.padding),
        };
        let [_, _, height, width] = shapes[input.0];
        let (top, bottom) = padding.before_after(height, kernel, stride);
        let (left, right) = padding.before_after(width, kernel, stride);
        let mut described =
            json!({ "input": input.0, "kernel": kernel, "stride": stride, "pads": [top, left, bottom, right] });
        match node {
            Node::Conv(conv) => {
                described["op"] = "conv".into();
                described["weight"] = places.next().into();
                described["bias"] = places.next().into();
                described["shape"] = json!([conv.out_channels, conv.in_channels / conv.groups, kernel, kernel]);
                described["groups"] = conv.groups.into();
                described["residual"] = conv.residual.map(|value| value.0).into();
                described["activation"] = match conv.activation {
                    Activation::Linear => "linear",
                    Activation::Relu => "relu",
                    Activation::Relu6 => "relu6",
                }
                .into();
            }
            Node::MaxPool(_) => described["op"] = "max_pool".into(),
        }
        nodes.push(described);
    }
    let about = json!({
        "nodes": nodes,
        "outputs": outputs.iter().map(|value| value.0).collect::<Vec<_>>(),
        "output_shapes": outputs.iter().map(|value| shapes[value.0]).collect::<Vec<_>>(),
        "shape": shape,
        "weights": weights,
        "images": image_file,
    });
    let path = folder.join("network.json");
    std::fs::write(&path, about.to_string()).with_context(|| format!("failed to write `{}`", path.display()))?;
    Ok(path)
}

/// The interpreter of a virtual environment in `cache` that has the peers, made on the first call.
pub(crate) fn environment(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("python");
    let python = folder.join("bin/python");
    let done = folder.join("packages-installed");
    if done.is_file() {
        return Ok(python);
    }
    std::fs::create_dir_all(cache).with_context(|| format!("failed to create `{}`", cache.display()))?;
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet"])
        .args(PACKAGES))?;
    std::fs::write(&done, "").with_context(|| format!("failed to write `{}`", done.display()))?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<()> {
    errln!("{command:?}");
    // What it prints is no result.
    let status = command.stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("failed to start {command:?}"))?;
    if !status.success() {
        bail!(
            "{command:?} ended with {status}\n\nhint: `--python FILE` takes an interpreter that has the packages already"
        );
    }
    Ok(())
}

/// Relative L2 distance of `found` from `expected`.
pub(crate) fn distance(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let wide = |value: f32| f64::from(value);
    let apart: f64 = found
        .iter()
        .zip(expected)
        .map(|(&a, &b)| (wide(a) - wide(b)).powi(2))
        .sum();
    let size: f64 = expected.iter().map(|&value| wide(value).powi(2)).sum();
    (apart / size.max(f64::MIN_POSITIVE)).sqrt()
}
