//! One bar, on a terminal only.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    phase: String,
}

impl Progress {
    pub(crate) fn new(output: &Output) -> Progress {
        let shown = !output.quiet && std::io::stderr().is_terminal();
        let bar = shown.then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} (left {eta})");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Progress {
            bar,
            phase: String::new(),
        }
    }

    /// Shows step `done` of `all` of a phase.
    pub(crate) fn at(&mut self, phase: &str, done: usize, all: usize) {
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
