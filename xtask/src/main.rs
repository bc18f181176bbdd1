//! Composes data, backbone, head, metrics and report into the experiments of the paper.

#[macro_use]
mod say;

mod bench;
mod compare;
mod data;
mod exhibits;
mod experiment;
mod folder;
mod kept;
mod layers;
mod plan;
mod progress;
mod record;
mod report;
mod reproduce;
mod run;
mod shard;
mod sheets;
mod source;
mod weights;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Reproduce the SimpleNet paper, fetch its data, check the project",
    version
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run an experiment of the paper and print its table
    Reproduce(Box<reproduce::Arguments>),
    /// Make documents, figures and pages from finished rows
    Report(report::Arguments),
    /// Print where two runs, or a run and the paper, differ most
    Compare(compare::Arguments),
    /// Fetch data sets and weights, or check those that are there
    Data(data::Arguments),
    /// Time the code here, and beside others
    #[command(subcommand)]
    Bench(bench::Verb),
    /// Assert the layer table of docs/architecture.md
    Check,
}

fn main() -> ExitCode {
    match dispatch(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            errln!("{}", render(&error));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: Arguments) -> Result<ExitCode> {
    match arguments.verb {
        Verb::Reproduce(arguments) => reproduce::run(&arguments),
        Verb::Report(arguments) => report::run(&arguments),
        Verb::Compare(arguments) => compare::run(&arguments),
        Verb::Data(arguments) => data::run(arguments),
        Verb::Bench(verb) => bench::run(&verb),
        Verb::Check => {
            layers::check()?;
            outln!("layers: as docs/architecture.md says");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The chain of causes on one line, then every hint on its own.
fn render(error: &anyhow::Error) -> String {
    let mut line = String::from("error");
    let mut hints = Vec::new();
    for cause in error.chain() {
        // candle appends a backtrace to its messages when RUST_BACKTRACE is set.
        let text = cause.to_string();
        let (message, hint) = text
            .split_once("\n\nhint: ")
            .map_or((text.as_str(), None), |(m, h)| (m, Some(h)));
        if !line.ends_with(message) {
            line = format!("{line}: {message}");
        }
        hints.extend(hint.map(str::to_string));
    }
    hints.dedup();
    hints.iter().fold(line, |text, hint| format!("{text}\n\nhint: {hint}"))
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::render;

    #[test]
    fn an_error_is_one_line_and_its_hints_come_last() {
        let error = anyhow!("failed to decode `a.png`\n\nhint: copy it again").context("category `bottle`");
        assert_eq!(
            render(&error),
            "error: category `bottle`: failed to decode `a.png`\n\nhint: copy it again"
        );
    }
}
