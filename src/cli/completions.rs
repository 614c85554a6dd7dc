//! `tokenkeep completions`: generated from the same definitions that parse the command line.

use std::io;

use clap_complete::Shell;

use super::exit::{Exit, Failure};
use super::screen;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Which shell; e.g. `tokenkeep completions bash > ~/.local/share/bash-completion/completions/tokenkeep`
    shell: Shell,
}

/// Prints the completions.
pub fn run(arguments: &Arguments, mut command: clap::Command) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "tokenkeep", &mut script);
    screen::print(&mut io::stdout().lock(), String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}
