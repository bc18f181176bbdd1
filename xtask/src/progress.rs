//! What a person sees while it runs: one bar on a terminal, one line per finished cell everywhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// The bar of a run. Off a terminal it shows nothing, and only [`Progress::finished`] writes.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    cells: usize,
    done: usize,
}

impl Progress {
    /// For `cells` cells.
    pub(crate) fn new(cells: usize) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{prefix} {msg} {wide_bar} {pos}/{len} {elapsed} (left {eta})");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Progress { bar, cells, done: 0 }
    }

    /// Begins a phase of `steps` steps.
    pub(crate) fn phase(&self, what: &str, steps: usize) {
        if let Some(bar) = &self.bar {
            bar.reset();
            bar.set_length(steps as u64);
            bar.set_prefix(format!("[{}/{}]", self.done + 1, self.cells));
            bar.set_message(what.to_string());
        }
    }

    /// Sets how far the phase is.
    pub(crate) fn at(&self, step: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(step as u64);
        }
    }

    /// Writes the line of a finished cell.
    pub(crate) fn finished(&mut self, line: &str) {
        self.done += 1;
        let width = self.cells.to_string().len();
        self.say(&format!("[{:>width$}/{}] {line}", self.done, self.cells));
    }

    /// Writes a line without breaking the bar.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| errln!("{line}")),
            None => errln!("{line}"),
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
