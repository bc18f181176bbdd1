//! `simplenet manual`: man pages and shell completions, made from the command line itself.

use std::io::Write;

use anyhow::{Context, Result};
use clap::CommandFactory;
use simplenet::write_atomic;

use crate::Outcome;
use crate::arguments::{Arguments, Manual};

pub(crate) fn run(arguments: &Manual) -> Result<Outcome> {
    let mut command = Arguments::command();
    if let Some(shell) = arguments.completions {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, "simplenet", &mut text);
        std::io::stdout().lock().write_all(&text)?;
    }
    if let Some(folder) = &arguments.man {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        // Gives the subcommands the global options and their full names.
        command.build();
        page(&command, "simplenet", folder)?;
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            page(verb, &format!("simplenet-{}", verb.get_name()), folder)?;
        }
    }
    Ok(Outcome::default())
}

fn page(command: &clap::Command, name: &str, folder: &std::path::Path) -> Result<()> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).title(name).render(&mut text)?;
    Ok(write_atomic(&folder.join(format!("{name}.1")), &text)?)
}
