//! `tokenkeep completions`: shell completions, generated from the definitions that parse the
//! command line.

use std::io;

use clap_complete::Shell;

use super::exit::{Exit, Failure};
use super::output;

/// Arguments of `tokenkeep completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArguments {
    /// Shell to print the completions for
    ///
    /// Example: tokenkeep completions bash > ~/.local/share/bash-completion/completions/tokenkeep
    shell: Shell,
}

/// Prints the completion script.
pub fn run(arguments: &CompletionsArguments, mut command: clap::Command) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "tokenkeep", &mut script);
    output::print(&mut io::stdout().lock(), String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}
