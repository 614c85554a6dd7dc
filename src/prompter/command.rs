//! A program of the user's own: it reads the question and prints the PIN.
//!
//! Its standard input says on the first line what is wanted (`pin`, `new-pin` or `confirm`), then the question's lines
//! as they may be shown, the prompt last. It prints the PIN as its first line, or `yes`; any exit code but 0 is a no.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::ask::Ask;
use super::askpass::{answer, no_if_cancelled};
use super::child::Running;
use super::pinentry::into_pin;
use super::{Environment, PrompterError};
use crate::token::Pin;

/// A command that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    program: PathBuf,
    arguments: Vec<String>,
}

impl Command {
    /// Looks whether its program is there: says why not.
    pub(super) fn find(words: &[String], environment: &Environment) -> Result<Self, String> {
        let (program, arguments) = words.split_first().ok_or("it names no program")?;
        Ok(Self { program: environment.program(Path::new(program))?, arguments: arguments.to_vec() })
    }

    pub(super) fn describe(&self) -> String {
        format!("command {}", self.program.display())
    }

    pub(super) fn pin(&self, ask: &Ask, environment: &Environment) -> Result<Pin, PrompterError> {
        self.asked("pin", ask, environment)
    }

    /// Once: whether somebody typed it, and twice, is the command's to know.
    pub(super) fn new_pin(&self, ask: &Ask, environment: &Environment) -> Result<Pin, PrompterError> {
        self.asked("new-pin", ask, environment)
    }

    /// Only `yes` is a yes.
    pub(super) fn confirm(&self, ask: &Ask, environment: &Environment) -> Result<bool, PrompterError> {
        let mut running = self.start("confirm", ask, environment)?;
        let yes = |line: &Zeroizing<Vec<u8>>| line.eq_ignore_ascii_case(b"yes");
        no_if_cancelled(answer(&mut running).map(|line| line.as_ref().is_some_and(yes)))
    }

    fn asked(&self, wanted: &str, ask: &Ask, environment: &Environment) -> Result<Pin, PrompterError> {
        let mut running = self.start(wanted, ask, environment)?;
        match answer(&mut running)? {
            // A program may give the same again and again: nobody says that a person typed it.
            Some(line) if !line.is_empty() => into_pin(&line).map(Pin::unattended),
            _ => Err(running.cancelled()),
        }
    }

    fn start(&self, wanted: &str, ask: &Ask, environment: &Environment) -> Result<Running, PrompterError> {
        let mut running = Running::start(&self.program, &self.arguments, &[], environment, &ask.what())?;
        running.tell(format!("{wanted}\n{}\n", ask.whole()).as_bytes());
        running.hang_up();
        Ok(running)
    }
}
