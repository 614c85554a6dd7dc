//! `tokenkeep man`: manual pages, generated from the same definitions that parse the command line.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::exit::{Exit, Failure};
use super::output;

/// Arguments of `tokenkeep man`.
#[derive(Debug, clap::Args)]
pub struct ManArguments {
    /// Write the pages of all commands to this directory
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints or writes the pages: `tokenkeep.1`, `tokenkeep-keyset.1`, `tokenkeep-keyset-list.1` …
pub fn run(arguments: &ManArguments, command: clap::Command) -> Result<Exit, Failure> {
    // `help` needs no pages of its own. `build` names the subcommands after their parents.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let Some(directory) = &arguments.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command)
            .render(&mut page)
            .map_err(|error| Failure::fault(format!("cannot create the manual page: {error}")))?;
        output::print(&mut io::stdout().lock(), String::from_utf8_lossy(&page).trim_end())?;
        return Ok(Exit::Done);
    };
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(command, directory))
        .map_err(|error| Failure::fault(format!("cannot write manual pages to {}: {error}", directory.display())))?;
    Ok(Exit::Done)
}
