//! Errors of the agent's processes.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// Errors of the supervisor, the worker and the agent's sockets. Each message begins with "cannot".
#[derive(Debug, thiserror::Error)]
pub enum AgentProcessError {
    /// The socket directory is accessible to others, or not the user's own.
    #[error(
        "cannot keep the agent's sockets in {}: {reason}; use a directory of your own with mode 0700",
        path.display()
    )]
    Directory {
        /// the socket directory
        path: PathBuf,
        /// the problem
        reason: String,
    },
    /// A socket cannot be created.
    #[error("cannot create the agent's socket {}: {reason}", path.display())]
    Socket {
        /// the socket's path
        path: PathBuf,
        reason: String,
    },
    /// Another agent of this user is running.
    #[error("cannot start the agent: another agent is already running ({owner}); stop it with `tokenkeep agent stop`")]
    Running {
        /// program and process id from its lock file
        owner: String,
    },
    /// No agent of this user is running.
    #[error("cannot find a running agent; start one with `tokenkeep agent`")]
    NotRunning,
    /// A message between the agent's processes is missing or malformed.
    #[error("cannot communicate with the agent's other process: {0}")]
    Link(String),
    /// The worker exited during startup; it has printed the reason itself.
    #[error("cannot serve: the worker exited during startup ({status}{called}); see its output above")]
    Worker {
        status: ExitStatus,
        /// the modules that it called, as the end of a sentence
        called: String,
    },
    /// The worker keeps exiting shortly after its start.
    #[error(
        "cannot keep serving: the worker exited {times} times in a row within a minute of its start, last with \
         {status}{called}; use -v for details; exclude a faulty module with `modules` in agent.toml"
    )]
    WorkerCrashLoop {
        /// number of consecutive exits
        times: u32,
        /// the last exit status
        status: ExitStatus,
        /// the modules that it called then, as the end of a sentence
        called: String,
    },
    /// The worker cannot be sandboxed.
    #[error("cannot sandbox the worker: {0}")]
    Sandbox(String),
    /// A system call failed.
    #[error("cannot {operation}: {source}")]
    System {
        /// the operation, completing "cannot …"
        operation: &'static str,
        /// the system's error
        source: io::Error,
    },
}

impl AgentProcessError {
    /// Wraps an I/O error of this operation.
    pub(in crate::agent) fn system(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { operation, source }
    }
}
