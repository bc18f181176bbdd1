//! How fast the convolution engine is here: milliseconds per 224×224 image, and the share of the measured peak.
//!
//! ```text
//! cargo run -p simplenet-kernels --example engine_rate [-- NAME-OF-A-NETWORK [THREADS]]
//! ```

#![expect(unsafe_code, reason = "CPU time comes from a system call")]

use std::time::Instant;

use simplenet_kernels::engine::{Engine, EngineConfig, Precision};
use simplenet_kernels::graph::{Activation, Conv, Graph, GraphError, MaxPool, Padding, ValueId};
use simplenet_kernels::isa::Isa;
use simplenet_kernels::peak::operations_per_second;

#[expect(clippy::print_stdout, reason = "printing is what this program is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let only = std::env::args().nth(1).unwrap_or_default();
    let threads = std::env::args().nth(2).map(|threads| threads.parse()).transpose()?;
    let most = std::thread::available_parallelism()?.get();
    let isa = Isa::detect()?;
    let networks = [
        ("wide-resnet50-2 to layer3", wide_resnet50()?),
        ("resnet18 to layer3", resnet18()?),
        ("efficientnet-lite0 to block 10", efficientnet_lite0()?),
    ];
    println!("{isa}; best of several runs, per image; CPU time is what all threads took together");
    println!("| network | precision | threads | batch | ms | CPU ms | GFLOP/s per CPU second | of peak |");
    println!("|---|---|---|---|---|---|---|---|");
    for (name, (graph, outputs)) in networks.iter().filter(|(name, _)| name.contains(&only)) {
        for precision in [Precision::F32, Precision::Bf16] {
            let engine = Engine::compile(graph, outputs, EngineConfig { precision, isa })?;
            let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
            let peak = one
                .install(|| operations_per_second(precision, isa))
                .unwrap_or(f64::NAN)
                / 1e9;
            for threads in threads.map_or(vec![1, most], |threads| vec![threads]) {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
                for batch in [1, 8] {
                    let shape = [batch, 3, 224, 224];
                    let images = values(batch * 3 * 224 * 224, 1.0);
                    let (seconds, cpu_seconds) =
                        pool.install(|| best_of(7, || engine.run(&images, shape).map(drop)))?;
                    let flops = 2.0 * graph.macs(shape)? as f64;
                    let rate = flops / cpu_seconds / 1e9;
                    println!(
                        "| {name} | {precision:?} | {threads} | {batch} | {:.2} | {:.2} | {rate:.0} | {} |",
                        seconds * 1e3 / batch as f64,
                        cpu_seconds * 1e3 / batch as f64,
                        percent(rate / peak),
                    );
                }
            }
        }
    }
    Ok(())
}

fn percent(share: f64) -> String {
    match share.is_nan() {
        true => "unknown".to_string(),
        false => format!("{:.0} %", 100.0 * share),
    }
}

/// Shortest of `runs` runs after one to warm up: seconds that passed, and seconds that the process computed, which
/// other programs on the machine disturb less.
fn best_of<E>(runs: usize, mut run: impl FnMut() -> Result<(), E>) -> Result<(f64, f64), E> {
    run()?;
    let mut best = (f64::INFINITY, f64::INFINITY);
    for _ in 0..runs {
        let (begin, cpu_begin) = (Instant::now(), cpu_seconds());
        run()?;
        best = (
            best.0.min(begin.elapsed().as_secs_f64()),
            best.1.min(cpu_seconds() - cpu_begin),
        );
    }
    Ok(best)
}

/// Seconds that the threads of this process have computed.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the struct that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Reproducible values in [-scale, scale): a linear congruential generator (Knuth's MMIX constants), upper 24 bits.
fn values(count: usize, scale: f32) -> Vec<f32> {
    let mut state = 1u64;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale
    };
    (0..count).map(next).collect()
}

/// A convolution with random weights, ReLU and PyTorch's usual padding.
fn convolution(input: ValueId, channels: (usize, usize), kernel: usize, stride: usize, groups: usize) -> Conv {
    let per_filter = channels.0 / groups * kernel * kernel;
    Conv {
        input,
        weight: values(channels.1 * per_filter, (3.0 / per_filter as f32).sqrt()),
        bias: vec![0.0; channels.1],
        in_channels: channels.0,
        out_channels: channels.1,
        kernel,
        stride,
        padding: Padding::Symmetric(kernel / 2),
        groups,
        residual: None,
        activation: Activation::Relu,
    }
}

