//! Threads that go through the steps of a network side by side.
//!
//! A step of a small network takes some tens of microseconds, as long as a sleeping thread takes to wake up. So threads
//! are called once for all steps of a run, and watch for the next step instead of sleeping. Whoever called them does its
//! share of every step and waits only for tasks that others have begun: a thread that comes late, or never, holds
//! nothing up.
//!
//! Every thread has a share of a step's tasks, the same part of every step, so that it finds in its own cache what it
//! wrote in the step before. Who is done with its own share takes from the far end of another's.
//!
//! A helper that was woken on the leader's own processor would wait there behind it. So the leader steps aside for a moment when it
//! has called, and a helper that finds itself where the leader runs goes elsewhere ([`processor`]).

use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{part, processor};

/// How often a thread looks for the next round before it lets others run in between: about as long as a long step takes.
const LOOKS: usize = 2000;

/// How often the leader lets helpers run that were woken on its processor: where none were, for some microseconds.
const STEPS_ASIDE: usize = 32;

/// The leader steps aside no more when that has taken so long, as beside other programs it does.
const PATIENCE: Duration = Duration::from_micros(50);

/// The thread that gives out tasks, in rounds, to itself and to others. Not `Sync`: a task, which many threads run, cannot
/// begin a round within its round.
pub(crate) struct Team {
    shared: Arc<Shared>,
    leads: PhantomData<Cell<()>>,
}

/// What a team's threads have in common.
struct Shared {
    shares: Vec<Share>,
    /// The processor of the leader.
    processor: Option<usize>,
    /// Helpers that have come.
    helpers: AtomicUsize,
    /// The closure of this round, and what calls it.
    task: AtomicPtr<()>,
    call: AtomicPtr<()>,
    /// What the first task to panic said.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// The current round; [`OVER`] when there are no more.
    round: OwnLine<AtomicU64>,
    /// Tasks of this round that are done.
    done: OwnLine<AtomicUsize>,
}

const OVER: u64 = u64::MAX;

/// Calls the closure behind the pointer.
type Call = unsafe fn(*const (), usize);

/// A value that no other shares a cache line with, as threads write to it while others read.
#[repr(align(128))]
#[derive(Default)]
struct OwnLine<T>(T);

/// What is left of one thread's tasks: a [`Left`].
type Share = OwnLine<AtomicU64>;

/// A round of tasks, and which of them are left.
#[derive(Clone, Copy)]
struct Left {
    round: u64,
    first: u64,
    end: u64,
}

impl Left {
    /// Of each of `first` and `end`.
    const BITS: u32 = 20;
    const MOST: u64 = (1 << Left::BITS) - 1;

    fn unpack(bits: u64) -> Left {
        Left {
            round: bits >> (2 * Left::BITS),
            first: bits >> Left::BITS & Left::MOST,
            end: bits & Left::MOST,
        }
    }

    /// The round wraps after 2^24, of which a run has some hundred.
    fn pack(self) -> u64 {
        self.round << (2 * Left::BITS) | self.first << Left::BITS | self.end
    }
}

/// A task that nobody else will begin.
struct Begun {
    index: usize,
    task: *const (),
    call: Call,
}

impl Team {
    /// Runs `work` with a team of `threads` threads: this one, and others of rayon's.
    pub(crate) fn gather<R>(threads: usize, work: impl FnOnce(&Team) -> R) -> R {
        let shared = Arc::new(Shared::new(threads));
        for member in 1..threads {
            let shared = shared.clone();
            // Not in a scope, which would wait for helpers that a busy pool never started.
            rayon::spawn(move || shared.help(member));
        }
        shared.step_aside();
        // Lets the helpers go when it is dropped, also where `work` panics.
        let team = Team {
            shared,
            leads: PhantomData,
        };
        work(&team)
    }

    pub(crate) fn threads(&self) -> usize {
        self.shared.shares.len()
    }

    /// Runs `task(0)` to `task(tasks - 1)` in any order on any of the threads; all are done when this returns.
    ///
    /// # Panics
    /// Where a task did, and for more tasks than a round can have (a million).
    pub(crate) fn for_each<F: Fn(usize) + Sync>(&self, tasks: usize, task: F) {
        /// # Safety
        /// `task` points to a live `F`.
        unsafe fn call<F: Fn(usize)>(task: *const (), index: usize) {
            // SAFETY: the caller's promise.
            unsafe { (*task.cast::<F>())(index) }
        }
        let shared = &*self.shared;
        assert!(tasks as u64 <= Left::MOST, "{tasks} tasks, more than {}", Left::MOST);
        let call: Call = call::<F>;
        shared
            .task
            .store((&raw const task).cast::<()>().cast_mut(), Ordering::Relaxed);
        shared.call.store(call as *mut (), Ordering::Relaxed);
        shared.done.0.store(0, Ordering::Relaxed);
        let round = shared.round.0.load(Ordering::Relaxed) + 1;
        for (member, share) in shared.shares.iter().enumerate() {
            let tasks = part(tasks, shared.shares.len(), member);
            let (first, end) = (tasks.start as u64, tasks.end as u64);
            share.0.store(Left { round, first, end }.pack(), Ordering::Release);
        }
        shared.round.0.store(round, Ordering::Release);
        shared.work(0);
        let mut looks = 0;
        while shared.done.0.load(Ordering::Acquire) < tasks {
            wait(&mut looks);
        }
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.round.0.store(OVER, Ordering::Release);
    }
}

