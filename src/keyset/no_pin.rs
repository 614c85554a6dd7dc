//! The reason why a person, or a source in their place, gave no PIN or no confirmation.

use serde::{Deserialize, Serialize};

/// The reason why no PIN, or no confirmation, was given. No try was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum NoPin {
    /// The user cancelled: closed the window, ended the input, or entered an empty line.
    #[error("cancelled at the prompt")]
    Cancelled,
    /// The user pressed Ctrl-C at the command's prompt, which cancels the command.
    #[error("interrupted at the prompt")]
    Interrupted,
    /// The requesting program exited, so the prompt was closed.
    #[error("the requesting program has exited")]
    Withdrawn,
    /// The user was asked for a confirmation and refused it.
    #[error("declined at the prompt")]
    Declined,
    /// No prompt is possible, or the PIN source is unusable; the text says why and what to do.
    #[error("{0}")]
    Unavailable(String),
    /// Like [`NoPin::Unavailable`], but only because this process cannot prompt: the caller may
    /// prompt elsewhere.
    #[error("{0}")]
    NotInteractive(String),
    /// One try is left, and no user at a terminal accepted the risk.
    #[error("one try is left on this token, and no user can be warned; run this at a terminal")]
    LastTry,
}

impl NoPin {
    /// Returns whether the user refused. Operations that waited for the same prompt are then not
    /// asked again.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Interrupted | Self::Declined)
    }
}
