//! Which processors a measurement may use. Left to the system, contestants in one thread can sit on different processors, and
//! what is busy beside one of those slows it alone.

/// Runs `work` on as many of the processors as it has `threads`, the last ones; the threads and programs that it starts stay
/// there. Where there are no more processors than that, or the system does not bind threads, it just runs.
#[cfg(target_os = "linux")]
pub(crate) fn on_last<T>(threads: usize, work: impl FnOnce() -> T) -> T {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let Ok(all) = sched_getaffinity(None) else {
        return work();
    };
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu)).collect();
    let mut chosen = CpuSet::new();
    allowed.iter().rev().take(threads).for_each(|&cpu| chosen.set(cpu));
    if threads >= allowed.len() || sched_setaffinity(None, &chosen).is_err() {
        return work();
    }
    let done = work();
    // What was allowed before is allowed again; where `work` panics the benchmark is over.
    let _ = sched_setaffinity(None, &all);
    done
}

/// Runs `work`.
#[cfg(not(target_os = "linux"))]
pub(crate) fn on_last<T>(_threads: usize, work: impl FnOnce() -> T) -> T {
    work()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread::available_parallelism;

    use super::on_last;

    #[test]
    fn threads_are_bound_and_set_free_again() {
        let here = available_parallelism().unwrap();
        // The number of processors that a thread may use.
        let inside = on_last(1, || std::thread::spawn(available_parallelism).join().unwrap().unwrap());
        assert_eq!(inside.get(), 1);
        assert_eq!(available_parallelism().unwrap(), here);
        assert_eq!(on_last(usize::MAX, || available_parallelism().unwrap()), here);
    }
}
