//! The GPU of a test, or a word on why there is none.

use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

use simplenet_kernels::cuda::Gpu;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A GPU that no other test of the process uses meanwhile: opening one or loading kernels would break a capture.
pub(crate) struct OwnGpu {
    gpu: Gpu,
    _turn: MutexGuard<'static, ()>,
}

impl Deref for OwnGpu {
    type Target = Gpu;

    fn deref(&self) -> &Gpu {
        &self.gpu
    }
}

/// The first GPU. Without one the test is skipped and says so; with `SIMPLENET_REQUIRE_GPU` that is a failure.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn gpu() -> Option<OwnGpu> {
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    match Gpu::new(0) {
        Ok(gpu) => Some(OwnGpu { gpu, _turn: turn }),
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().next().unwrap_or_default();
            assert!(
                std::env::var_os("SIMPLENET_REQUIRE_GPU").is_none(),
                "SIMPLENET_REQUIRE_GPU is set, and there is no GPU: {reason}"
            );
            eprintln!("skipped: there is no GPU ({reason})");
            None
        }
    }
}
