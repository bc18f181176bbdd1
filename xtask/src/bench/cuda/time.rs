//! Timing on the device's own clock.

use std::time::Duration;

use anyhow::Result;
use simplenet_kernels::cuda::Gpu;

use crate::bench::measure::Timing;

/// Times `rounds` calls of `work` between moments in the stream, one after the other without waiting, as PyTorch's are timed
/// (scripts/peers/cuda_peers.py). Five calls before that are not counted.
pub(super) fn on_device(gpu: &Gpu, rounds: usize, mut work: impl FnMut() -> Result<()>) -> Result<Timing> {
    for _ in 0..5 {
        work()?;
    }
    gpu.synchronize()?;
    let mut moments = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = gpu.record_event()?;
        work()?;
        moments.push((start, gpu.record_event()?));
    }
    let mut times = Vec::with_capacity(rounds);
    for (start, end) in moments {
        times.push(Duration::from_secs_f64(start.milliseconds_to(&end)? / 1e3));
    }
    Ok(Timing::of(times))
}
