//! How fast the matrix product is in f32 and bf16, beside candle's in f32, alternating in one run: GFLOP/s, best and median.
//!
//! ```text
//! cargo build -p simplenet-kernels --example gemm_rate
//! RAYON_NUM_THREADS=1 target/debug/examples/gemm_rate
//! ```
#![expect(clippy::print_stdout, reason = "an example that prints its measurements")]

use std::time::Instant;

use candle_core::{Device, Tensor};
use simplenet_kernels::engine::Precision;
use simplenet_kernels::gemm::{Accumulate, MatMut, MatRef, gemm_in};
use simplenet_kernels::isa::Isa;

const ROUNDS: usize = 9;

/// The products of one training step of a head with 384 channels, and some of other sizes: m, k, n, A and B transposed.
const SHAPES: [(&str, usize, usize, usize, bool, bool); 8] = [
    ("hidden layer    H = S W'", 6272, 384, 1024, false, true),
    ("its weights    dW = dH' S", 1024, 6272, 384, true, false),
    ("its input      dS = dH W", 6272, 1024, 384, false, false),
    ("paper's adaptor S = X W'", 6272, 1536, 1536, false, true),
    ("its weights    dW = dS' X", 1536, 6272, 1536, true, false),
    ("152 channels    H = S W'", 6272, 152, 1024, false, true),
    ("one image       H = S W'", 784, 384, 1024, false, true),
    ("one image       S = X W'", 784, 1536, 1536, false, true),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{} on {} threads", Isa::detect()?, rayon::current_num_threads());
    println!(
        "{:27} {:>20}  {:>15}  {:>15}  {:>15}",
        "", "m x k x n", "own best/median", "bf16", "candle"
    );
    for (name, m, k, n, a_transposed, b_transposed) in SHAPES {
        let a_data = ramp(m * k);
        let b_data = ramp(k * n);
        let mut c = vec![0.0; m * n];
        let a = if a_transposed {
            MatRef::new(&a_data, k, m)?.t()
        } else {
            MatRef::new(&a_data, m, k)?
        };
        let b = if b_transposed {
            MatRef::new(&b_data, n, k)?.t()
        } else {
            MatRef::new(&b_data, k, n)?
        };
        let tensor = |data: &[f32], rows, cols, transposed| {
            if transposed {
                Tensor::from_slice(data, (cols, rows), &Device::Cpu)?.t()
            } else {
                Tensor::from_slice(data, (rows, cols), &Device::Cpu)
            }
        };
        let (x, y) = (
            tensor(&a_data, m, k, a_transposed)?,
            tensor(&b_data, k, n, b_transposed)?,
        );
        let mut own = [Vec::new(), Vec::new()];
        let mut candle = Vec::new();
        for _ in 0..ROUNDS {
            for (precision, times) in [Precision::F32, Precision::Bf16].into_iter().zip(&mut own) {
                let start = Instant::now();
                gemm_in(precision, a, b, MatMut::new(&mut c, m, n)?, Accumulate::Overwrite)?;
                times.push(start.elapsed().as_secs_f64());
            }
            let start = Instant::now();
            let _product = x.matmul(&y)?;
            candle.push(start.elapsed().as_secs_f64());
        }
        let work = 2.0 * m as f64 * k as f64 * n as f64 / 1e9;
        let size = format!("{m} x {k} x {n}");
        let [own, bf16] = own.map(|times| rates(work, times));
        println!("{name:27} {size:>20}  {own}  {bf16}  {}", rates(work, candle));
    }
    Ok(())
}

/// Numbers between -1 and 1, never subnormal.
fn ramp(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect()
}

fn rates(work: f64, mut seconds: Vec<f64>) -> String {
    seconds.sort_by(f64::total_cmp);
    let best = work / seconds[0];
    let median = work / seconds[seconds.len() / 2];
    format!("{best:>7.0} {median:>7.0}")
}
