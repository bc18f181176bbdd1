//! `simplenet`: a detector from a folder of good parts, on the command line.
#![expect(clippy::print_stderr, reason = "a command; its data goes to stdout through `output`")]

mod arguments;
mod bench;
mod clock;
mod deeper;
mod evaluate;
mod gallery;
mod html;
mod inputs;
mod inspect;
mod manual;
mod options;
mod output;
mod outputs;
mod page;
mod picture;
mod predict;
mod progress;
mod remark;
mod rows;
mod sizes;
mod skipped;
mod strips;
mod threshold;
mod thumbnails;
mod train;
mod train_page;
mod watch;
mod watch_log;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::arguments::{Arguments, Verb};
use crate::output::{Output, is_broken_pipe};

/// With `--exit-code`: at least one defect.
const A_DEFECT: u8 = 1;
/// With `--exit-code`: something could not be judged. Without it every failure is 1.
const AN_ERROR: u8 = 2;

/// What a run came to, for the exit code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Outcome {
    defects: bool,
    errors: bool,
    /// A picture was passed over, or there was none; only a code says so.
    unjudged: bool,
}

fn main() -> ExitCode {
    let with_code = std::env::args_os().any(|argument| argument == "--exit-code");
    let failure = ExitCode::from(if with_code { AN_ERROR } else { 1 });
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // `--help` and `--version` are no failures. Where even this cannot be printed nobody is listening.
            let _ = error.print();
            return if error.use_stderr() { failure } else { ExitCode::SUCCESS };
        }
    };
    match dispatch(arguments) {
        Ok(Outcome { errors: true, .. }) => failure,
        Ok(Outcome { unjudged: true, .. }) if with_code => failure,
        Ok(Outcome { defects: true, .. }) if with_code => ExitCode::from(A_DEFECT),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", render(&error));
            failure
        }
    }
}

/// Bytes of a thread's stack: what a program's first thread has.
const STACK: usize = 8 << 20;

fn dispatch(arguments: Arguments) -> Result<Outcome> {
    // 0 is as many as there are processors.
    rayon::ThreadPoolBuilder::new()
        .num_threads(arguments.common.threads.unwrap_or(0))
        .stack_size(STACK)
        .build_global()
        .context("failed to start the threads")?;
    // On a thread of the pool: any other would wake one for each step of its work and sleep until that is done.
    rayon::scope(|_| run(arguments))
}

fn run(arguments: Arguments) -> Result<Outcome> {
    let output = Output::new(&arguments.common);
    match arguments.verb {
        Verb::Train(arguments) => train::run(arguments, &output),
        Verb::Predict(arguments) => predict::run(arguments, &output),
        Verb::Evaluate(arguments) => evaluate::run(&arguments, &output),
        Verb::Threshold(arguments) => threshold::run(&arguments, &output),
        Verb::Inspect(arguments) => inspect::run(&arguments, &output),
        Verb::Bench(arguments) => bench::run(&arguments, &output),
        Verb::Watch(arguments) => watch::run(&arguments, &output),
        Verb::Manual(arguments) => manual::run(&arguments),
    }
}

fn render(error: &anyhow::Error) -> String {
    format!("error: {}", message(error))
}

/// The chain of causes on one line, then every hint on its own.
fn message(error: &anyhow::Error) -> String {
    let mut line = String::new();
    let mut hints = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let (message, hint) = text
            .split_once("\n\nhint: ")
            .map_or((text.as_str(), None), |(message, hint)| (message, Some(hint)));
        if line.is_empty() {
            line = message.to_string();
        } else if !line.ends_with(message) {
            line = format!("{line}: {message}");
        }
        hints.extend(hint.map(str::to_string));
    }
    hints.dedup();
    hints.iter().fold(line, |text, hint| format!("{text}\n\nhint: {hint}"))
}