type Network = Result<(Graph, Vec<ValueId>), GraphError>;

/// The stem of all ResNets.
fn stem(graph: &mut Graph) -> Result<ValueId, GraphError> {
    let input = graph.conv(convolution(ValueId::INPUT, (3, 64), 7, 2, 1))?;
    graph.max_pool(MaxPool {
        input,
        kernel: 3,
        stride: 2,
        padding: Padding::Symmetric(1),
    })
}

/// The shortcut of a block: its input, or a 1×1 convolution where the shape changes.
fn shortcut(graph: &mut Graph, x: ValueId, channels: usize, stride: usize) -> Result<ValueId, GraphError> {
    if graph.channels(x) == channels && stride == 1 {
        return Ok(x);
    }
    graph.conv(Conv {
        activation: Activation::Linear,
        ..convolution(x, (graph.channels(x), channels), 1, stride, 1)
    })
}

fn wide_resnet50() -> Network {
    let mut graph = Graph::new(3);
    let mut x = stem(&mut graph)?;
    let mut outputs = Vec::new();
    for (width, channels, blocks, stride) in [(128, 256, 3, 1), (256, 512, 4, 2), (512, 1024, 6, 2)] {
        for block in 0..blocks {
            let stride = if block == 0 { stride } else { 1 };
            let from = graph.channels(x);
            let residual = Some(shortcut(&mut graph, x, channels, stride)?);
            let inner = graph.conv(convolution(x, (from, width), 1, 1, 1))?;
            let inner = graph.conv(convolution(inner, (width, width), 3, stride, 1))?;
            x = graph.conv(Conv {
                residual,
                ..convolution(inner, (width, channels), 1, 1, 1)
            })?;
        }
        outputs.push(x);
    }
    Ok((graph, outputs.split_off(1)))
}

fn resnet18() -> Network {
    let mut graph = Graph::new(3);
    let mut x = stem(&mut graph)?;
    let mut outputs = Vec::new();
    for (channels, stride) in [(64, 1), (128, 2), (256, 2)] {
        for stride in [stride, 1] {
            let from = graph.channels(x);
            let residual = Some(shortcut(&mut graph, x, channels, stride)?);
            let inner = graph.conv(convolution(x, (from, channels), 3, stride, 1))?;
            x = graph.conv(Conv {
                residual,
                ..convolution(inner, (channels, channels), 3, 1, 1)
            })?;
        }
        outputs.push(x);
    }
    Ok((graph, outputs.split_off(1)))
}

/// Stages `(kernel, stride, expansion, channels, blocks)` up to 112 channels.
fn efficientnet_lite0() -> Network {
    let relu6 = |conv: Conv| Conv {
        padding: Padding::Same,
        activation: Activation::Relu6,
        ..conv
    };
    let mut graph = Graph::new(3);
    let mut x = graph.conv(relu6(convolution(ValueId::INPUT, (3, 32), 3, 2, 1)))?;
    let mut outputs = Vec::new();
    let stages = [
        (3, 1, 1, 16, 1),
        (3, 2, 6, 24, 2),
        (5, 2, 6, 40, 2),
        (3, 2, 6, 80, 3),
        (5, 1, 6, 112, 3),
    ];
    for (kernel, stride, expansion, channels, blocks) in stages {
        for block in 0..blocks {
            let stride = if block == 0 { stride } else { 1 };
            let from = graph.channels(x);
            let wide = from * expansion;
            let mut inner = x;
            if expansion > 1 {
                inner = graph.conv(relu6(convolution(x, (from, wide), 1, 1, 1)))?;
            }
            inner = graph.conv(relu6(convolution(inner, (wide, wide), kernel, stride, wide)))?;
            x = graph.conv(Conv {
                residual: (block > 0).then_some(x),
                activation: Activation::Linear,
                ..convolution(inner, (wide, channels), 1, 1, 1)
            })?;
        }
        outputs.push(x);
    }
    Ok((graph, outputs.split_off(2)))
}
