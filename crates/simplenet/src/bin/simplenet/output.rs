//! Where words go: data to stdout, everything else to stderr.

use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::arguments::Common;

pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

impl Output {
    pub(crate) fn new(common: &Common) -> Output {
        Output {
            json: common.json,
            quiet: common.quiet,
        }
    }

    /// Data: a text on stdout.
    pub(crate) fn text(&self, text: &str) -> Result<()> {
        write(text).context(
            "cannot write the results to standard output\n\nhint: where it was sent may be full, or closed to this program",
        )
    }

    /// Data: one line of JSON on stdout.
    pub(crate) fn json_line(&self, value: &impl Serialize) -> Result<()> {
        self.text(&serde_json::to_string(value)?)
    }

    /// The same beside files or an exit code, which are wanted also where the reader of stdout, such as `head`, has enough.
    pub(crate) fn json_line_if_read(&self, value: &impl Serialize) -> Result<()> {
        match self.json_line(value) {
            Err(error) if is_broken_pipe(&error) => Ok(()),
            written => written,
        }
    }

    /// Data: the value as JSON if `--json` was given, else as text.
    pub(crate) fn either(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        if self.json {
            return self.json(value);
        }
        self.text(&text())
    }

    /// Data: JSON on stdout, over several lines.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<()> {
        self.text(&serde_json::to_string_pretty(value)?)
    }

    /// A remark for a person.
    pub(crate) fn say(&self, line: &str) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// The reader of our output, such as `head`, has enough.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|io| io.kind() == ErrorKind::BrokenPipe)
}
