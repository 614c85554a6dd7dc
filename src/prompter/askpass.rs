//! Askpass programs (ssh(1), `SSH_ASKPASS`): the argument is the prompt, the first line of output
//! is the input, and an exit code other than 0 means cancelled. With `SSH_ASKPASS_PROMPT=confirm`,
//! the program asks for yes or no.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::pinentry::into_pin;
use super::prompt_process::PromptProcess;
use super::prompt_request::PromptRequest;
use super::{PromptEnvironment, PrompterError};
use crate::token::Pin;

/// Maximum line length in bytes. More than any PIN, so that a PIN that is too long is told apart
/// from garbage.
const MAX_LINE_LEN: usize = 1_024;

/// Exit codes of a shell that could not run the command: no prompt was shown.
const EXEC_FAILURE_CODES: [i32; 2] = [126, 127];

/// An askpass program that can prompt here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Askpass(PathBuf);

impl Askpass {
    /// Finds the program and checks that it is usable; otherwise returns the reason.
    pub(super) fn find(named: Option<&Path>, environment: &PromptEnvironment) -> Result<Self, String> {
        let variable = environment.variable("SSH_ASKPASS").map(Path::new);
        let name = named.or(variable).ok_or("SSH_ASKPASS is not set")?;
        let program = environment.program(name)?;
        let required = environment.variable("SSH_ASKPASS_REQUIRE").and_then(|value| value.to_str());
        match required {
            Some("force") => Ok(Self(program)),
            Some("never") if named.is_none() => Err("SSH_ASKPASS_REQUIRE is never".to_owned()),
            // A program configured by path needs no display check: its owner knows its
            // requirements.
            _ if named.is_some() || environment.has_display() => Ok(Self(program)),
            _ => Err("SSH_ASKPASS needs DISPLAY, WAYLAND_DISPLAY or SSH_ASKPASS_REQUIRE=force".to_owned()),
        }
    }

    pub(super) fn describe(&self) -> String {
        format!("askpass {}", self.0.display())
    }

    pub(super) fn pin(&self, ask: &PromptRequest, environment: &PromptEnvironment) -> Result<Pin, PrompterError> {
        into_pin(&self.typed(&format!("{}: ", ask.whole()), ask, environment)?)
    }

    /// Follows ssh-agent: exit code 0 with empty output or `yes` means yes, every other exit code
    /// means no.
    pub(super) fn confirm(&self, ask: &PromptRequest, environment: &PromptEnvironment) -> Result<bool, PrompterError> {
        let mut running = self.start(&ask.whole(), &[("SSH_ASKPASS_PROMPT", "confirm")], ask, environment)?;
        let yes = |typed: &Zeroizing<Vec<u8>>| typed.is_empty() || typed.eq_ignore_ascii_case(b"yes");
        no_if_cancelled(answer(&mut running).map(|typed| typed.as_ref().is_none_or(yes)))
    }

    fn typed(
        &self,
        text: &str,
        ask: &PromptRequest,
        environment: &PromptEnvironment,
    ) -> Result<Zeroizing<Vec<u8>>, PrompterError> {
        let mut running = self.start(text, &[], ask, environment)?;
        let typed = answer(&mut running)?.unwrap_or_default();
        if typed.is_empty() { Err(running.cancelled()) } else { Ok(typed) }
    }

    fn start(
        &self,
        text: &str,
        more: &[(&str, &str)],
        ask: &PromptRequest,
        environment: &PromptEnvironment,
    ) -> Result<PromptProcess, PrompterError> {
        let mut running = PromptProcess::start(&self.0, &[text], more, environment, &ask.what())?;
        running.close_stdin();
        Ok(running)
    }
}

/// Maps a cancelled confirmation to no: these programs use one exit code for a no and a closed
/// window.
pub(super) fn no_if_cancelled(answer: Result<bool, PrompterError>) -> Result<bool, PrompterError> {
    match answer {
        Err(PrompterError::Cancelled { .. }) => Ok(false),
        other => other,
    }
}

/// Reads the first line and requires exit code 0; other exit codes mean cancelled.
pub(super) fn answer(running: &mut PromptProcess) -> Result<Option<Zeroizing<Vec<u8>>>, PrompterError> {
    let line = running.line(MAX_LINE_LEN)?;
    let status = running.status()?;
    match status.code() {
        Some(0) => Ok(line),
        Some(code) if EXEC_FAILURE_CODES.contains(&code) => {
            Err(running.fails(format!("it could not run its command (exit code {code})")))
        }
        Some(_) => Err(running.cancelled()),
        None => Err(running.fails(status.to_string())),
    }
}
