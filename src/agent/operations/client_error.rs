//! Errors of operations that a command runs in the agent.

use std::path::PathBuf;

use crate::keyset::{ErrorKind, KeysetError};

/// A failed operation in the agent. Each message begins with "cannot", with the next step.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The operation's own error.
    #[error(transparent)]
    Operation(#[from] KeysetError),
    /// The socket exists but cannot be used.
    #[error(
        "cannot use the agent at {}: {reason}; restart `tokenkeep agent`, or add --no-agent",
        socket.display()
    )]
    Unusable { socket: PathBuf, reason: String },
    /// Another user's process listens on the socket.
    #[error(
        "cannot use the agent at {}: it belongs to another user; nothing was sent to it; check who created the socket, \
         or add --no-agent",
        socket.display()
    )]
    AnotherUsers { socket: PathBuf },
    /// The agent is not the same build as the command.
    #[error(
        "cannot use the agent at {}: it is another build of tokenkeep than this command; restart the agent: \
         `tokenkeep agent stop`, then start it again",
        socket.display()
    )]
    OtherBuild { socket: PathBuf },
    /// The agent serves as many connections as it can.
    #[error("cannot use the agent at {}: it serves too many connections; try again", socket.display())]
    Busy { socket: PathBuf },
    /// The agent exited or closed the connection before the operation was complete.
    #[error("cannot {operation}: the agent exited during the operation; run the command again")]
    Ended {
        /// the operation's name
        operation: &'static str,
    },
}

impl ClientError {
    /// The kind of error, which decides the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Operation(error) => error.kind(),
            Self::AnotherUsers { .. } => ErrorKind::Refused,
            Self::Unusable { .. } | Self::OtherBuild { .. } | Self::Busy { .. } | Self::Ended { .. } => {
                ErrorKind::Fault
            }
        }
    }
}
