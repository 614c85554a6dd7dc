//! `tokenkeep authority administrator add`: an administrator when no other one can make one, with the authority's PIN.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};
use serde_json::json;

use super::{ConfigurationFile, pin_of};
use crate::authority::{AdministratorLetter, Authority};
use crate::cli::arguments::ExistingPin;
use crate::cli::exit::{Exit, Failure};
use crate::cli::surroundings::Surroundings;
use crate::cli::{output, progress};
use crate::service;

/// What the command line says.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make somebody an administrator, or give an administrator whose certificate has expired a new letter
    ///
    /// Only while nobody serves: the PIN of the authority's token is verified by a log-in. While another administrator
    /// has a valid certificate, letter and role count after 24 hours, and every command of the others tells of it until
    /// each has acknowledged it (`admin acknowledge`).
    Add(Add),
}

/// What the command line says of `authority administrator add`.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// The administrator's e-mail address
    #[arg(value_hint = ValueHint::EmailAddress)]
    email: String,
    /// The whole name; needed for somebody new
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    configuration: ConfigurationFile,
    #[command(flatten)]
    pin: ExistingPin,
    /// Write the letter to this new file, for its owner only
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    letter_out: PathBuf,
}

/// Runs it.
pub(super) fn run(command: Command, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Add(arguments) => add(&arguments, around),
    }
}

fn add(arguments: &Add, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    let configuration = arguments.configuration.load()?;
    output::check_new(&arguments.letter_out)?;
    Authority::check_administrator(&arguments.email, arguments.name.as_deref())?;
    if service::is_running(&configuration)? {
        return Err(Failure::new(Exit::Refused, "cannot add an administrator while `authority serve` runs")
            .with_remedy("stop it, type the command again, and start it after that; or have an administrator do it"));
    }
    let pin = pin_of(&configuration, &arguments.pin, around)?;
    let AdministratorLetter { letter, counts_from, others, entry } =
        progress::during("adding the administrator", || -> Result<_, Failure> {
            let authority = Authority::open(configuration, &pin, around.now())?;
            Ok(authority.add_administrator(&arguments.email, arguments.name.as_deref(), around.now())?)
        })?;
    let path = arguments.letter_out.display();
    letter.write_new(&arguments.letter_out).map_err(|error| {
        Failure::from(error).with_remedy("the letter is lost: type the command again, the new letter voids it")
    })?;
    let counts = if others.is_empty() {
        "No other administrator has a valid certificate: the letter is good at once.".to_owned()
    } else {
        format!(
            "Letter and role count from {counts_from} on; until then, and until they acknowledge it, these are told: {}.",
            others.join(", ")
        )
    };
    around.screen.answer(
        format!(
            "Wrote {path}: an administrator's letter for {} <{}>, good until {}. Entry {entry} of the log says so.\n{counts}",
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
