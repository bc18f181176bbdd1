//! How fast a training step is, and how much of it is spent in matrix products.
//!
//! `cargo run -p simplenet-heads --example train_rate [-- ROWS [DIM]]` (3136 rows: four images of 28×28 patches)

use std::hint::black_box;
use std::time::Instant;

use simplenet_heads::{Adaptor, Head, HeadConfig, Loss, Optimizer, Precision, Rule, Step, TrainConfig};
use simplenet_kernels::gemm::{Accumulate, MatMut, MatRef, gemm};
use simplenet_kernels::noise::{NoiseKey, fill_normal};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const REPEATS: usize = 7;

#[expect(clippy::print_stdout, reason = "the numbers are what this program is for")]
fn main() -> Result<()> {
    let argument = |index| {
        std::env::args()
            .nth(index)
            .map(|number| number.parse::<usize>())
            .transpose()
    };
    let (rows, only) = (argument(1)?.unwrap_or(4 * 784), argument(2)?);
    println!("| rows | dim | hidden | adaptor | step ms | of it GEMM ms | GEMM share | GFLOP/s of the GEMMs |");
    println!("|---|---|---|---|---|---|---|---|");
    for (dim, adaptor) in [
        (152, "linear"),
        (384, "linear"),
        (384, "none"),
        (384, "mlp"),
        (1536, "linear"),
    ] {
        if only.is_some_and(|only| only != dim) {
            continue;
        }
        let (step, products, work) = measure(rows, dim, 1024, adaptor)?;
        let (share, rate) = (100.0 * products / step, work / products / 1e9);
        let (step, products) = (1e3 * step, 1e3 * products);
        println!("| {rows} | {dim} | 1024 | {adaptor} | {step:.1} | {products:.1} | {share:.0} % | {rate:.0} |");
    }
    Ok(())
}

/// Seconds per step (noise included), seconds in its products, operations of those.
fn measure(rows: usize, dim: usize, hidden: usize, adaptor: &str) -> Result<(f64, f64, f64)> {
    let adaptor = match adaptor {
        "none" => Adaptor::None,
        "mlp" => Adaptor::Mlp,
        _ => Adaptor::Linear { bias: false },
    };
    let adam = |learning_rate| Optimizer {
        rule: Rule::Adam,
        learning_rate,
        weight_decay: 1e-5,
    };
    let config = TrainConfig {
        epochs: 1,
        batch_images: 1,
        noise: 0.015,
        loss: Loss::TruncatedL1 {
            positive_margin: 0.5,
            negative_margin: -0.5,
        },
        adaptor_optimizer: adam(1e-4),
        discriminator_optimizer: adam(2e-4),
        precision: Precision::F32,
    };
    let mut head = Head::<f32>::new(HeadConfig { dim, hidden, adaptor }, 0)?;
    let mut step = Step::new(head.config(), &config, rows)?;
    let mut features = vec![0.0; rows * dim];
    fill_normal(&mut features, NoiseKey { seed: 0, stream: 1 }, 0, 1.0);
    let mut noise = vec![0.0; rows * dim];
    let whole = fastest(|| {
        simplenet_heads::fill_noise(&mut noise, 0, 2, 0.015);
        step.run(&mut head, &features, &noise)?;
        Ok(())
    })?;

    let mut shapes = vec![
        [rows, dim, hidden],
        [rows, dim, hidden],
        [hidden, rows, dim],
        [hidden, rows, dim],
    ];
    if adaptor != Adaptor::None {
        shapes.extend([[hidden, dim, dim], [hidden, dim, dim], [dim, hidden, dim]]);
    }
    if adaptor == Adaptor::Mlp {
        shapes.extend([[rows, dim, dim], [rows, hidden, dim], [dim, rows, dim]]);
    }
    let (mut products, mut work) = (0.0, 0.0);
    for [m, k, n] in shapes {
        let (a, b, mut c) = (vec![0.5_f32; m * k], vec![0.5_f32; k * n], vec![0.0_f32; m * n]);
        // As the step has them: forward, a row times the rows of a weight; backward, columns times columns.
        let a = if k == rows {
            MatRef::new(&a, k, m)?.t()
        } else {
            MatRef::new(&a, m, k)?
        };
        let b = if k == dim && m == rows {
            MatRef::new(&b, n, k)?.t()
        } else {
            MatRef::new(&b, k, n)?
        };
        products += fastest(|| {
            gemm(a, b, MatMut::new(&mut c, m, n)?, Accumulate::Overwrite)?;
            black_box(&mut c);
            Ok(())
        })?;
        work += 2.0 * (m * k * n) as f64;
    }
    Ok((whole, products, work))
}

/// Seconds of the fastest of some runs, after one to warm up.
fn fastest(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let mut fastest = f64::INFINITY;
    for _ in 0..REPEATS {
        let start = Instant::now();
        run()?;
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    Ok(fastest)
}
