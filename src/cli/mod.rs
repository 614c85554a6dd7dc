//! The command line: one file per command, and what the commands share: context, configuration,
//! input and output, exit codes.
//!
//! Only this module prints. It reads the environment (options, prompters, directories) and the time
//! of day, and passes them to the lower layers, with these exceptions:
//! - `token` reads the variables that locate a PKCS#11 module's files and the lock directory, and
//!   the time for its records of wrong PINs and of tried modules.
//! - The agent's supervisor reads the allocator's variables, `crash_point` its own.
//! - The agent's keystore, `authority check`, `service` and `transport` read the time.
//!
//! It must never hold a rule of the product (a client that enrolls another way must meet the same
//! rules), never put a secret into an argument or the environment, and never end without an exit
//! code that says what happened.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the module that prints")]
#![allow(clippy::doc_markdown, reason = "many doc comments here are help texts, shown as they are")]

mod admin;
mod agent;
mod arguments;
mod authority;
mod backend;
mod clock;
mod completions;
mod config;
mod context;
mod decrypt;
mod demo;
mod directories;
mod doctor;
mod encrypt;
mod enroll;
mod exit;
mod expiry;
mod file_io;
mod git_sign;
mod hidden_keysets;
mod interrupt;
mod keyset;
mod mail_report;
mod man;
mod man_page;
mod output;
mod person_name;
mod pin;
mod sign;
mod spinner;
mod startup;
mod table;
mod temporary_file;
mod terminal_prompter;
mod token;
mod token_check;
mod token_show;
mod verify;

use std::panic::{self, AssertUnwindSafe};

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser, Subcommand};

use context::Context;
use exit::{Exit, Failure};
use output::Output;

use crate::token::check::{CHECK_COMMAND, CheckProcess, run_checks_by};

/// A keystore on hardware tokens, and the authority that enrolls people into it.
#[derive(Debug, Parser)]
#[command(name = "tokenkeep", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 fault, 2 usage, 3 token absent, 4 PIN, 5 refused, 6 unreachable, \
                        7 waiting, 8 not verified, 9 audit log broken, 130 interrupted.")]
struct Cli {
    #[command(flatten)]
    common: arguments::CommonArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Demonstrate the whole workflow on temporary SoftHSM tokens
    Demo(demo::DemoArguments),
    /// Set up and run an authority
    #[command(subcommand)]
    Authority(authority::AuthorityCommand),
    /// Administer users: issue letters, recover keys, list and show users
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    /// Enroll with a letter: create or renew a keyset, or recover lost keys
    ///
    /// Without --token and --new-token, the existing keyset of this name is re-enrolled on its
    /// token. If there is none, the command fails before it asks for a PIN or sends anything.
    Enroll(enroll::EnrollArguments),
    /// Sign a file (CMS, S/MIME)
    Sign(sign::SignArguments),
    /// Verify a signed message (CMS, S/MIME)
    ///
    /// Certificates must be valid now; the signing time that the message claims does not count.
    /// Revocation is not checked. The verified content goes to the file of --out, else to stdout;
    /// with --content it is written only if --out is given. If the message is not verified, nothing
    /// is written and the exit code is 8.
    Verify(verify::VerifyArguments),
    /// Encrypt to e-mail addresses or certificates (CMS, S/MIME)
    Encrypt(encrypt::EncryptArguments),
    /// Decrypt a message with a keyset's current or older keys (CMS, S/MIME)
    Decrypt(decrypt::DecryptArguments),
    /// Change, inspect or unblock a PIN
    #[command(subcommand)]
    Pin(pin::PinCommand),
    /// Sign and verify for git, with gpgsm's interface (gpg.format=x509)
    GitSign(git_sign::GitSignArguments),
    /// List, show, hide and delete keysets
    #[command(subcommand)]
    Keyset(keyset::KeysetCommand),
    /// List keysets (the same as `keyset list`)
    Keysets(keyset::KeysetListArguments),
    /// List tokens, erase soft tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// List tokens (the same as `token list`)
    Tokens(token::TokenListArguments),
    /// Run the keystore service that owns the tokens for ssh, git and other programs
    ///
    /// It runs in the foreground until Ctrl-C. --env starts it in the background instead.
    Agent(agent::AgentArguments),
    /// The agent's worker, started by the agent; hidden from help, manual pages and completions
    #[command(skip)]
    AgentWorker(agent::WorkerArguments),
    /// A child that answers one question about a module to another process of this program; hidden
    #[command(skip)]
    TokenCheck,
    /// Check modules, tokens, configuration, agent and permissions, and suggest fixes
    Doctor(doctor::DoctorArguments),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArguments),
    /// Print the manual page, or write all of them into a directory
    Man(man::ManArguments),
}

