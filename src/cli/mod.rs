//! The command line: one file per command, and what the commands share: context, configuration,
//! input and output, exit codes.
//!
//! This is the only module that prints, and the only one that reads the environment and the clock.
//! It must never hold a rule of the product (a client that enrolls another way must meet the same
//! rules), never put a secret into an argument or the environment, and never end without an exit
//! code that says what happened.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the module that prints")]
#![allow(clippy::doc_markdown, reason = "many doc comments here are help texts, shown as they are")]

mod admin;
mod agent;
mod arguments;
mod authority;
mod clock;
mod completions;
mod config;
mod decrypt;
mod demo;
mod descriptors;
mod desk;
mod doctor;
mod encrypt;
mod enroll;
mod exit;
mod expiry;
mod git_sign;
mod hardening;
mod hidden_keysets;
mod interrupt;
mod keyset;
mod mail_facts;
mod man;
mod message;
mod output;
mod person;
mod person_name;
mod pin;
mod progress;
mod screen;
mod sign;
mod surroundings;
mod token;
mod token_check;
mod trace;
mod trusted_files;
mod verify;

use std::panic::{self, AssertUnwindSafe};

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser, Subcommand};

use exit::{Exit, Failure};
use screen::Screen;
use surroundings::Surroundings;

use crate::token::check::{CHECK_VERB, CheckProcess, run_checks_by};

/// A keystore on hardware tokens, and the authority that enrolls people into it.
#[derive(Debug, Parser)]
#[command(name = "tokenkeep", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 fault, 2 usage, 3 token absent, 4 PIN, 5 refused, 6 unreachable, \
                        7 waiting, 8 not verified, 9 audit log broken, 130 interrupted.")]
struct Cli {
    #[command(flatten)]
    common: arguments::Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Demonstrate the whole workflow on temporary SoftHSM tokens
    Demo(demo::Arguments),
    /// Set up and run an authority
    #[command(subcommand)]
    Authority(authority::Command),
    /// Administer users: issue letters, recover keys, list and show users
    #[command(subcommand)]
    Admin(admin::Command),
    /// Enroll with a letter: create or renew a keyset, or recover lost keys
    Enroll(enroll::Arguments),
    /// Sign a file (CMS, S/MIME)
    Sign(sign::Arguments),
    /// Verify a signed message (CMS, S/MIME)
    Verify(verify::Arguments),
    /// Encrypt to e-mail addresses or certificates (CMS, S/MIME)
    Encrypt(encrypt::Arguments),
    /// Decrypt a message with a keyset's current or older keys (CMS, S/MIME)
    Decrypt(decrypt::Arguments),
    /// Change, inspect or unblock a PIN
    #[command(subcommand)]
    Pin(pin::Command),
    /// Sign and verify for git, with gpgsm's interface (gpg.format=x509)
    GitSign(git_sign::Arguments),
    /// List, show, hide and delete keysets
    #[command(subcommand)]
    Keyset(keyset::Command),
    /// List keysets (the same as `keyset list`)
    Keysets(keyset::ListArguments),
    /// List tokens, erase soft tokens
    #[command(subcommand)]
    Token(token::Command),
    /// List tokens (the same as `token list`)
    Tokens(token::ListArguments),
    /// Run the keystore service that owns the tokens for ssh, git and other programs
    Agent(agent::Arguments),
    /// The agent's worker, started by the agent; hidden from help, manual pages and completions
    #[command(skip)]
    AgentWorker(agent::WorkerArguments),
    /// A child that answers one question about a module to another process of this program; hidden
    #[command(skip)]
    TokenCheck,
    /// Check modules, tokens, configuration, agent and permissions, and suggest fixes
    Doctor(doctor::Arguments),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
    /// Print the manual page, or write all of them into a directory
    Man(man::Arguments),
}

/// The command line of the agent's worker.
#[derive(Debug, Parser)]
#[command(name = "tokenkeep agent-worker")]
struct Worker {
    #[command(flatten)]
    common: arguments::Common,
    #[command(flatten)]
    modules: agent::WorkerArguments,
}

