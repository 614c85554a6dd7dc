//! `tokenkeep authority`: make one, and serve.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueHint};
use serde_json::json;

use super::arguments::{ExistingPin, NewPin};
use super::exit::{Exit, Failure};
use super::progress;
use super::surroundings::{Surroundings, directory};
use super::{interrupt, output, screen};
use crate::authority::{self, Configuration, Environment};
use crate::letter::Letter;
use crate::prompter::PinSource;
use crate::service::{self, OpenDoors, Stop};

/// What the command line says.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an authority: its token, keys and database, and the first administrator's letter
    Init(Init),
    /// Serve: enroll, deliver, take administrators' statements, until Ctrl-C or SIGTERM
    Serve(Serve),
}

/// What the command line says of `authority init`.
#[derive(Debug, clap::Args)]
pub struct Init {
    #[command(flatten)]
    configuration: ConfigurationFile,
    #[command(flatten)]
    new_pin: NewPin,
    /// Keep a security officer's PIN for the authority's token, from this source [default: it is random and forgotten]
    #[arg(long, value_name = "SOURCE")]
    so_pin_source: Option<PinSource>,
    /// The first administrator's e-mail address
    #[arg(long, value_name = "EMAIL", value_hint = ValueHint::EmailAddress)]
    first_administrator: String,
    /// Write the first administrator's letter to this new file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    letter_out: PathBuf,
}

/// What the command line says of `authority serve`.
#[derive(Debug, clap::Args)]
pub struct Serve {
    #[command(flatten)]
    configuration: ConfigurationFile,
    #[command(flatten)]
    pin: ExistingPin,
}

/// `--config`
#[derive(Debug, clap::Args)]
pub struct ConfigurationFile {
    /// The authority's configuration (hsm-config/authority.toml is one with comments)
    #[arg(long = "config", value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
}

impl ConfigurationFile {
    fn load(&self) -> Result<Configuration, Failure> {
        let environment = Environment {
            // systemd gives several directories with colons between; the first is this unit's main one.
            state_directory: directory("STATE_DIRECTORY").map(|all| {
                all.to_str().and_then(|all| all.split(':').next()).map_or_else(|| all.clone(), PathBuf::from)
            }),
            xdg_state_home: directory("XDG_STATE_HOME"),
            home: directory("HOME"),
        };
        Ok(Configuration::load(&self.file, &environment)?)
    }
}

/// Runs it.
pub fn run(command: Command, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Init(arguments) => init(&arguments, around),
        Command::Serve(arguments) => serve(&arguments, around),
    }
}

fn init(arguments: &Init, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    let configuration = arguments.configuration.load()?;
    output::check_new(&arguments.letter_out)?;
    let prompter = around.prompter(Some(&PinSource::Prompt), arguments.new_pin.new_pin_source.as_ref())?;
    let label = &configuration.token.label;
    let pin = prompter.new_pin(&format!("the authority's token {label:?}"))?;
    let so_pin = match &arguments.so_pin_source {
        Some(source) => {
            let prompter = around.prompter(Some(&PinSource::Prompt), Some(source))?;
            Some(prompter.new_pin(&format!("the security officer of token {label:?}"))?)
        }
        None => None,
    };
    // The letter is written before the authority counts as made: who dies before that gets it by the same command.
    let letter = progress::during("making the authority's token and keys", || {
        let administrator = &arguments.first_administrator;
        authority::init_and_hand_over(&configuration, &pin, so_pin.as_ref(), administrator, around.now(), |letter| {
            write_first_letter(letter, &arguments.letter_out)
        })
    })?;
    around.screen.answer(
        format!(
            "Made the authority {:?} on the token {label:?}; its database is in {}.\n\
             Wrote {}: the first administrator's letter, good until {}.\n\
             Next: tokenkeep authority serve --config {}",
            configuration.name,
            configuration.state.display(),
            arguments.letter_out.display(),
            letter.expires,
            arguments.configuration.file.display(),
        ),
        &json!({
            "authority": configuration.name,
            "token": label,
            "state": configuration.state.display().to_string(),
            "letter": arguments.letter_out.display().to_string(),
            "reference": letter.reference.as_str(),
            "expires": letter.expires.to_string(),
        }),
    )
}

fn write_first_letter(letter: &Letter, path: &Path) -> Result<(), Failure> {
    letter.write_new(path).map_err(|error| {
        Failure::from(error).with_remedy(
            "everything but the letter is made: name a file that can be written, and type the command again with the same PIN",
        )
    })
}

fn serve(arguments: &Serve, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    let configuration = arguments.configuration.load()?;
    let label = configuration.token.label.clone();
    let pin =
        around.prompter(arguments.pin.pin_source.as_ref(), None)?.pin(&format!("the authority's token {label:?}"))?;
    interrupt::leave_to_caller();
    service::serve(configuration, pin, |doors| announce(doors, around), Stop::on_signal())?;
    around.screen.note("Stopped.");
    Ok(Exit::Done)
}

fn announce(doors: &OpenDoors, around: &Surroundings<'_>) {
    let line = if around.screen.is_json() {
        json!({
            "http": doors.http.to_string(),
            "https": doors.https.to_string(),
            "http_url": doors.http_url,
            "https_url": doors.https_url,
        })
        .to_string()
    } else {
        format!("Serving on http {} and https {}. Ctrl-C stops.", doors.http, doors.https)
    };
    // Who started the service may have closed its output: it serves all the same.
    let _ = screen::print(&mut io::stdout().lock(), &line);
}
