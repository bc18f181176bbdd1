//! Timing on the device's own clock.

use std::time::Duration;

use anyhow::Result;
use simplenet_kernels::cuda::Gpu;

use crate::bench::measure::Timing;

/// Times `rounds` calls of `work` one by one between two moments in the stream, the device idle before each: what a call
/// costs, launches included. Ten calls before that are not counted.
pub(super) fn on_device(gpu: &Gpu, rounds: usize, mut work: impl FnMut() -> Result<()>) -> Result<Timing> {
    for _ in 0..10 {
        work()?;
    }
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        gpu.synchronize()?;
        let start = gpu.moment()?;
        work()?;
        let end = gpu.moment()?;
        times.push(Duration::from_secs_f64(start.milliseconds_to(&end)? / 1e3));
    }
    Ok(Timing::of(times))
}
