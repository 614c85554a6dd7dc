//! Why the agent did not do an act for a command.

use std::path::PathBuf;

use crate::keyset::{ErrorKind, KeysetError};

/// An act that the agent did not do. Each message completes "cannot …", with the next step.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// What the act itself says.
    #[error(transparent)]
    Act(#[from] KeysetError),
    /// The socket is there and cannot be used.
    #[error(
        "cannot use the agent at {}: {reason}; start `tokenkeep agent` anew, or add --no-agent",
        socket.display()
    )]
    Unusable {
        /// the socket
        socket: PathBuf,
        /// why
        reason: String,
    },
    /// Another user's process listens there.
    #[error(
        "cannot use the agent at {}: it belongs to another user; nothing was sent to it; see who made that socket, \
         or add --no-agent",
        socket.display()
    )]
    AnotherUsers {
        /// the socket
        socket: PathBuf,
    },
    /// It ended, or hung up, before it said how the act ended.
    #[error("cannot {operation}: the agent ended before it was done; type the command again")]
    Ended {
        /// what was asked for
        operation: &'static str,
    },
    /// It said something that does not fit.
    #[error("cannot use the agent's answer: it is of another version than this command; start `tokenkeep agent` anew")]
    Unfitting,
}

impl ClientError {
    /// Which of the program's ends this leads to.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Act(error) => error.kind(),
            Self::AnotherUsers { .. } => ErrorKind::Refused,
            Self::Unusable { .. } | Self::Ended { .. } | Self::Unfitting => ErrorKind::Fault,
        }
    }
}
