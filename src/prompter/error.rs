//! Errors of a prompt that returned no answer.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::NEW_PIN_ROUNDS;
use crate::token::PinError;

/// The reason for a missing answer. No message contains a PIN.
#[derive(Debug, thiserror::Error)]
pub enum PrompterError {
    /// The user cancelled: closed the window, ended the input, or typed nothing. No try was used.
    #[error("cannot continue without {what}: cancelled")]
    Cancelled {
        /// The requested answer.
        what: String,
    },
    /// The user pressed Ctrl-C at the terminal, which cancels the whole command. No try was used.
    #[error("cannot continue without {what}: interrupted")]
    Interrupted {
        /// The requested answer.
        what: String,
    },
    /// The two entries of a new PIN differed each time.
    #[error("cannot set a new PIN: the two entries differed {NEW_PIN_ROUNDS} times")]
    Differ,
    /// No answer within the time limit, which counts as cancelled. No try was used.
    #[error("cannot continue without {what}: no answer within {} s, which counts as cancelled", waited.as_secs())]
    NobodyAnswered {
        /// The requested answer.
        what: String,
        /// The time limit.
        waited: Duration,
    },
    /// The requester has gone, so the prompt was withdrawn. No try was used.
    #[error("cannot continue without {what}: the requesting program has exited")]
    Withdrawn {
        /// The requested answer.
        what: String,
    },
    /// No terminal is available for the prompt.
    #[error(
        "cannot {operation}: there is no terminal ({source}); use a PIN source, e.g. --pin-source file:PATH (for a new \
         PIN, --new-pin-source)"
    )]
    NoTerminal {
        /// The intended prompt.
        operation: &'static str,
        source: io::Error,
    },
    /// The terminal failed during the prompt.
    #[error("cannot read from the terminal: {source}")]
    Terminal { source: io::Error },
    /// No prompt method is usable here.
    #[error(
        "cannot prompt the user: {reasons}; start the agent where it can open a window (DISPLAY or WAYLAND_DISPLAY, \
         and pinentry or SSH_ASKPASS), or run `tokenkeep agent` in a terminal of its own, or choose another method \
         with `prompter` in \
         agent.toml"
    )]
    NoMethod {
        /// The reason for each method that was checked.
        reasons: String,
    },
    /// The configured prompt method is not usable here.
    #[error(
        "cannot prompt with {method}: {reason}; fix that, or choose another method with `prompter` in \
         agent.toml"
    )]
    MethodUnavailable {
        /// The method as configured.
        method: String,
        reason: String,
    },
    /// The prompt program failed.
    #[error(
        "cannot get an answer from {program}: {reason}; choose another method with `prompter` in \
         agent.toml"
    )]
    Program { program: String, reason: String },
    /// This method returns PINs only.
    #[error(
        "cannot get a confirmation from {method}: it gives PINs only; choose another method with `prompter` in \
         agent.toml"
    )]
    PinsOnly {
        /// The method as configured.
        method: String,
    },
    /// `prompter` names an unknown method.
    #[error(
        "cannot prompt with {given:?}: use auto, pinentry[:PATH], askpass[:PATH], terminal[:PATH], fd:N or \
         command:PROGRAM ARGUMENTS"
    )]
    UnknownMethod {
        /// The method as configured.
        given: String,
    },
    /// `--pin-source` names an unknown source.
    #[error("cannot take a PIN from {given:?}: use prompt, file:PATH, fd:N or credential:NAME")]
    UnknownSource {
        /// The kind of the source: the text before the colon.
        given: String,
    },
    /// Others can read the file.
    #[error("cannot take the PIN from {}: others can read it; run chmod 600 {}", path.display(), path.display())]
    ReadableByOthers { path: PathBuf },
    /// The source cannot be read, or contains no PIN.
    #[error("cannot take the PIN from {place}: {reason}")]
    Source {
        /// The source as given.
        place: String,
        reason: String,
    },
    /// The input is not text.
    #[error("cannot use that PIN: it is not UTF-8 text")]
    NotUtf8,
    /// The input is not a valid PIN.
    #[error("cannot use that PIN: {0}")]
    NotAPin(#[from] PinError),
}

impl PrompterError {
    /// Returns whether the user cancelled, did not answer in time, or the requester went away.
    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            Self::Cancelled { .. } | Self::Interrupted { .. } | Self::NobodyAnswered { .. } | Self::Withdrawn { .. }
        )
    }
}