impl Shared {
    /// With this thread as the leader.
    fn new(threads: usize) -> Shared {
        Shared {
            shares: (0..threads.max(1)).map(|_| Share::default()).collect(),
            processor: processor::current(),
            helpers: AtomicUsize::new(0),
            task: AtomicPtr::default(),
            call: AtomicPtr::default(),
            panic: Mutex::default(),
            round: OwnLine::default(),
            done: OwnLine::default(),
        }
    }

    /// Lets helpers run that wait behind this thread for its processor.
    fn step_aside(&self) {
        if self.processor.is_none() {
            return;
        }
        let called = Instant::now();
        for _ in 0..STEPS_ASIDE {
            if self.helpers.load(Ordering::Relaxed) + 1 >= self.shares.len() || called.elapsed() > PATIENCE {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Runs tasks of the current round until none is left to begin.
    fn work(&self, member: usize) {
        while let Some(begun) = self.begin(member) {
            // SAFETY: the closure lives until `for_each` returns, which is not before this task is counted.
            let result = catch_unwind(AssertUnwindSafe(|| unsafe { (begun.call)(begun.task, begun.index) }));
            if let Err(panic) = result {
                let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(panic);
            }
            self.done.0.fetch_add(1, Ordering::Release);
        }
    }

    /// Takes a task of the current round, if there is one left: the first of `member`'s, or the last of another's.
    fn begin(&self, member: usize) -> Option<Begun> {
        (0..self.shares.len()).find_map(|distance| {
            let share = &self.shares[(member + distance) % self.shares.len()].0;
            let mut bits = share.load(Ordering::Acquire);
            loop {
                let left = Left::unpack(bits);
                if left.first == left.end {
                    return None;
                }
                // Read before the task is taken, but used only if it is: its round then is not over, so that the next
                // one's closure cannot have been stored yet.
                let (task, call) = (self.task.load(Ordering::Relaxed), self.call.load(Ordering::Relaxed));
                let mut rest = left;
                let index = if distance == 0 {
                    rest.first += 1;
                    left.first
                } else {
                    rest.end -= 1;
                    rest.end
                };
                match share.compare_exchange_weak(bits, rest.pack(), Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => {
                        return Some(Begun {
                            index: index as usize,
                            task,
                            // SAFETY: `for_each` stored a value of this type before it gave out the task.
                            call: unsafe { std::mem::transmute::<*mut (), Call>(call) },
                        });
                    }
                    Err(now) => bits = now,
                }
            }
        })
    }

    /// Works in every round until there are no more.
    fn help(&self, member: usize) {
        // Nobody started this before its time was over: then it may be the leader itself, which has other work.
        if self.round.0.load(Ordering::Acquire) == OVER {
            return;
        }
        self.helpers.fetch_add(1, Ordering::Relaxed);
        if let Some(leader) = self.processor {
            processor::leave(leader);
        }
        let (mut last, mut looks) = (0, 0);
        loop {
            match self.round.0.load(Ordering::Acquire) {
                OVER => return,
                round if round == last => wait(&mut looks),
                round => {
                    self.work(member);
                    (last, looks) = (round, 0);
                }
            }
        }
    }
}

fn wait(looks: &mut usize) {
    if *looks < LOOKS {
        *looks += 1;
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use rayon::prelude::*;

    use super::{OVER, Shared, Team};
    use crate::engine::buffer::ArenaPtr;

    /// Rounds of no to many tasks, each of which must run once.
    fn count(threads: usize, rounds: usize) {
        Team::gather(threads, |team| {
            for round in 0..rounds {
                let runs: Vec<AtomicUsize> = (0..round % 9).map(|_| AtomicUsize::new(0)).collect();
                team.for_each(runs.len(), |task| {
                    runs[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1),
                    "round {round}"
                );
            }
        });
    }

    #[test]
    fn every_task_of_every_round_runs_once() {
        for threads in [1, 2, 3, 8] {
            count(threads, 2000);
        }
    }

    #[test]
    fn teams_in_a_busy_pool_hold_nothing_up() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
        pool.install(|| (0..16).into_par_iter().for_each(|_| count(4, 50)));
        // The pool's other thread is busy until this team is done.
        let is_done = AtomicBool::new(false);
        pool.broadcast(|context| match context.index() {
            0 => {
                count(3, 50);
                is_done.store(true, Ordering::Relaxed);
            }
            _ => {
                while !is_done.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
            }
        });
    }

    #[test]
    fn a_round_sees_what_the_last_one_wrote() {
        let (mut even, mut odd) = (vec![0_usize; 64], vec![0_usize; 64]);
        let layers = [ArenaPtr(even.as_mut_ptr()), ArenaPtr(odd.as_mut_ptr())];
        Team::gather(2, |team| {
            for round in 0..1000 {
                let (from, to) = (layers[round % 2], layers[(round + 1) % 2]);
                team.for_each(64, |task| {
                    // SAFETY: both lie in their vectors; a round reads one and each of its tasks writes its own place of
                    // the other.
                    unsafe { *to.at(task) = 1 + (*from.at((task + 1) % 64)).min(*from.at((task + 33) % 64)) };
                });
            }
        });
        assert_eq!(even, [1000; 64]);
    }

    #[test]
    fn a_helper_that_comes_too_late_does_nothing() {
        let shared = Shared::new(2);
        shared.round.0.store(OVER, Ordering::Release);
        shared.help(1);
        assert_eq!(shared.helpers.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_panic_of_a_task_is_a_panic_of_the_run() {
        let run = || Team::gather(2, |team| team.for_each(50, |task| assert!(task != 13, "thirteen")));
        let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("a panic");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"thirteen"));
    }
}
