//! `tokenkeep pin`: change the PIN of a keyset's token, report the state of PINs, and set a new PIN
//! with the SO PIN.

use clap::Subcommand;
use serde_json::json;

use super::arguments::{KeysetArguments, NewPinArguments, PinArguments};
use super::context::Context;
use super::exit::{Exit, Failure};
use super::table::TableColumn;
use super::terminal_prompter::{TerminalPrompter, pin_state_text};
use crate::keyset::ops::{ChangePin, PinStatus, UnblockPin};
use crate::keyset::{KeysetChoice, TokenSelector};
use crate::prompter::PinSource;

/// Subcommands of `tokenkeep pin`.
#[derive(Debug, Subcommand)]
pub enum PinCommand {
    /// Change the PIN of a keyset's token
    ///
    /// The current PIN (--pin-source) is tried once, before the new one is asked for. The new PIN
    /// applies to all keysets on the token.
    Change(PinChangeArguments),
    /// Report which PINs are usable, low on tries or locked; uses no try
    Status(PinStatusArguments),
    /// Set a new PIN with the SO PIN (PUK), if the PIN is locked or forgotten
    ///
    /// The SO PIN is tried once. All keys and certificates on the token are kept. The SO PIN of a
    /// token that `tokenkeep enroll` created without --so-pin-source is unknown: such a token
    /// cannot be unblocked.
    Unblock(PinUnblockArguments),
}

/// Arguments of `pin change`.
#[derive(Debug, clap::Args)]
pub struct PinChangeArguments {
    #[command(flatten)]
    which: KeysetArguments,
    #[command(flatten)]
    pin: PinArguments,
    #[command(flatten)]
    new_pin: NewPinArguments,
}

/// Arguments of `pin status`.
#[derive(Debug, clap::Args)]
pub struct PinStatusArguments {
    /// Token: PKCS#11 URI, serial number or label [default: all present tokens]
    token: Option<TokenSelector>,
}

/// Arguments of `pin unblock`.
#[derive(Debug, clap::Args)]
pub struct PinUnblockArguments {
    /// Token: PKCS#11 URI, serial number or label [default: the only token]
    token: Option<TokenSelector>,
    /// Source of the SO PIN: prompt, file:PATH, fd:N or credential:NAME
    ///
    /// Default: prompt.
    #[arg(long, value_name = "SOURCE")]
    so_pin_source: Option<PinSource>,
    #[command(flatten)]
    new_pin: NewPinArguments,
}

/// Runs the subcommand.
pub fn run(command: PinCommand, cx: &Context<'_>) -> Result<Exit, Failure> {
    match command {
        PinCommand::Change(arguments) => change(&arguments, cx),
        PinCommand::Status(arguments) => status(&arguments, cx),
        PinCommand::Unblock(arguments) => unblock(&arguments, cx),
    }
}

fn change(arguments: &PinChangeArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let backend = cx.backend()?;
    let keyset = cx.keyset(&backend, &arguments.which)?;
    let prompter = cx.prompter(arguments.pin.pin_source.as_ref(), arguments.new_pin.new_pin_source.as_ref())?;
    let operation = ChangePin { keyset: KeysetChoice::exactly(&keyset) };
    backend.call(operation, &mut TerminalPrompter::new(prompter, cx.output))?;
    let token = keyset.token.name();
    cx.output.answer(
        format!("Changed the PIN of {token}."),
        &json!({ "keyset": keyset.name.as_str(), "token": { "label": token.label, "serial": token.serial } }),
    )
}

fn status(arguments: &PinStatusArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let (shown, unreadable) = cx.backend()?.query(PinStatus { token: arguments.token.clone() })?;
    cx.warn_about_tokens(&unreadable);
    let rows = shown
        .iter()
        .map(|(token, flags)| {
            vec![
                token.label.clone(),
                token.serial.clone(),
                pin_state_text(token.pin_state).to_owned(),
                pin_state_text(flags.so_pin_state).to_owned(),
                super::token::source_name(&token.source),
            ]
        })
        .collect();
    let value: Vec<_> = shown
        .iter()
        .map(|(token, flags)| {
            json!({
                "label": token.label,
                "serial": token.serial,
                "module": token.source.display().to_string(),
                "pin_state": token.pin_state,
                "so_pin_state": flags.so_pin_state,
                "pin_to_be_changed": flags.pin_to_be_changed,
                "pin_at_the_reader": flags.pin_at_the_reader,
            })
        })
        .collect();
    let columns = [
        TableColumn::whole("label"),
        TableColumn::whole("serial"),
        TableColumn::whole("PIN"),
        TableColumn::whole("SO PIN"),
        TableColumn::omitted_if_same("module"),
    ];
    cx.output.table(&columns, rows, "No token is present.", &value)
}

fn unblock(arguments: &PinUnblockArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let backend = cx.backend()?;
    // Not the source in agent.toml, which has the user's PIN.
    let source = arguments.so_pin_source.as_ref().unwrap_or(&PinSource::Prompt);
    let prompter = cx.prompter(Some(source), arguments.new_pin.new_pin_source.as_ref())?;
    let person = &mut TerminalPrompter::for_security_officer(prompter, cx.output);
    let token = backend.call(UnblockPin { token: arguments.token.clone() }, person)?;
    let name = token.name();
    cx.output.answer(
        format!("Set a new PIN on {name}. Its keys are unchanged."),
        &json!({ "token": { "label": name.label, "serial": name.serial } }),
    )
}