/// The command line of the agent's worker.
#[derive(Debug, Parser)]
#[command(name = "tokenkeep agent-worker")]
struct Worker {
    #[command(flatten)]
    common: arguments::CommonArguments,
    #[command(flatten)]
    worker: agent::WorkerArguments,
}

impl Cli {
    fn of_this_process() -> Result<Self, clap::Error> {
        let arguments = || std::env::args_os();
        if arguments().nth(1).is_some_and(|verb| verb == CHECK_COMMAND) {
            return Ok(Self { common: arguments::CommonArguments::default(), command: Command::TokenCheck });
        }
        if arguments().nth(1).is_some_and(|verb| verb == agent::WORKER) {
            let Worker { common, worker } = Worker::try_parse_from(arguments().skip(1))?;
            return Ok(Self { common, command: Command::AgentWorker(worker) });
        }
        Self::try_parse_from(git_sign::with_verb(arguments()))
    }
}

impl Command {
    /// Returns true if the command handles signals itself.
    fn handles_signals(&self) -> bool {
        matches!(self, Self::Agent(_) | Self::AgentWorker(_))
    }
}

/// Runs the program and exits.
pub fn main() -> ! {
    startup::record_descriptors();
    if let Some(exit) = completions::answer(Cli::command) {
        exit::end(exit);
    }
    exit::end(match Cli::of_this_process() {
        Ok(cli) => outcome(cli),
        Err(error) => exit::usage(&without_pins(error)),
    })
}

/// Runs the command and reports its failure.
fn outcome(cli: Cli) -> Exit {
    let output = Output::new(cli.common.json);
    startup::start_log(cli.common.verbose);
    let watch = if cli.command.handles_signals() { || Ok(()) } else { interrupt::watch };
    // The sandboxed worker cannot start programs, and a child that answers a check runs none
    // itself.
    if !matches!(cli.command, Command::AgentWorker(_) | Command::TokenCheck) {
        run_checks_by(CheckProcess);
    }
    let result = startup::harden().and_then(|()| watch()).and_then(|()| {
        // A panic ends with the exit code of a fault, and leaves no half-written files.
        panic::catch_unwind(AssertUnwindSafe(|| run(cli, &output))).unwrap_or_else(|_| {
            file_io::discard_unfinished();
            Err(Failure::fault("internal error: this is a bug in tokenkeep")
                .with_remedy("please report the output above"))
        })
    });
    result.unwrap_or_else(|failure| {
        output.failure(&failure);
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

fn run(cli: Cli, output: &Output) -> Result<Exit, Failure> {
    let cx = Context::new(cli.common, output);
    match cli.command {
        Command::Demo(arguments) => demo::run(&arguments, &cx),
        Command::Authority(command) => authority::run(command, &cx),
        Command::Admin(command) => admin::run(command, &cx),
        Command::Enroll(arguments) => enroll::run(&arguments, &cx),
        Command::Sign(arguments) => sign::run(&arguments, &cx),
        Command::Verify(arguments) => verify::run(&arguments, &cx),
        Command::Encrypt(arguments) => encrypt::run(&arguments, &cx),
        Command::Decrypt(arguments) => decrypt::run(&arguments, &cx),
        Command::GitSign(arguments) => git_sign::run(&arguments, &cx),
        Command::Pin(command) => pin::run(command, &cx),
        Command::Keyset(command) => keyset::run(command, &cx),
        Command::Keysets(arguments) => keyset::list(&arguments, &cx),
        Command::Token(command) => token::run(command, &cx),
        Command::Tokens(arguments) => token::list(&arguments, &cx),
        Command::Agent(arguments) => agent::run(&arguments, &cx),
        Command::AgentWorker(arguments) => agent::run_worker(&arguments, &cx),
        Command::TokenCheck => token_check::run(&cx),
        Command::Doctor(arguments) => doctor::run(&arguments, &cx),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments, Cli::command()),
    }
}

#[cfg(test)]
mod tests;
