//! The agent's two sockets: their paths, their owner, and whether an agent listens.
//!
//! They are private sockets ([`PrivateSocket`]) in a directory that only the user can access (0700,
//! not a link), and they belong to one agent: the process that holds the lock on the file `lock` in
//! that directory. Sockets passed by systemd remain systemd's.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::process_error::AgentProcessError;
use crate::ipc::{PrivateSocket, SocketFile, SocketPathError, SocketState};
use crate::token::{self, PrivateDirectoryError};

/// Time that the worker of a killed agent gets to exit.
const INSTANCE_LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum time for which another process holds the lock only to probe it.
const PROBE_LOCK_TIMEOUT: Duration = Duration::from_millis(200);

/// Delay between two attempts.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// Remedies for an unusable socket and for an unusable directory. A user must not remove files
/// while an agent is running.
const REPLACE_REMEDY: &str = "stop the agent (`tokenkeep agent stop`), remove the file, and start the agent again";
const REMOVE_REMEDY: &str = "check who created it; stop a running agent by its process id, then remove it";

/// The file in the socket directory that the running agent locks.
const LOCK: &str = "lock";

/// One of the agent's two endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// the SSH agent protocol
    Ssh,
    /// the agent's own API
    Api,
}

impl Endpoint {
    /// The endpoint's name, as in `LISTEN_FDNAMES`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Api => "api",
        }
    }

    /// The endpoint with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Ssh, Self::Api].into_iter().find(|endpoint| endpoint.name() == name)
    }
}

/// The problem of an unusable socket or socket directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketProblem {
    /// the problem
    pub reason: String,
    /// the remedy, also valid while an agent is running
    pub remedy: String,
}

impl SocketProblem {
    fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into() }
    }
}

/// The directory of the agent's sockets.
#[derive(Clone, Debug)]
pub struct SocketDirectory(PathBuf);

impl SocketDirectory {
    /// `$XDG_RUNTIME_DIR/tokenkeep/agent`, or `agent` in the directory that
    /// [`token::lock_directory`] finds without it, which also has the tokens' locks.
    pub fn of_this_user() -> Self {
        Self(token::lock_directory().join("agent"))
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of an endpoint's socket.
    pub fn socket(&self, endpoint: Endpoint) -> PathBuf {
        self.0.join(endpoint.name()).with_extension("sock")
    }

    /// Checks the socket of an endpoint and connects to it. (With socket activation, connecting
    /// starts the agent.)
    ///
    /// # Errors
    /// The problem if the directory or the socket cannot be used.
    pub fn state(&self, endpoint: Endpoint) -> Result<SocketState, SocketProblem> {
        if fs::symlink_metadata(&self.0).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return Ok(SocketState::Absent);
        }
        token::check_private_directory(&self.0).map_err(|error| {
            let SocketProblem { reason, remedy } = problem_of_directory(&error, &self.0);
            SocketProblem::new(format!("{}: {reason}", self.0.display()), remedy)
        })?;
        let path = self.socket(endpoint);
        SocketState::of(&path).map_err(|error| problem_of(&error, &path))
    }

    /// Creates the directory if necessary.
    ///
    /// # Errors
    /// [`AgentProcessError::Directory`] if other users can access it.
    pub fn prepare(&self) -> Result<&Path, AgentProcessError> {
        for directory in [self.0.parent(), Some(&*self.0)].into_iter().flatten() {
            token::make_private_directory(directory).map_err(|error| AgentProcessError::Directory {
                path: directory.to_owned(),
                reason: problem_of_directory(&error, directory).reason,
            })?;
        }
        Ok(&self.0)
    }