impl Cli {
    fn of_this_process() -> Result<Self, clap::Error> {
        let arguments = || std::env::args_os();
        if arguments().nth(1).is_some_and(|verb| verb == CHECK_VERB) {
            return Ok(Self { common: arguments::Common::default(), command: Command::TokenCheck });
        }
        if arguments().nth(1).is_some_and(|verb| verb == agent::WORKER) {
            let Worker { common, modules } = Worker::try_parse_from(arguments().skip(1))?;
            return Ok(Self { common, command: Command::AgentWorker(modules) });
        }
        Self::try_parse_from(git_sign::with_verb(arguments()))
    }
}

impl Command {
    /// Whether the command handles signals itself.
    fn ends_in_its_own_order(&self) -> bool {
        matches!(self, Self::Agent(_) | Self::AgentWorker(_))
    }
}

/// Runs the program and exits.
pub fn main() -> ! {
    descriptors::remember();
    exit::end(match Cli::of_this_process() {
        Ok(cli) => outcome(cli),
        Err(error) => exit::usage(&without_pins(error)),
    })
}

/// Runs the command and reports its failure.
fn outcome(cli: Cli) -> Exit {
    let screen = Screen::new(cli.common.json);
    trace::start(cli.common.verbose);
    let watch = if cli.command.ends_in_its_own_order() { || Ok(()) } else { interrupt::watch };
    // The sandboxed worker cannot start programs, and a child that answers a check runs none
    // itself.
    if !matches!(cli.command, Command::AgentWorker(_) | Command::TokenCheck) {
        run_checks_by(CheckProcess);
    }
    let result = hardening::harden().and_then(|()| watch()).and_then(|()| {
        // A panic ends with the exit code of a fault, and leaves no half-written files.
        panic::catch_unwind(AssertUnwindSafe(|| run(cli, &screen))).unwrap_or_else(|_| {
            output::discard_unfinished();
            Err(Failure::fault("internal error: this is a bug in tokenkeep")
                .with_remedy("please report the output above"))
        })
    });
    result.unwrap_or_else(|failure| {
        screen.failure(&failure);
        failure.exit
    })
}

/// Removes the value of a PIN source from the error: the user may have typed the PIN itself.
fn without_pins(mut error: clap::Error) -> clap::Error {
    if error.get(ContextKind::InvalidArg).is_some_and(|argument| argument.to_string().contains("pin-source")) {
        error.insert(ContextKind::InvalidValue, ContextValue::String("(not repeated)".to_owned()));
    }
    error
}

fn run(cli: Cli, screen: &Screen) -> Result<Exit, Failure> {
    let around = Surroundings::new(cli.common, screen);
    match cli.command {
        Command::Demo(arguments) => demo::run(&arguments, &around),
        Command::Authority(command) => authority::run(command, &around),
        Command::Admin(command) => admin::run(command, &around),
        Command::Enroll(arguments) => enroll::run(&arguments, &around),
        Command::Sign(arguments) => sign::run(&arguments, &around),
        Command::Verify(arguments) => verify::run(&arguments, &around),
        Command::Encrypt(arguments) => encrypt::run(&arguments, &around),
        Command::Decrypt(arguments) => decrypt::run(&arguments, &around),
        Command::GitSign(arguments) => git_sign::run(&arguments, &around),
        Command::Pin(command) => pin::run(command, &around),
        Command::Keyset(command) => keyset::run(command, &around),
        Command::Keysets(arguments) => keyset::list(&arguments, &around),
        Command::Token(command) => token::run(command, &around),
        Command::Tokens(arguments) => token::list(&arguments, &around),
        Command::Agent(arguments) => agent::run(&arguments, &around),
        Command::AgentWorker(modules) => agent::run_worker(&modules, &around),
        Command::TokenCheck => token_check::run(&around),
        Command::Doctor(arguments) => doctor::run(&arguments, &around),
        Command::Completions(arguments) => completions::run(&arguments, Cli::command()),
        Command::Man(arguments) => man::run(&arguments, Cli::command()),
    }
}

#[cfg(test)]
mod tests;
