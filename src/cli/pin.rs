//! `tokenkeep pin`: change the PIN of a keyset's token, look at the PINs of tokens, set a new one as security officer.

use std::os::unix::net::UnixStream;

use clap::Subcommand;
use serde_json::json;

use super::arguments::{ExistingPin, NewPin, WhichKeyset};
use super::exit::{Exit, Failure};
use super::person::{AtTheCommandLine, no_pin, pin_state};
use super::surroundings::Surroundings;
use crate::keyset::{NoPin, SecurityOfficer, TokenSelector};
use crate::prompter::{PinSource, Prompter};
use crate::token::{Pin, PinRule, TokenInfo};

/// What the command line says.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Change the PIN; the old one is tried once, before a new one is asked for
    Change(Change),
    /// Say which PINs are good, low on tries, or locked; tries none
    Status(Status),
    /// Set a new PIN by the SO PIN (PUK), where the PIN is locked or forgotten; the SO PIN is tried once
    Unblock(Unblock),
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

/// What the command line says of `pin status`.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// One token: PKCS#11 URI, serial number or label [default: all that are present]
    token: Option<TokenSelector>,
}

/// What the command line says of `pin unblock`.
#[derive(Debug, clap::Args)]
pub struct Unblock {
    /// The token: PKCS#11 URI, serial number or label [default: the only one]
    token: Option<TokenSelector>,
    /// Where the SO PIN comes from: prompt, file:PATH, fd:N or credential:NAME [default: prompt]
    #[arg(long, value_name = "SOURCE")]
    so_pin_source: Option<PinSource>,
    #[command(flatten)]
    new_pin: NewPin,
}

/// Runs it.
pub fn run(command: Command, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Change(arguments) => change(&arguments, around),
        Command::Status(arguments) => status(&arguments, around),
        Command::Unblock(arguments) => unblock(&arguments, around),
    }
}

fn change(arguments: &Change, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    let desk = around.desk()?;
    let keyset = around.keyset(&desk, &arguments.which)?;
    let prompter = around.prompter(arguments.pin.pin_source.as_ref(), arguments.new_pin.new_pin_source.as_ref())?;
    desk.pin_change(&keyset, &mut AtTheCommandLine::new(prompter, around.screen))?;
    let token = keyset.token.name();
    around.screen.answer(
        format!("Changed the PIN of {token}."),
        &json!({ "keyset": keyset.name.as_str(), "token": { "label": token.label, "serial": token.serial } }),
    )
}

fn status(arguments: &Status, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    let (shown, troubles) = around.desk()?.pins(arguments.token.as_ref())?;
    super::token::warn(around, &troubles);
    let rows = shown
        .iter()
        .map(|(token, flags)| {
            vec![
                token.label.clone(),
                token.serial.clone(),
                pin_state(token.pin_state).to_owned(),
                pin_state(flags.so_pin_state).to_owned(),
                super::token::module_name(&token.module),
            ]
        })
        .collect();
    let value: Vec<_> = shown
        .iter()
        .map(|(token, flags)| {
            json!({
                "label": token.label,
                "serial": token.serial,
                "module": token.module.display().to_string(),
                "pin_state": pin_state(token.pin_state),
                "so_pin_state": pin_state(flags.so_pin_state),
                "pin_to_be_changed": flags.pin_to_be_changed,
                "pin_at_the_reader": flags.pin_at_the_reader,
            })
        })
        .collect();
    around.screen.table(&["label", "serial", "PIN", "SO PIN", "module"], rows, "No token is present.", &value)
}

fn unblock(arguments: &Unblock, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    let desk = around.desk()?;
    // Not agent.toml's source: that one has the user's PIN.
    let source = arguments.so_pin_source.as_ref().unwrap_or(&PinSource::Prompt);
    let prompter = around.prompter(Some(source), arguments.new_pin.new_pin_source.as_ref())?;
    let token = desk.pin_unblock(arguments.token.as_ref(), &mut Officer(prompter))?;
    let name = token.name();
    around.screen.answer(
        format!("Set a new PIN on {name}. What is on it stays."),
        &json!({ "token": { "label": name.label, "serial": name.serial } }),
    )
}

/// Who has the SO PIN, at the command line.
struct Officer(Prompter);

impl SecurityOfficer for Officer {
    fn risks_last_try(&mut self, token: &TokenInfo) -> Result<(), NoPin> {
        if !self.0.attended() {
            return Err(NoPin::LastTry);
        }
        let question =
            format!("{}: the next wrong SO PIN locks it, and then nobody can unblock this token. Go on?", token.name());
        match self.0.confirm(&question) {
            Ok(true) => Ok(()),
            Ok(false) => Err(NoPin::Declined),
            Err(error) => Err(no_pin(&error)),
        }
    }

    fn so_pin(&mut self, token: &TokenInfo) -> Result<Pin, NoPin> {
        self.0.pin(&format!("the security officer of {}", token.name())).map_err(|error| no_pin(&error))
    }

    fn is_asked_over(&mut self, connection: &UnixStream) {
        self.0.ask_while_open(connection);
    }

    fn new_pin(&mut self, token: &TokenInfo, rule: PinRule) -> Result<Pin, NoPin> {
        self.0.new_pin(&token.name().to_string(), Some(rule)).map_err(|error| no_pin(&error))
    }
}
