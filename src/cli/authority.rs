//! `tokenkeep authority`: initializes an authority, serves, answers a statement file, checks the
//! database, adds an administrator.

mod check;

mod administrator;

use std::io;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueHint};
use serde_json::json;

use super::arguments::{NewPinArguments, PinArguments};
use super::context::Context;
use super::directories::directory;
use super::exit::{Exit, Failure};
use super::spinner;
use super::{file_io, interrupt, output};
use crate::authority::{
    Authority, Configuration, EnvironmentPaths, PreparedInit, UnsignedError, token_at_last_pin_try,
};
use crate::letter::Letter;
use crate::prompter::PinSource;
use crate::service::{self, ListenAddresses, ServiceError, ShutdownSignal};
use crate::statement::{SignedResponse, SignedStatement, StatementChannel};
use crate::token::{Pin, TokenOwner};

/// Subcommands of `tokenkeep authority`.
#[derive(Debug, Subcommand)]
pub enum AuthorityCommand {
    /// Create an authority: token, keys, database and the first administrator's letter
    Init(InitArguments),
    /// Serve enrollments and administrators' statements until Ctrl-C or SIGTERM
    Serve(ServeArguments),
    /// Answer an administrator's statement file (`admin … --statement-out`)
    ///
    /// While `authority serve` runs, this command asks it through its control socket, and needs no
    /// PIN.
    Answer(AnswerArguments),
    /// Check the database: schema, seals, the whole audit log and its evidence
    ///
    /// While `authority serve` runs, this command asks it through its control socket, and needs no
    /// PIN. The exit code is 1 if the check finds a problem.
    Check(check::CheckArguments),
    /// Add an administrator when no administrator can do it
    #[command(subcommand)]
    Administrator(administrator::AdministratorCommand),
}

/// Arguments of `authority init`.
#[derive(Debug, clap::Args)]
pub struct InitArguments {
    #[command(flatten)]
    configuration: ConfigurationArguments,
    #[command(flatten)]
    new_pin: NewPinArguments,
    /// Source of an SO PIN for the authority's token [default: random, not kept]
    ///
    /// prompt, file:PATH, fd:N or credential:NAME.
    #[arg(long, value_name = "SOURCE")]
    so_pin_source: Option<PinSource>,
    /// E-mail address of the first administrator
    #[arg(long, value_name = "EMAIL", value_hint = ValueHint::EmailAddress)]
    first_administrator: String,
    /// Write the first administrator's letter to this new file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    letter_out: PathBuf,
}

/// Arguments of `authority serve`.
#[derive(Debug, clap::Args)]
pub struct ServeArguments {
    #[command(flatten)]
    configuration: ConfigurationArguments,
    #[command(flatten)]
    pin: PinArguments,
}

/// Arguments of `authority answer`.
#[derive(Debug, clap::Args)]
pub struct AnswerArguments {
    #[command(flatten)]
    configuration: ConfigurationArguments,
    #[command(flatten)]
    pin: PinArguments,
    /// Statement to answer; - is stdin
    #[arg(long = "in", value_name = "FILE", value_hint = ValueHint::FilePath)]
    statement: PathBuf,
    /// Write the signed response to this new file
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: PathBuf,
}

/// `--config`
#[derive(Debug, clap::Args)]
pub struct ConfigurationArguments {
    /// Configuration of the authority (see the comments in hsm-config/authority.toml)
    #[arg(long = "config", value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
}

impl ConfigurationArguments {
    fn load(&self) -> Result<Configuration, Failure> {
        let environment = EnvironmentPaths {
            // systemd may pass several directories, separated by colons; the first is the unit's
            // main one.
            state_directory: directory("STATE_DIRECTORY").map(|all| {
                all.to_str().and_then(|all| all.split(':').next()).map_or_else(|| all.clone(), PathBuf::from)
            }),
            xdg_state_home: directory("XDG_STATE_HOME"),
            home: directory("HOME"),
        };
        Ok(Configuration::load(&self.file, &environment)?)
    }
}

/// Runs the subcommand.
pub fn run(command: AuthorityCommand, cx: &Context<'_>) -> Result<Exit, Failure> {
    if cx.names_modules() {
        return Err(Failure::usage("cannot use --module here: set `module` in the authority's configuration"));
    }
    TokenOwner::register_authority();
    match command {
        AuthorityCommand::Init(arguments) => init(&arguments, cx),
        AuthorityCommand::Serve(arguments) => serve(&arguments, cx),
        AuthorityCommand::Answer(arguments) => answer(&arguments, cx),
        AuthorityCommand::Check(arguments) => check::check(&arguments, cx),
        AuthorityCommand::Administrator(command) => administrator::run(command, cx),
    }
}

