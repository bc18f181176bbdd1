//! Which processor a thread runs on.
//!
//! Linux wakes a thread on the processor of the one that wakes it where the thread's own last one does not count as idle: in a
//! virtual machine one that sleeps does not, and elsewhere the search ends early where those that share a cache were busy a
//! moment ago. The woken thread then waits for milliseconds behind one that goes on, beside a processor that has nothing to do.

/// The processor that this thread runs on; `None` where the system does not say.
#[cfg(target_os = "linux")]
pub(super) fn current() -> Option<usize> {
    Some(rustix::thread::sched_getcpu())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn current() -> Option<usize> {
    None
}

/// Moves this thread to another processor where it runs on `busy`, if it may use another. It may use the same ones as before
/// afterwards; those that the system only adds later to what the process may use are not among them.
#[cfg(target_os = "linux")]
pub(super) fn leave(busy: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    if current() != Some(busy) || busy >= CpuSet::MAX_CPU {
        return;
    }
    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    let mut others = allowed;
    others.unset(busy);
    // To forbid a processor moves the thread at once; to allow it again moves nothing. Both are hints: where one fails,
    // the thread runs where it may.
    if others.count() > 0 && sched_setaffinity(None, &others).is_ok() {
        let _ = sched_setaffinity(None, &allowed);
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn leave(_busy: usize) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::thread::{CpuSet, sched_getaffinity};

    use super::{current, leave};

    fn allowed() -> CpuSet {
        sched_getaffinity(None).unwrap()
    }

    #[test]
    fn a_thread_moves_and_may_still_come_back() {
        let before = allowed();
        let mut moved = 0;
        for _ in 0..100 {
            let busy = current().unwrap();
            leave(busy);
            // Nothing holds it away from `busy`, so now and then it may be there again.
            moved += usize::from(current() != Some(busy));
            assert_eq!(allowed(), before);
        }
        assert_eq!(moved > 0, before.count() > 1, "{moved} of 100");
        leave(usize::MAX);
        assert_eq!(allowed(), before);
    }
}