    /// Creates the directory if necessary and takes the lock of this user's only agent.
    ///
    /// # Errors
    /// [`AgentProcessError::Directory`] if other users can access it,
    /// [`AgentProcessError::Running`] if another agent is running.
    pub(super) fn lock_instance(&self) -> Result<InstanceLock, AgentProcessError> {
        let path = self.prepare()?.join(LOCK);
        let failed = |error: io::Error| AgentProcessError::Directory { path: path.clone(), reason: error.to_string() };
        let mut lock = open_lock(&path).map_err(failed)?;
        let started = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                // Another process may hold the lock only to check whether an agent is running.
                Err(TryLockError::WouldBlock) if started.elapsed() < PROBE_LOCK_TIMEOUT => {
                    std::thread::sleep(RETRY_DELAY);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(AgentProcessError::Running { owner: read_owner(&mut lock) });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        lock.set_len(0).and_then(|()| lock.rewind()).map_err(failed)?;
        write!(lock, "process {}", std::process::id()).map_err(failed)?;
        Ok(InstanceLock { directory: self.clone(), _lock: lock })
    }

    /// The process id of the running agent, from its lock; `None` if no agent is running.
    pub fn running(&self) -> Option<i32> {
        token::check_private_directory(&self.0).ok()?;
        let mut lock = OpenOptions::new().read(true).write(true).open(self.0.join(LOCK)).ok()?;
        match lock.try_lock_shared() {
            Err(TryLockError::WouldBlock) => read_owner(&mut lock).strip_prefix("process ")?.parse().ok(),
            _ => None,
        }
    }
}

/// The lock of this user's only agent, held while this lives.
#[derive(Debug)]
pub(super) struct InstanceLock {
    directory: SocketDirectory,
    _lock: File,
}

impl InstanceLock {
    /// Creates the socket of an endpoint with mode 0600. Replaces a stale socket, never a live one.
    ///
    /// # Errors
    /// [`AgentProcessError::Socket`]
    pub(super) fn bind(&self, endpoint: Endpoint) -> Result<Socket, AgentProcessError> {
        let path = self.directory.socket(endpoint);
        let started = Instant::now();
        let reason = loop {
            match PrivateSocket::bind(&path) {
                Ok(PrivateSocket { listener, file }) => return Ok(Socket { listener, file: Some(file) }),
                // A killed agent leaves a worker that exits as soon as it notices.
                Err(SocketPathError::InUse) if started.elapsed() < INSTANCE_LOCK_TIMEOUT => {
                    std::thread::sleep(RETRY_DELAY);
                }
                Err(SocketPathError::InUse) => {
                    break "another program listens on it (systemd or a different agent)".to_owned();
                }
                Err(SocketPathError::System(error)) => break error.to_string(),
                Err(error) => {
                    let SocketProblem { reason, remedy } = problem_of(&error, &path);
                    break format!("{reason}; {remedy}");
                }
            }
        };
        Err(AgentProcessError::Socket { path, reason })
    }
}

/// A listening socket: the agent's own, or systemd's.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    file: Option<SocketFile>,
}

impl Socket {
    /// A socket passed by systemd: its file is kept.
    pub(super) fn inherited(listener: UnixListener) -> Self {
        Self { listener, file: None }
    }

    /// The socket's path; `None` if it has none.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match &self.file {
            Some(file) => Some(file.path().to_owned()),
            None => self.listener.local_addr().ok()?.as_pathname().map(Path::to_owned),
        }
    }
}

/// A socket that cannot be used, with the remedy.
fn problem_of(error: &SocketPathError, path: &Path) -> SocketProblem {
    let remedy = match error {
        SocketPathError::OpenToOthers(_) => format!("chmod 600 {}", path.display()),
        SocketPathError::TooLong => "set XDG_RUNTIME_DIR to a shorter path".to_owned(),
        _ => REPLACE_REMEDY.to_owned(),
    };
    SocketProblem::new(error.to_string(), remedy)
}

/// A directory that cannot be used, with the remedy.
fn problem_of_directory(error: &PrivateDirectoryError, directory: &Path) -> SocketProblem {
    match error {
        PrivateDirectoryError::OpenToOthers(mode) => SocketProblem::new(
            format!("other users can access it (mode {mode:o})"),
            // Removing it would leave a running agent that holds the tokens and cannot be reached.
            format!("chmod 700 {}, after checking its content; a running agent keeps working", directory.display()),
        ),
        PrivateDirectoryError::System(error) => SocketProblem::new(error.to_string(), REMOVE_REMEDY),
        error => SocketProblem::new(format!("it {error}"), REMOVE_REMEDY),
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The process that holds the lock, as it wrote itself into the file.
fn read_owner(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.rewind().and_then(|()| lock.take(60).read_to_string(&mut text));
    match read {
        Ok(length) if length > 0 => text,
        _ => "a process that is starting".to_owned(),
    }
}

#[cfg(test)]
mod tests;
