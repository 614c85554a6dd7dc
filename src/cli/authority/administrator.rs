//! `tokenkeep authority administrator add`: adds an administrator with the authority's PIN, when no
//! administrator can do it.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};
use serde_json::json;

use super::{ConfigurationArguments, pin_of};
use crate::authority::{AdministratorLetter, Authority};
use crate::cli::arguments::PinArguments;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::file_io;
use crate::cli::spinner;
use crate::service;

/// Subcommands of `tokenkeep authority administrator`.
#[derive(Debug, Subcommand)]
pub enum AdministratorCommand {
    /// Add an administrator, or issue a letter to one whose certificate has expired
    ///
    /// Works only while `authority serve` is not running, and requires the PIN of the authority's
    /// token. If another administrator has a valid certificate, letter and role take effect after
    /// 24 hours, and the answers to every command of the other administrators report it until each
    /// has acknowledged it (`admin acknowledge`).
    Add(AddAdministratorArguments),
}

/// Arguments of `authority administrator add`.
#[derive(Debug, clap::Args)]
pub struct AddAdministratorArguments {
    /// E-mail address of the administrator
    #[arg(value_hint = ValueHint::EmailAddress)]
    email: String,
    /// Full name of the administrator; required for a new user
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    configuration: ConfigurationArguments,
    #[command(flatten)]
    pin: PinArguments,
    /// Write the letter to this new file, mode 0600
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    letter_out: PathBuf,
}

/// Runs the subcommand.
pub(super) fn run(command: AdministratorCommand, cx: &Context<'_>) -> Result<Exit, Failure> {
    match command {
        AdministratorCommand::Add(arguments) => add(&arguments, cx),
    }
}

fn add(arguments: &AddAdministratorArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let configuration = arguments.configuration.load()?;
    file_io::check_new(&arguments.letter_out)?;
    Authority::check_administrator(&arguments.email, arguments.name.as_deref())?;
    if service::is_running(&configuration)? {
        return Err(Failure::new(Exit::Refused, "cannot add an administrator while `authority serve` runs")
            .with_remedy("stop it, run the command again, and then start it; or have an administrator do it"));
    }
    let pin = pin_of(&configuration, &arguments.pin, cx)?;
    let AdministratorLetter { letter, counts_from, others, entry } =
        spinner::with_spinner("adding the administrator", || -> Result<_, Failure> {
            let authority = Authority::open(configuration, &pin, cx.now())?;
            Ok(authority.add_administrator(&arguments.email, arguments.name.as_deref(), cx.now())?)
        })?;
    let path = arguments.letter_out.display();
    letter.write_new(&arguments.letter_out).map_err(|error| {
        Failure::from(error).with_remedy("the letter is lost: run the command again, and the new letter voids it")
    })?;
    let counts = if others.is_empty() {
        "No other administrator has a valid certificate: the letter is valid at once.".to_owned()
    } else {
        format!(
            "Letter and role take effect at {counts_from}. These administrators are notified until \
             they acknowledge: {}.",
            others.join(", ")
        )
    };
    cx.output.answer(
        format!(
            "Wrote {path}: an administrator's letter for {} <{}>, valid until {}. Entry {entry} of \
             the log records it.\n\
             {counts}",
            letter.user_name, letter.email, letter.expires,
        ),
        &json!({
            "letter": path.to_string(),
            "reference": letter.reference.as_str(),
            "email": letter.email,
            "name": letter.user_name,
            "expires": letter.expires.to_string(),
            "counts_from": counts_from.to_string(),
            "others": others,
            "entry": entry,
        }),
    )
}
