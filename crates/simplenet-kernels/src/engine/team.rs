//! Threads that go through the steps of a network side by side.
//!
//! A step of a small network takes some tens of microseconds, as long as a sleeping thread takes to wake up. So threads
//! are called once for all steps of a run, and watch for the next step instead of sleeping. Whoever called them does its
//! share of every step and waits only for tasks that others have begun: a thread that comes late, or never, holds
//! nothing up.
//!
//! Every thread has a share of a step's tasks, the same part of every step, so that it finds in its own cache what it
//! wrote in the step before. Who is done with its own share takes from the far end of another's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use super::part;

/// How often a thread looks for work before it lets others run in between: about as long as a long step takes.
const LOOKS: usize = 2000;

/// One thread that gives out tasks, and others that help.
pub(super) struct Team {
    shares: Vec<Share>,
    /// The closure of this round, and what calls it.
    task: AtomicPtr<()>,
    call: AtomicPtr<()>,
    /// Tasks of this round that are done.
    done: AtomicUsize,
    panicked: AtomicBool,
    over: AtomicBool,
}

/// Calls the closure behind the pointer.
type Call = unsafe fn(*const (), usize);

/// What is left of one thread's tasks. A cache line of its own, as its thread writes to it all the time.
#[repr(align(64))]
#[derive(Default)]
struct Share(AtomicU64);

/// The value of a [`Share`]: a round of tasks, and which of them are left.
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
    pub(super) fn gather<R>(threads: usize, work: impl FnOnce(&Team) -> R) -> R {
        let nothing: Call = |_, _| {};
        let team = Team {
            shares: (0..threads).map(|_| Share::default()).collect(),
            task: AtomicPtr::default(),
            call: AtomicPtr::new(nothing as *mut ()),
            done: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            over: AtomicBool::new(false),
        };
        rayon::in_place_scope(|scope| {
            let team = &team;
            for member in 1..threads {
                scope.spawn(move |_| team.help(member));
            }
            // Also where `work` panics: the scope ends only when the helpers have left.
            let _dismissed = Dismissed(team);
            work(team)
        })
    }

    pub(super) fn threads(&self) -> usize {
        self.shares.len()
    }

    /// Runs `task(0)` to `task(tasks - 1)` in any order on any of the threads; all are done when this returns. For the
    /// thread that gathered the team.
    ///
    /// # Panics
    /// Where a task did, and for more tasks than a round can have (a million).
    pub(super) fn for_each<F: Fn(usize) + Sync>(&self, tasks: usize, task: F) {
        /// # Safety
        /// `task` points to a live `F`.
        unsafe fn call<F: Fn(usize)>(task: *const (), index: usize) {
            // SAFETY: the caller's promise.
            unsafe { (*task.cast::<F>())(index) }
        }
        assert!(tasks as u64 <= Left::MOST, "{tasks} tasks, more than {}", Left::MOST);
        let call: Call = call::<F>;
        self.task
            .store((&raw const task).cast::<()>().cast_mut(), Ordering::Relaxed);
        self.call.store(call as *mut (), Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        for (member, share) in self.shares.iter().enumerate() {
            let tasks = part(tasks, self.shares.len(), member);
            let left = Left {
                // Wraps after 2^24 rounds, of which a run has some hundred.
                round: Left::unpack(share.0.load(Ordering::Relaxed)).round + 1,
                first: tasks.start as u64,
                end: tasks.end as u64,
            };
            share.0.store(left.pack(), Ordering::Release);
        }
        while let Some(begun) = self.begin(0) {
            self.finish(&begun);
        }
        let mut looks = 0;
        while self.done.load(Ordering::Acquire) < tasks {
            wait(&mut looks);
        }
        assert!(!self.panicked.load(Ordering::Relaxed), "a task of the network panicked");
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
                let (index, rest) = if distance == 0 {
                    (
                        left.first,
                        Left {
                            first: left.first + 1,
                            ..left
                        },
                    )
                } else {
                    (
                        left.end - 1,
                        Left {
                            end: left.end - 1,
                            ..left
                        },
                    )
                };
                match share.compare_exchange_weak(bits, rest.pack(), Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => {
                        return Some(Begun {
                            index: index as usize,
                            task,
                            // SAFETY: only values of this type are stored there.
                            call: unsafe { std::mem::transmute::<*mut (), Call>(call) },
                        });
                    }
                    Err(now) => bits = now,
                }
            }
        })
    }

    fn finish(&self, begun: &Begun) {
        // SAFETY: the closure lives until `for_each` returns, which is not before this task is counted.
        let result = catch_unwind(AssertUnwindSafe(|| unsafe { (begun.call)(begun.task, begun.index) }));
        if result.is_err() {
            self.panicked.store(true, Ordering::Relaxed);
        }
        self.done.fetch_add(1, Ordering::Release);
    }

    fn help(&self, member: usize) {
        let mut looks = 0;
        while !self.over.load(Ordering::Relaxed) {
            match self.begin(member) {
                Some(begun) => {
                    self.finish(&begun);
                    looks = 0;
                }
                None => wait(&mut looks),
            }
        }
    }
}

/// Lets the helpers go when it is dropped.
struct Dismissed<'a>(&'a Team);

impl Drop for Dismissed<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Team;

    #[test]
    fn every_task_of_every_round_runs_once() {
        for threads in [1, 2, 3, 8] {
            Team::gather(threads, |team| {
                for round in 0..2000 {
                    let tasks = round % 9;
                    let runs: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                    team.for_each(tasks, |task| {
                        runs[task].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(
                        runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1),
                        "round {round}"
                    );
                }
            });
        }
    }

    #[test]
    fn a_round_sees_what_the_last_one_wrote() {
        Team::gather(2, |team| {
            let cells: Vec<AtomicUsize> = (0..64).map(|_| AtomicUsize::new(0)).collect();
            for round in 0..1000 {
                team.for_each(cells.len(), |task| {
                    let neighbour = cells[(task + 1) % cells.len()].load(Ordering::Relaxed);
                    assert!(neighbour == round || neighbour == round + 1);
                    cells[task].store(round + 1, Ordering::Relaxed);
                });
            }
        });
    }

    #[test]
    fn a_panic_of_a_task_is_a_panic_of_the_run() {
        let run = || {
            Team::gather(2, |team| {
                team.for_each(50, |task| assert!(task != 13));
            });
        };
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
    }
}
