//! `tokenkeep pin`: change the PIN of a keyset's token.

use clap::Subcommand;
use serde_json::json;

use super::arguments::{ExistingPin, NewPin, WhichKeyset};
use super::exit::{Exit, Failure};
use super::person::AtTheCommandLine;
use super::surroundings::Surroundings;
use crate::keyset;

/// What the command line says.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Change the PIN; the old one is tried once
    Change(Change),
}

/// What the command line says of `pin change`.
#[derive(Debug, clap::Args)]
pub struct Change {
    #[command(flatten)]
    which: WhichKeyset,
    #[command(flatten)]
    pin: ExistingPin,
    #[command(flatten)]
    new_pin: NewPin,
}

/// Runs it.
pub fn run(command: Command, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    let Command::Change(arguments) = command;
    let tokens = around.tokens()?;
    let keyset = around.keyset(&tokens, &arguments.which)?;
    let prompter = around.prompter(arguments.pin.pin_source.as_ref(), arguments.new_pin.new_pin_source.as_ref())?;
    keyset::pin_change(&tokens, &keyset, &mut AtTheCommandLine::new(prompter, around.screen))?;
    let token = keyset.token.name();
    around.screen.answer(
        format!("Changed the PIN of {token}."),
        &json!({ "keyset": keyset.name.as_str(), "token": { "label": token.label, "serial": token.serial } }),
    )
}
