//! Why there is no answer from a person.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::NEW_PIN_ROUNDS;
use crate::token::PinError;

/// Why there is no answer. No message contains a PIN.
#[derive(Debug, thiserror::Error)]
pub enum PrompterError {
    /// The person did not want to: a closed window, end of input, or nothing typed. Nothing was tried.
    #[error("cannot go on without {what}: cancelled")]
    Cancelled {
        /// What was asked for.
        what: String,
    },
    /// The person pressed Ctrl-C at the terminal: they do not want the whole command. Nothing was tried.
    #[error("cannot go on without {what}: interrupted")]
    Interrupted {
        /// What was asked for.
        what: String,
    },
    /// The two entries of a new PIN differed each time.
    #[error("cannot set a new PIN: the two entries differed {NEW_PIN_ROUNDS} times")]
    Differ,
    /// Nobody answered in time, which is taken for a person who cancelled. Nothing was tried.
    #[error("cannot go on without {what}: nobody answered within {} s, which counts as cancelled", waited.as_secs())]
    NobodyAnswered {
        /// What was asked for.
        what: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Whoever wanted the answer has gone, and with them the question. Nothing was tried.
    #[error("cannot go on without {what}: the program that wanted it has gone")]
    Withdrawn {
        /// What was asked for.
        what: String,
    },
    /// There is no terminal to ask at.
    #[error(
        "cannot {act}: there is no terminal ({source}); give a source, e.g. --pin-source file:PATH (for a new PIN \
         --new-pin-source)"
    )]
    NoTerminal {
        /// What was to be asked.
        act: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The terminal failed while it was asked.
    #[error("cannot read from the terminal: {source}")]
    Terminal {
        /// What the system said.
        source: io::Error,
    },
    /// None of the ways to a person is open here.
    #[error(
        "cannot ask a person: {reasons}; start the agent where a window can be opened (DISPLAY or WAYLAND_DISPLAY, and \
         pinentry or SSH_ASKPASS), or type `tokenkeep agent` in a terminal of its own, or name another way with \
         `prompter` in agent.toml"
    )]
    NoWay {
        /// Why not, of each way that was looked at.
        reasons: String,
    },
    /// The way that was asked for is not open here.
    #[error("cannot ask by {way}: {reason}; mend that, or name another way with `prompter` in agent.toml")]
    WayClosed {
        /// The way as it was given.
        way: String,
        /// Why not.
        reason: String,
    },
    /// The program that was to ask did not do so.
    #[error("cannot get an answer from {program}: {reason}; `prompter` in agent.toml names another way")]
    Program {
        /// The program that was started.
        program: String,
        /// What it did.
        reason: String,
    },
    /// This way gives PINs and no other answers.
    #[error("cannot get a confirmation from {way}: it gives PINs only; name another way with `prompter` in agent.toml")]
    PinsOnly {
        /// The way as it was given.
        way: String,
    },
    /// `prompter` names nothing we know.
    #[error(
        "cannot ask by {given:?}: a way is auto, pinentry[:PATH], askpass[:PATH], terminal[:PATH], fd:N or \
         command:PROGRAM ARGUMENTS"
    )]
    UnknownWay {
        /// What was given.
        given: String,
    },
    /// `--pin-source` names nothing we know.
    #[error("cannot take a PIN from {given:?}: a source is prompt, file:PATH, fd:N or credential:NAME")]
    UnknownSource {
        /// The kind of source that was given (what stands before the colon).
        given: String,
    },
    /// Others can read the file.
    #[error("cannot take the PIN from {}: others can read it; remedy: chmod 600 {}", path.display(), path.display())]
    ReadableByOthers {
        /// The file.
        path: PathBuf,
    },
    /// The source cannot be read, or holds no PIN.
    #[error("cannot take the PIN from {place}: {reason}")]
    Source {
        /// The source as it was given.
        place: String,
        /// Why.
        reason: String,
    },
    /// What was given is no text.
    #[error("cannot use that PIN: it is not UTF-8 text")]
    NotUtf8,
    /// What was given is no PIN.
    #[error("cannot use that PIN: {0}")]
    NotAPin(#[from] PinError),
}

impl PrompterError {
    /// Whether the person cancelled, or did not answer in time, or before whoever wanted to know had gone.
    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            Self::Cancelled { .. } | Self::Interrupted { .. } | Self::NobodyAnswered { .. } | Self::Withdrawn { .. }
        )
    }
}
