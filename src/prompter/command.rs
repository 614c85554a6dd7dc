//! Prompt commands: programs configured by the user that read the prompt and print the PIN.
//!
//! The first line of standard input is `pin` or `confirm`; the lines of the text follow, safe to
//! display, with the prompt last. The command prints the PIN as its first line, or `yes`. Every
//! exit code other than 0 means no.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::askpass::{answer, no_if_cancelled};
use super::pinentry::into_pin;
use super::prompt_process::PromptProcess;
use super::prompt_request::PromptRequest;
use super::{PromptEnvironment, PrompterError};
use crate::token::Pin;

/// A command that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PromptCommand {
    program: PathBuf,
    arguments: Vec<String>,
}

impl PromptCommand {
    /// Checks that the program exists; otherwise returns the reason.
    pub(super) fn find(words: &[String], environment: &PromptEnvironment) -> Result<Self, String> {
        let (program, arguments) = words.split_first().ok_or("it names no program")?;
        Ok(Self { program: environment.program(Path::new(program))?, arguments: arguments.to_vec() })
    }

    pub(super) fn describe(&self) -> String {
        format!("command {}", self.program.display())
    }

    pub(super) fn pin(&self, ask: &PromptRequest, environment: &PromptEnvironment) -> Result<Pin, PrompterError> {
        let mut running = self.start("pin", ask, environment)?;
        match answer(&mut running)? {
            // Unattended: the program may return the same PIN repeatedly without a user typing it.
            Some(line) if !line.is_empty() => into_pin(&line).map(Pin::unattended),
            _ => Err(running.cancelled()),
        }
    }

    /// Only `yes` means yes.
    pub(super) fn confirm(&self, ask: &PromptRequest, environment: &PromptEnvironment) -> Result<bool, PrompterError> {
        let mut running = self.start("confirm", ask, environment)?;
        let yes = |line: &Zeroizing<Vec<u8>>| line.eq_ignore_ascii_case(b"yes");
        no_if_cancelled(answer(&mut running).map(|line| line.as_ref().is_some_and(yes)))
    }

    fn start(
        &self,
        wanted: &str,
        ask: &PromptRequest,
        environment: &PromptEnvironment,
    ) -> Result<PromptProcess, PrompterError> {
        let mut running = PromptProcess::start(&self.program, &self.arguments, &[], environment, &ask.what())?;
        running.tell(format!("{wanted}\n{}\n", ask.whole()).as_bytes());
        running.close_stdin();
        Ok(running)
    }
}
