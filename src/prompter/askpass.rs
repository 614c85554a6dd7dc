//! A program by OpenSSH's convention (ssh(1), `SSH_ASKPASS`): the question is its argument, what was typed is the line
//! that it prints, and a person who cancelled is an exit code other than 0. With `SSH_ASKPASS_PROMPT=confirm` it asks for
//! yes or no.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::ask::Ask;
use super::child::Running;
use super::pinentry::into_pin;
use super::{Environment, NEW_PIN_ROUNDS, PrompterError};
use crate::token::Pin;

/// The longest line that is read: longer than any PIN, so that one that is too long is told apart from garbage.
const LONGEST_LINE: usize = 1_024;

/// A shell's exit codes when what it was to run could not be run: nobody was asked.
const NOT_RUN: [i32; 2] = [126, 127];

/// An askpass that can ask here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Askpass(PathBuf);

impl Askpass {
    /// Looks whether there is one, and whether it may be used: says why not.
    pub(super) fn find(named: Option<&Path>, environment: &Environment) -> Result<Self, String> {
        let variable = environment.variable("SSH_ASKPASS").map(Path::new);
        let name = named.or(variable).ok_or("SSH_ASKPASS is not set")?;
        let program = environment.program(name)?;
        let required = environment.variable("SSH_ASKPASS_REQUIRE").and_then(|value| value.to_str());
        match required {
            Some("force") => Ok(Self(program)),
            Some("never") if named.is_none() => Err("SSH_ASKPASS_REQUIRE is never".to_owned()),
            // Who names the program knows what it needs.
            _ if named.is_some() || environment.has_display() => Ok(Self(program)),
            _ => Err("SSH_ASKPASS needs DISPLAY, WAYLAND_DISPLAY or SSH_ASKPASS_REQUIRE=force".to_owned()),
        }
    }

    pub(super) fn describe(&self) -> String {
        format!("askpass {}", self.0.display())
    }

    pub(super) fn pin(&self, ask: &Ask, environment: &Environment) -> Result<Pin, PrompterError> {
        into_pin(&self.typed(&format!("{}: ", ask.whole()), ask, environment)?)
    }

    pub(super) fn new_pin(&self, ask: &Ask, environment: &Environment) -> Result<Pin, PrompterError> {
        let mut before = String::new();
        for _ in 0..NEW_PIN_ROUNDS {
            let first = self.typed(&format!("{before}{}: ", ask.whole()), ask, environment)?;
            let second = self.typed(&format!("{} once more: ", ask.prompt()), ask, environment)?;
            if first == second {
                return into_pin(&first);
            }
            "The two differ.\n".clone_into(&mut before);
        }
        Err(PrompterError::Differ)
    }

    /// As ssh-agent takes it: done with nothing typed or `yes` is a yes, and another exit code than 0 a no.
    pub(super) fn confirm(&self, ask: &Ask, environment: &Environment) -> Result<bool, PrompterError> {
        let mut running = self.start(&ask.whole(), &[("SSH_ASKPASS_PROMPT", "confirm")], ask, environment)?;
        let yes = |typed: &Zeroizing<Vec<u8>>| typed.is_empty() || typed.eq_ignore_ascii_case(b"yes");
        no_if_cancelled(answer(&mut running).map(|typed| typed.as_ref().is_none_or(yes)))
    }

    fn typed(&self, text: &str, ask: &Ask, environment: &Environment) -> Result<Zeroizing<Vec<u8>>, PrompterError> {
        let mut running = self.start(text, &[], ask, environment)?;
        let typed = answer(&mut running)?.unwrap_or_default();
        if typed.is_empty() { Err(running.cancelled()) } else { Ok(typed) }
    }

    fn start(
        &self,
        text: &str,
        more: &[(&str, &str)],
        ask: &Ask,
        environment: &Environment,
    ) -> Result<Running, PrompterError> {
        let mut running = Running::start(&self.0, &[text], more, environment, &ask.what())?;
        running.hang_up();
        Ok(running)
    }
}

/// Of a question for a yes: these programs have one exit code for a no and for a window that was closed.
pub(super) fn no_if_cancelled(answer: Result<bool, PrompterError>) -> Result<bool, PrompterError> {
    match answer {
        Err(PrompterError::Cancelled { .. }) => Ok(false),
        other => other,
    }
}

/// The first line of a program that then ends with 0; any other code is a person who cancelled.
pub(super) fn answer(running: &mut Running) -> Result<Option<Zeroizing<Vec<u8>>>, PrompterError> {
    let line = running.line(LONGEST_LINE)?;
    let status = running.status()?;
    match status.code() {
        Some(0) => Ok(line),
        Some(code) if NOT_RUN.contains(&code) => {
            Err(running.fails(format!("it could not run what it is to run ({code})")))
        }
        Some(_) => Err(running.cancelled()),
        None => Err(running.fails(status.to_string())),
    }
}
