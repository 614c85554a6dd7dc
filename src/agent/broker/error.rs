//! Why the agent's processes cannot do what they must.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// Each message completes "cannot …".
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The directory of the sockets is not the user's alone.
    #[error("cannot keep the agent's sockets in {}: {reason}; remedy: a directory of your own with mode 0700", path.display())]
    Directory {
        /// the directory
        path: PathBuf,
        /// what is wrong with it
        reason: String,
    },
    /// A socket cannot be made.
    #[error("cannot make the agent's socket {}: {reason}", path.display())]
    Socket {
        /// the socket
        path: PathBuf,
        /// why
        reason: String,
    },
    /// Another agent of this user runs.
    #[error("cannot start the agent: one runs already, {holder}; `tokenkeep agent stop` ends it")]
    Running {
        /// program and process id, as it has written them down
        holder: String,
    },
    /// No agent of this user runs.
    #[error("cannot find a running agent; `tokenkeep agent` starts one")]
    NotRunning,
    /// The two processes do not understand each other.
    #[error("cannot talk to the agent's other process: {0}")]
    Link(String),
    /// The worker ended before it was ready; it has said why itself.
    #[error("cannot serve: the agent's worker ended before it was ready ({status}); what it said stands above")]
    Worker {
        /// how it ended
        status: ExitStatus,
    },
    /// The worker dies again and again.
    #[error(
        "cannot go on serving: the agent's worker ended {times} times in a row within a minute of its start, at last with \
         {status}; -v tells more, and a module that does it is left out with `modules` in agent.toml"
    )]
    WorkerKeepsEnding {
        /// how often
        times: u32,
        /// how it ended the last time
        status: ExitStatus,
    },
    /// The worker cannot be shut in.
    #[error("cannot shut the agent's worker in: {0}")]
    Sandbox(String),
    /// The system refused something.
    #[error("cannot {operation}: {source}")]
    System {
        /// what was to be done
        operation: &'static str,
        /// what the system said
        source: io::Error,
    },
}

impl BrokerError {
    /// The system's refusal of this operation.
    pub(in crate::agent) fn system(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { operation, source }
    }
}