fn init(arguments: &InitArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let configuration = arguments.configuration.load()?;
    file_io::check_new(&arguments.letter_out)?;
    let prepared = PreparedInit::check(&configuration, &arguments.first_administrator, cx.now())?;
    let prompter = cx.prompter(Some(&PinSource::Prompt), arguments.new_pin.new_pin_source.as_ref())?;
    let label = &configuration.token.label;
    let rule = prepared.rule_for_new_pins();
    let pin = prompter.new_pin(&format!("the authority's token {label:?}"), rule)?;
    let so_pin = match &arguments.so_pin_source {
        Some(source) => {
            let prompter = cx.prompter(Some(&PinSource::Prompt), Some(source))?;
            Some(prompter.new_pin(&format!("the security officer of token {label:?}"), None)?)
        }
        None => None,
    };
    interrupt::set_message(
        "the authority is not created yet: interrupted; run the same command with the same PIN to resume",
    );
    // The letter is written before the authority counts as created. If the process dies before
    // that, the same command writes the letter.
    let letter = spinner::with_spinner("creating the authority's token and keys", || {
        Authority::init(&prepared, &pin, so_pin.as_ref(), |letter| write_first_letter(letter, &arguments.letter_out))
    })?;
    interrupt::set_message("the authority is created, but interrupted before the report");
    cx.output.answer(
        format!(
            "Created the authority {:?} on the token {label:?}; its database is in {}.\n\
             Wrote {}: the first administrator's letter, valid until {}.\n\
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
            "everything but the letter is created: name a file that can be written, and run the \
             command again with the same PIN",
        )
    })
}

fn serve(arguments: &ServeArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let configuration = arguments.configuration.load()?;
    let pin = pin_of(&configuration, &arguments.pin, cx)?;
    interrupt::delegate_to_caller();
    service::serve(configuration, pin, |addresses| announce(addresses, cx), ShutdownSignal::on_signal())?;
    cx.output.note("Stopped.");
    Ok(Exit::Done)
}

fn answer(arguments: &AnswerArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let configuration = arguments.configuration.load()?;
    file_io::check_new(&arguments.out)?;
    // A file that is not a statement gets no response, and must not ask for a PIN.
    let statement = SignedStatement::parse(&file_io::read(Some(&arguments.statement))?)?;
    let response = match service::forward_statement(&configuration, statement.as_der())? {
        Some(response) => response,
        None => answer_locally(configuration, &arguments.pin, &statement, cx)?,
    };
    file_io::write_new(&arguments.out, &response).map_err(|failure| {
        failure.with_remedy("the response is lost, and the statement is used up: the administrator must make a new one")
    })?;
    let refusal = SignedResponse::from_der(response).claimed_refusal();
    let out = arguments.out.display();
    let lines = match &refusal {
        None => {
            format!("Wrote {out}: the signed response.\nNext: return it to the administrator (tokenkeep admin open).")
        }
        Some(reason) => format!("Wrote {out}: the signed response, a refusal: {reason}"),
    };
    cx.output.answer(lines, &json!({ "response": out.to_string(), "refused": refusal }))
}

/// The PIN of the authority's token. The PIN source in agent.toml is for a user's keysets and is
/// not used here.
fn pin_of(configuration: &Configuration, pin: &PinArguments, cx: &Context<'_>) -> Result<Pin, Failure> {
    let source = pin.pin_source.as_ref().unwrap_or(&PinSource::Prompt);
    let label = &configuration.token.label;
    let prompter = cx.prompter(Some(source), None)?;
    // Opening the authority refuses an unattended PIN at the last try.
    let Some(token) = token_at_last_pin_try(configuration).filter(|_| prompter.is_attended()) else {
        return Ok(prompter.pin(&format!("the authority's token {label:?}"))?);
    };
    if !prompter.confirm(&format!("{token}: the next wrong PIN locks it. Continue?"))? {
        return Err(Failure::new(Exit::Pin, format!("declined at the prompt; the PIN of {token} was not tried")));
    }
    Ok(prompter.pin(&format!("the authority's token {label:?}"))?.allow_last_try())
}

/// Opens the authority's token and database for this statement only, and answers it.
fn answer_locally(
    configuration: Configuration,
    pin: &PinArguments,
    statement: &SignedStatement,
    cx: &Context<'_>,
) -> Result<Vec<u8>, Failure> {
    let pin = pin_of(&configuration, pin, cx)?;
    spinner::with_spinner("answering the statement", || -> Result<_, Failure> {
        let authority = Authority::open(configuration, &pin, cx.now())?;
        authority.answer_statement(statement.as_der(), StatementChannel::File, cx.now()).map_err(
            |reason| match reason {
                UnsignedError::Unverified(reason) => Failure::from(ServiceError::Unverified(reason)),
                UnsignedError::Fault(reason) => {
                    Failure::fault(format!("cannot answer the statement: {reason}; -v logs more"))
                }
            },
        )
    })
}

fn announce(addresses: &ListenAddresses, cx: &Context<'_>) {
    let line = if cx.output.is_json() {
        json!({
            "http": addresses.http.to_string(),
            "https": addresses.https.to_string(),
            "http_url": addresses.http_url,
            "https_url": addresses.https_url,
        })
        .to_string()
    } else {
        format!("Serving on http {} and https {}. Press Ctrl-C to stop.", addresses.http, addresses.https)
    };
    // The service serves even if its starter has closed its output.
    let _ = output::print(&mut io::stdout().lock(), &line);
}
