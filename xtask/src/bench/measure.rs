//! How long something takes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Result;
use simplenet_report::Benchmark;

/// How often something is timed: until `time` has passed, but `least` to `most` times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) time: Duration,
    pub(crate) least: usize,
    pub(crate) most: usize,
    /// Rounds before that are not counted: caches, memory, the processor's clock.
    pub(crate) warm_up: usize,
}

/// The times of one contestant's rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Timing {
    pub(crate) rounds: usize,
    pub(crate) best: Duration,
    pub(crate) p50: Duration,
    /// The slowest where there are fewer than 100 rounds.
    pub(crate) p99: Duration,
}

impl Timing {
    /// Of at least one round.
    pub(crate) fn of(mut rounds: Vec<Duration>) -> Timing {
        rounds.sort();
        let last = rounds.len() - 1;
        Timing {
            rounds: rounds.len(),
            best: rounds[0],
            p50: rounds[last / 2],
            p99: rounds[(last * 99).div_ceil(100)],
        }
    }

    /// A row's times.
    pub(crate) fn fill(self, row: Benchmark) -> Benchmark {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        Benchmark {
            rounds: u32::try_from(self.rounds).unwrap_or(u32::MAX),
            p50_ms: milliseconds(self.p50),
            p99_ms: milliseconds(self.p99),
            best_ms: milliseconds(self.best),
            ..row
        }
    }
}

/// Something that can be timed: runs once and says how long that took.
pub(crate) type Contestant<'a> = Box<dyn FnMut() -> Result<Duration> + 'a>;

/// A contestant that this process runs. What `work` returns is dropped outside the time.
pub(crate) fn contestant<'a, T>(mut work: impl FnMut() -> Result<T> + 'a) -> Contestant<'a> {
    Box::new(move || {
        let start = Instant::now();
        let result = black_box(work()?);
        let time = start.elapsed();
        drop(result);
        Ok(time)
    })
}

/// Timed runs of a contestant before the next one's turn, at most.
const RUNS_PER_TURN: usize = 4;

/// Turns of a contestant, about, where its rounds allow it. What else runs on a machine comes and goes within seconds; with few
/// turns, the median would be that of what one of them met.
const TURNS: usize = 6;

/// Before every turn: worker threads spin for a while after their work, and the next contestant should not meet those of
/// the one before.
const SETTLE: Duration = Duration::from_millis(100);

/// Times contestants in turns, so that whatever slows the machine down for a while slows all of them. A turn begins with a
/// run that is not counted, because the caches hold what the others have used. Every contestant has `budget.time` of its
/// own.
pub(crate) fn alternate(budget: Budget, contestants: &mut [Contestant<'_>]) -> Result<Vec<Timing>> {
    let mut of_a_round = Duration::ZERO;
    for _ in 0..budget.warm_up {
        of_a_round = Duration::ZERO;
        for run in contestants.iter_mut() {
            of_a_round += run()?;
        }
    }
    let mut rounds: Vec<Vec<Duration>> = contestants.iter().map(|_| Vec::new()).collect();
    let mut spent = Duration::ZERO;
    let whole = budget.time * u32::try_from(contestants.len()).unwrap_or(u32::MAX);
    let expected = whole.as_secs_f64() / of_a_round.as_secs_f64().max(1e-9);
    let expected = (expected as usize).max(budget.least).min(budget.most);
    let runs_per_turn = (expected / TURNS).clamp(1, RUNS_PER_TURN);
    let alone = contestants.len() == 1;
    let (mut round, mut turns) = (0, 0);
    let is_short = |round, turns| round < budget.least.max(1) || turns < TURNS.min(budget.least);
    while round < budget.most.max(1) && (spent < whole || is_short(round, turns)) {
        let runs = if alone {
            1
        } else {
            runs_per_turn.min(budget.most.max(1) - round)
        };
        for (run, times) in contestants.iter_mut().zip(&mut rounds) {
            if !alone {
                std::thread::sleep(SETTLE);
                run()?;
            }
            for _ in 0..runs {
                let time = run()?;
                spent += time;
                times.push(time);
            }
        }
        round += runs;
        turns += 1;
    }
    Ok(rounds.into_iter().map(Timing::of).collect())
}

/// Times one contestant.
pub(crate) fn measure<T>(budget: Budget, work: impl FnMut() -> Result<T>) -> Result<Timing> {
    let timings = alternate(budget, &mut [contestant(work)])?;
    Ok(timings[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_rounds() {
        let timing = Timing::of((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!(timing.rounds, 200);
        assert_eq!(timing.best, Duration::from_millis(1));
        assert_eq!(timing.p50, Duration::from_millis(100));
        assert_eq!(timing.p99, Duration::from_millis(199));
        let one = Timing::of(vec![Duration::from_millis(7)]);
        assert_eq!((one.best, one.p50, one.p99), (one.p50, one.p99, one.best));
    }

    #[test]
    fn contestants_take_turns_within_the_budget() -> Result<()> {
        let order = std::cell::RefCell::new(Vec::new());
        let budget = Budget {
            time: Duration::from_millis(30),
            least: 2,
            most: 3,
            warm_up: 1,
        };
        let turn = |name: char, time: u64| {
            let order = &order;
            Box::new(move || {
                order.borrow_mut().push(name);
                Ok(Duration::from_millis(time))
            }) as Contestant<'_>
        };
        // A run to warm up, then turns of one that is not counted and one that is.
        let timings = alternate(budget, &mut [turn('a', 10), turn('b', 20)])?;
        assert_eq!(timings[1].rounds, 2);
        assert_eq!(timings[0].p50, Duration::from_millis(10));
        let slow = alternate(budget, &mut [turn('c', 1000)])?;
        assert_eq!(slow[0].rounds, 2, "`least` holds beyond the time");
        let fast = alternate(budget, &mut [turn('d', 1)])?;
        assert_eq!(fast[0].rounds, 3, "`most` holds within the time");
        assert_eq!(order.borrow().iter().collect::<String>(), "abaabbaabbcccdddd");
        order.borrow_mut().clear();
        let many = Budget {
            least: 13,
            most: 13,
            ..budget
        };
        let timings = alternate(many, &mut [turn('a', 1), turn('b', 1)])?;
        assert_eq!(timings[0].rounds, 13);
        let expected = format!("ab{}aabb", "aaabbb".repeat(6));
        assert_eq!(
            order.borrow().iter().collect::<String>(),
            expected,
            "two each, and one at the end"
        );
        Ok(())
    }
}
