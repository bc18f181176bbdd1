//! One bar on a terminal, elsewhere a line from time to time.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;

/// Between lines where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    phase: String,
    /// When the last line was written, or all began; `None` where none is wanted.
    last_line: Option<Instant>,
}

impl Progress {
    pub(crate) fn new(output: &Output) -> Progress {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = (!output.quiet && is_terminal).then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} (left {eta})");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Progress {
            bar,
            phase: String::new(),
            last_line: (!output.quiet && !is_terminal).then(Instant::now),
        }
    }

    /// Shows step `done` of `all` of a phase.
    pub(crate) fn at(&mut self, phase: &str, done: usize, all: usize) {
        if let Some(last) = &mut self.last_line
            && last.elapsed() >= BETWEEN_LINES
        {
            match all {
                1 => eprintln!("{phase}"),
                _ => eprintln!("{phase}: {done} of {all}"),
            }
            *last = Instant::now();
        }
        let Some(bar) = &self.bar else { return };
        if self.phase != phase {
            self.phase = phase.to_string();
            bar.reset();
            bar.set_length(all as u64);
            bar.set_message(self.phase.clone());
        }
        bar.set_position(done as u64);
    }

    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
