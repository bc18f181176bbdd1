//! What the processor's arithmetic does at most, measured: the yardstick beside which timings stand.

#[cfg(target_arch = "x86_64")]
use std::hint::black_box;
use std::time::Instant;

use crate::engine::{Precision, Team};
use crate::isa::Isa;

/// Multiplications and additions per second of all threads of the current pool together, in the instructions that the
/// kernels of `isa` use for `precision`: independent chains of multiply-adds on registers, no memory. The best of a few
/// runs of some milliseconds. `None` where there is no such instruction to measure (portable code), or this processor
/// lacks `isa`.
///
/// ```
/// use simplenet_kernels::engine::Precision;
/// use simplenet_kernels::isa::Isa;
///
/// assert!(simplenet_kernels::peak::operations_per_second(Precision::F32, Isa::Portable).is_none());
/// let fastest = simplenet_kernels::peak::operations_per_second(Precision::F32, Isa::detect()?);
/// assert!(fastest.is_none_or(|rate| rate > 1e8));
/// # Ok::<(), simplenet_kernels::isa::IsaError>(())
/// ```
pub fn operations_per_second(precision: Precision, isa: Isa) -> Option<f64> {
    const RUNS: usize = 7;
    const ROUNDS: u32 = 300_000;
    if !Isa::supported().contains(&isa) {
        return None;
    }
    let (operations_per_round, run) = chains(precision, isa)?;
    let threads = rayon::current_num_threads();
    // A thread that comes late leaves its part to the others, and that run is not the best one.
    let best = Team::gather(threads, |team| {
        let runs = (0..=RUNS).map(|_| {
            let start = Instant::now();
            // SAFETY: this processor has `isa`.
            team.for_each(threads, |_| unsafe { run(ROUNDS) });
            start.elapsed().as_secs_f64()
        });
        runs.fold(f64::INFINITY, f64::min)
    });
    let operations = operations_per_round * f64::from(ROUNDS) * threads as f64;
    Some(operations / best)
}

/// Operations of one round, and the loop.
#[cfg(target_arch = "x86_64")]
fn chains(precision: Precision, isa: Isa) -> Option<(f64, unsafe fn(u32))> {
    let avx512: (f64, unsafe fn(u32)) = (32.0 * 24.0, x86::avx512);
    match (precision, isa) {
        (_, Isa::Portable) => None,
        (_, Isa::Avx2) => Some((16.0 * 12.0, x86::avx2)),
        (Precision::Bf16, Isa::Avx512Bf16) => Some((64.0 * 24.0, x86::avx512_bf16)),
        (Precision::Bf16, Isa::Amx) => Some((4.0 * 16.0 * 16.0 * 32.0 * 2.0, crate::amx::peak)),
        _ => Some(avx512),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn chains(_precision: Precision, _isa: Isa) -> Option<(f64, unsafe fn(u32))> {
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::black_box;

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn avx512(rounds: u32) {
        let factor = black_box(_mm512_set1_ps(0.999));
        let mut sums = [factor; 24];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(factor, factor, *sum);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn avx512_bf16(rounds: u32) {
        // SAFETY: both are 64 bytes of plain data.
        let factor = black_box(unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi16(0x3f80)) });
        let mut sums = [_mm512_set1_ps(1.0); 24];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, factor, factor);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(rounds: u32) {
        let factor = black_box(_mm256_set1_ps(0.999));
        let mut sums = [factor; 12];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(factor, factor, *sum);
            }
        }
        black_box(sums);
    }
}
