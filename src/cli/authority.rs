//! `tokenkeep authority`: make one, serve, answer a statement that came as a file, check what is stored.

mod check;

mod administrator;

use std::io;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueHint};
use serde_json::json;

use super::arguments::{ExistingPin, NewPin};
use super::exit::{Exit, Failure};
use super::progress;
use super::surroundings::{Surroundings, directory};
use super::{interrupt, output, screen};
use crate::authority::{Authority, Configuration, Environment, InitPrepared, NoResponse, at_its_last_try};
use crate::letter::Letter;
use crate::prompter::PinSource;
use crate::service::{self, OpenDoors, ServiceError, Stop};
use crate::statement::{SignedResponse, SignedStatement, Way};
use crate::token::{Owner, Pin};

/// What the command line says.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an authority: its token, keys and database, and the first administrator's letter
    Init(Init),
    /// Serve: enroll, deliver, take administrators' statements, until Ctrl-C or SIGTERM
    Serve(Serve),
    /// Answer an administrator's statement that came as a file (`admin … --statement-out`)
    ///
    /// While `authority serve` runs, it answers, through its control socket, and no PIN is asked for here.
    Answer(Answer),
    /// Check the database: its form, every seal, the whole audit log and its evidence
    ///
    /// While `authority serve` runs, it checks, through its control socket, and no PIN is asked for here. Ends with 1 if
    /// something does not hold.
    Check(check::Check),
    /// Administrators, where no administrator can make one
    #[command(subcommand)]
    Administrator(administrator::Command),
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

/// What the command line says of `authority answer`.
#[derive(Debug, clap::Args)]
pub struct Answer {
    #[command(flatten)]
    configuration: ConfigurationFile,
    #[command(flatten)]
    pin: ExistingPin,
    /// The statement; - is stdin
    #[arg(long = "in", value_name = "FILE", value_hint = ValueHint::FilePath)]
    statement: PathBuf,
    /// Write the signed response to this new file
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: PathBuf,
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
    if around.names_modules() {
        return Err(Failure::usage("cannot take --module here: the authority's is `module` in its configuration"));
    }
    Owner::introduce_authority();
    match command {
        Command::Init(arguments) => init(&arguments, around),
        Command::Serve(arguments) => serve(&arguments, around),
        Command::Answer(arguments) => answer(&arguments, around),
        Command::Check(arguments) => check::check(&arguments, around),
        Command::Administrator(command) => administrator::run(command, around),
    }
}

fn init(arguments: &Init, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    let configuration = arguments.configuration.load()?;
    output::check_new(&arguments.letter_out)?;
    let prepared = InitPrepared::check(&configuration, &arguments.first_administrator, around.now())?;
    let prompter = around.prompter(Some(&PinSource::Prompt), arguments.new_pin.new_pin_source.as_ref())?;
    let label = &configuration.token.label;
    let rule = prepared.rule_for_new_pins();
    let pin = prompter.new_pin(&format!("the authority's token {label:?}"), rule)?;
    let so_pin = match &arguments.so_pin_source {
        Some(source) => {
            let prompter = around.prompter(Some(&PinSource::Prompt), Some(source))?;
            Some(prompter.new_pin(&format!("the security officer of token {label:?}"), None)?)
        }
        None => None,
    };
    interrupt::says(
        "the authority is not made yet: interrupted; the same command with the same PIN goes on where this one stopped",
    );
    // The letter is written before the authority counts as made: who dies before that gets it by the same command.
    let letter = progress::during("making the authority's token and keys", || {
        prepared.carry_out(&pin, so_pin.as_ref(), |letter| write_first_letter(letter, &arguments.letter_out))
    })?;
    interrupt::says("the authority is made, but it was interrupted before that was told");
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
    let pin = pin_of(&configuration, &arguments.pin, around)?;
    interrupt::leave_to_caller();
    service::serve(configuration, pin, |doors| announce(doors, around), Stop::on_signal())?;
    around.screen.note("Stopped.");
    Ok(Exit::Done)
}

fn answer(arguments: &Answer, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    let configuration = arguments.configuration.load()?;
    output::check_new(&arguments.out)?;
    // What is no statement at all needs neither PIN nor response.
    let statement = SignedStatement::parse(&output::read(Some(&arguments.statement))?)?;
    let response = match service::answer_by_running(&configuration, statement.as_der())? {
        Some(response) => response,
        None => answer_here(configuration, &arguments.pin, &statement, around)?,
    };
    output::write_new(&arguments.out, &response).map_err(|failure| {
        failure.with_remedy("the response is lost, and the statement is used: the administrator must make a new one")
    })?;
    let refusal = SignedResponse::from_der(response).claimed_refusal();
    let out = arguments.out.display();
    let lines = match &refusal {
        None => format!(
            "Wrote {out}: the signed response.\nNext: it goes back to the administrator (tokenkeep admin open)."
        ),
        Some(reason) => format!("Wrote {out}: the signed response, a refusal: {reason}"),
    };
    around.screen.answer(lines, &json!({ "response": out.to_string(), "refused": refusal }))
}

/// The PIN of the authority's token. What agent.toml names is the PIN of a person's keysets: it is not tried here.
fn pin_of(configuration: &Configuration, pin: &ExistingPin, around: &Surroundings<'_>) -> Result<Pin, Failure> {
    let source = pin.pin_source.as_ref().unwrap_or(&PinSource::Prompt);
    let label = &configuration.token.label;
    let prompter = around.prompter(Some(source), None)?;
    // One that nobody types is refused at the last try, when the authority is opened.
    let Some(token) = at_its_last_try(configuration).filter(|_| prompter.attended()) else {
        return Ok(prompter.pin(&format!("the authority's token {label:?}"))?);
    };
    if !prompter.confirm(&format!("{token}: the next wrong PIN locks it. Go on?"))? {
        return Err(Failure::new(Exit::Pin, format!("declined at the prompt; the PIN of {token} was not tried")));
    }
    Ok(prompter.pin(&format!("the authority's token {label:?}"))?.taking_the_last_try())
}

/// Answers with the authority's token and database opened for this one statement.
fn answer_here(
    configuration: Configuration,
    pin: &ExistingPin,
    statement: &SignedStatement,
    around: &Surroundings<'_>,
) -> Result<Vec<u8>, Failure> {
    let pin = pin_of(&configuration, pin, around)?;
    progress::during("answering the statement", || -> Result<_, Failure> {
        let authority = Authority::open(configuration, &pin, around.now())?;
        authority.answer_statement(statement.as_der(), Way::File, around.now()).map_err(|reason| match reason {
            NoResponse::Unverified(reason) => Failure::from(ServiceError::Unverified(reason)),
            NoResponse::Fault(reason) => {
                Failure::fault(format!("cannot answer the statement: {reason}; -v tells more"))
            }
        })
    })
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
