//! `tokenkeep completions`: scripts for shells. A script asks this program for candidates, through
//! the environment variable [`VARIABLE`], each time that a person presses Tab.
//!
//! The definitions that parse the command line know the commands, options and fixed values;
//! [`known`] adds what is on this machine: keysets, tokens, addresses. No PIN is needed or asked
//! for, no agent is started, and nothing is written to stderr.

mod known;

use std::env;
use std::ffi::OsStr;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use clap::{Arg, ValueHint};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, EnvCompleter, Shells};

use super::exit::{Exit, Failure};
use super::{output, startup};

/// Names the shell in which a script asks for candidates.
const VARIABLE: &str = "TOKENKEEP_COMPLETE";

/// The program, as a script calls it.
const PROGRAM: &str = "tokenkeep";

/// For bash. The generated script would neither quote candidates nor join the words that bash
/// splits at `:` and `=`, as in `file:PATH` and `pkcs11:URI`.
const BASH: &str = include_str!("completions/tokenkeep.bash");

/// For fish. The generated script would show what the program writes to stderr.
const FISH: &str = include_str!("completions/tokenkeep.fish");

/// Arguments of `tokenkeep completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArguments {
    /// Shell to print the completions for
    ///
    /// Example: tokenkeep completions bash > ~/.local/share/bash-completion/completions/tokenkeep
    shell: CompletionShell,
}

/// The shells whose scripts quote candidates: a token's label may be anything.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum CompletionShell {
    Bash,
    Fish,
    Zsh,
}

/// Prints the script.
pub fn run(arguments: &CompletionsArguments) -> Result<Exit, Failure> {
    let script =
        script(arguments.shell).map_err(|error| Failure::fault(format!("cannot create the completions: {error}")))?;
    output::print(&mut io::stdout().lock(), script.trim_end())?;
    Ok(Exit::Done)
}

fn script(shell: CompletionShell) -> io::Result<String> {
    match shell {
        CompletionShell::Bash => Ok(BASH.to_owned()),
        CompletionShell::Fish => Ok(FISH.to_owned()),
        CompletionShell::Zsh => {
            let script = generated_for_zsh()?;
            // Read from a directory of $fpath, the file is the function itself, at its first call.
            let (functions, register) = script.trim_end().rsplit_once('\n').unwrap_or_default();
            let function = register.split(' ').nth(1).unwrap_or_default();
            Ok(format!(
                "{functions}\nif [[ $funcstack[1] == _{PROGRAM} ]]; then\n    {function} \"$@\"\nelse\n    \
                 {register}\nfi\n"
            ))
        }
    }
}

fn generated_for_zsh() -> io::Result<String> {
    let shells = Shells::builtins();
    let shell: &dyn EnvCompleter = shells.completer("zsh").ok_or(io::ErrorKind::Unsupported)?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// Answers a script that asks for candidates. `None` if no script asks: with the variable set, any
/// other command line is an ordinary one.
pub fn answer(command: impl Fn() -> clap::Command) -> Option<Exit> {
    let shell = env::var(VARIABLE).ok()?;
    if !["bash", "fish", "zsh"].contains(&shell.as_str()) || env::args_os().nth(1)? != "--" {
        return None;
    }
    if startup::harden().is_err() {
        return Some(Exit::Fault);
    }
    panic::catch_unwind(AssertUnwindSafe(|| complete(command))).unwrap_or(Some(Exit::Fault))
}

fn complete(command: impl Fn() -> clap::Command) -> Option<Exit> {
    let with_values = || with_values(command());
    let asked = CompleteEnv::with_factory(with_values).var(VARIABLE).bin(PROGRAM).completer(PROGRAM);
    let directory = env::current_dir().ok();
    match asked.try_complete(env::args_os(), directory.as_deref()) {
        Ok(true) => Some(Exit::Done),
        Ok(false) => None,
        Err(_) => Some(Exit::Fault),
    }
}

/// The definitions with the values that options and arguments take.
fn with_values(command: clap::Command) -> clap::Command {
    let shows_hidden = command.get_name() == "forget";
    command.mut_args(|argument| with_value(argument, shows_hidden)).mut_subcommands(with_values)
}

fn with_value(argument: Arg, shows_hidden: bool) -> Arg {
    match argument.get_id().as_str() {
        "keyset" => argument.add(ArgValueCandidates::new(|| known::keyset_names(false))),
        "name" if argument.is_positional() => {
            argument.add(ArgValueCandidates::new(move || known::keyset_names(shows_hidden)))
        }
        "token" => argument.add(ArgValueCompleter::new(known::tokens)),
        "email" | "to" => argument.add(ArgValueCandidates::new(known::addresses)),
        // `admin letter` takes a reference, too, and the files of others have options.
        "letter" if argument.is_positional() => argument.add(ArgValueCandidates::new(known::addresses)),
        "local_user" => argument.add(ArgValueCandidates::new(|| {
            known::addresses().into_iter().chain(known::keyset_names(false)).collect()
        })),
        "level" | "levels" => {
            argument.add(ArgValueCandidates::new(|| ["high", "medium", "low"].map(CompletionCandidate::new).into()))
        }
        "pin_source" | "new_pin_source" | "so_pin_source" => argument.add(ArgValueCompleter::new(pin_sources)),
        _ if argument.get_value_names().is_some_and(|names| names.iter().any(|name| *name == "DIR")) => {
            argument.value_hint(ValueHint::DirPath)
        }
        _ => argument,
    }
}

/// The kinds of PIN sources, and the files after `file:`.
fn pin_sources(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let Some(file) = typed.strip_prefix("file:") else {
        let kinds = ["prompt", "file:", "fd:", "credential:"];
        return kinds.into_iter().filter(|kind| kind.starts_with(&*typed)).map(CompletionCandidate::new).collect();
    };
    let (directory, begin) = file.rfind('/').map_or(("", file), |end| file.split_at(end + 1));
    let listed = Path::new(if directory.is_empty() { "." } else { directory }).read_dir();
    let files: Vec<_> = listed
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let is_hidden = name.starts_with('.') && !begin.starts_with('.');
            let end = if entry.path().is_dir() { "/" } else { "" };
            (name.starts_with(begin) && !is_hidden).then(|| format!("file:{directory}{name}{end}"))
        })
        .collect();
    known::candidates(files.into_iter())
}
