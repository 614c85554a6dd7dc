//! The agent's two sockets: their paths, their owner, and whether an agent listens.
//!
//! They are in a directory that only the user can access (0700, not a link), only the user can
//! access them (0600), and they belong to one agent: the process that holds the lock on the file
//! `lock` in that directory. A stale socket, left by a killed agent, is replaced; a live one never.
//! Sockets passed by systemd remain systemd's.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::process_error::AgentProcessError;
use crate::token;

/// `sun_path` has 108 bytes on Linux, including the final NUL.
const MAX_PATH_BYTES: usize = 107;

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

/// The state of a socket's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketState {
    /// nothing exists: no agent is running
    Absent,
    /// a process listens
    Live,
    /// no process listens; the next agent replaces the socket
    Stale,
    /// unusable
    Wrong(SocketProblem),
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
    pub fn state(&self, endpoint: Endpoint) -> SocketState {
        if fs::symlink_metadata(&self.0).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return SocketState::Absent;
        }
        if let Err(SocketProblem { reason, remedy }) = check_private(&self.0) {
            return SocketState::Wrong(SocketProblem::new(format!("{}: {reason}", self.0.display()), remedy));
        }
        state_of(&self.socket(endpoint))
    }

    /// Creates the directory if necessary.
    ///
    /// # Errors
    /// [`AgentProcessError::Directory`] if other users can access it.
    pub fn prepare(&self) -> Result<&Path, AgentProcessError> {
        for directory in [self.0.parent(), Some(&*self.0)].into_iter().flatten() {
            let refuse =
                |SocketProblem { reason, .. }| AgentProcessError::Directory { path: directory.to_owned(), reason };
            make_private(directory).map_err(refuse)?;
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
        check_private(&self.0).ok()?;
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
        let refuse = |reason: String| AgentProcessError::Socket { path: path.clone(), reason };
        let failed = |error: io::Error| refuse(error.to_string());
        let started = Instant::now();
        loop {
            match state_of(&path) {
                SocketState::Absent | SocketState::Stale => break,
                SocketState::Wrong(SocketProblem { reason, remedy }) => {
                    return Err(refuse(format!("{reason}; {remedy}")));
                }
                // A killed agent leaves a worker that exits as soon as it notices.
                SocketState::Live if started.elapsed() < INSTANCE_LOCK_TIMEOUT => std::thread::sleep(RETRY_DELAY),
                SocketState::Live => {
                    return Err(refuse("another program listens on it (systemd or a different agent)".into()));
                }
            }
        }
        // Bind under a temporary name until the mode is set; then rename atomically over the old
        // socket.
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&new).map_err(failed)?;
        fs::set_permissions(&new, Permissions::from_mode(0o600)).map_err(failed)?;
        let inode = inode(&new).map_err(failed)?;
        fs::rename(&new, &path).map_err(failed)?;
        Ok(Socket { listener, file: Some(SocketFile { path, inode }) })
    }
}

/// A listening socket.
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
            Some(file) => Some(file.path.clone()),
            None => self.listener.local_addr().ok()?.as_pathname().map(Path::to_owned),
        }
    }
}

/// A socket's file. Its inode tells whether another process has replaced it since.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            // If it cannot be removed, the next agent replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

fn state_of(path: &Path) -> SocketState {
    let wrong = |reason: String, remedy: &str| SocketState::Wrong(SocketProblem::new(reason, remedy));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return SocketState::Absent,
        Err(error) => return wrong(error.to_string(), REPLACE_REMEDY),
        Ok(found) if !found.file_type().is_socket() => {
            return wrong("it is not a socket".to_owned(), REPLACE_REMEDY);
        }
        Ok(found) if found.uid() != rustix::process::geteuid().as_raw() => {
            return wrong("the socket belongs to another user".to_owned(), REPLACE_REMEDY);
        }
        Ok(found) if found.mode() & 0o077 != 0 => {
            let reason = format!("other users can access the socket (mode {:o})", found.mode() & 0o777);
            return wrong(reason, &format!("chmod 600 {}", path.display()));
        }
        Ok(_) => {}
    }
    match probe(path) {
        // A full queue means that a process listens, too.
        Ok(()) | Err(Errno::AGAIN) => SocketState::Live,
        Err(Errno::CONNREFUSED) => SocketState::Stale,
        Err(Errno::NOENT) => SocketState::Absent,
        Err(error) => wrong(error.to_string(), REPLACE_REMEDY),
    }
}

/// Connects without blocking and closes the connection.
fn probe(path: &Path) -> Result<(), Errno> {
    if path.as_os_str().len() > MAX_PATH_BYTES {
        return Err(Errno::NAMETOOLONG);
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(socket.as_fd(), &SocketAddrUnix::new(path)?)
}

/// Creates the directory if necessary and checks that no other user can write to it.
fn make_private(directory: &Path) -> Result<(), SocketProblem> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(SocketProblem::new(error.to_string(), "check that you own its parent directory"))
        }
        _ => check_private(directory),
    }
}

fn check_private(directory: &Path) -> Result<(), SocketProblem> {
    let wrong = |reason: &str| SocketProblem::new(reason, REMOVE_REMEDY);
    let found = fs::symlink_metadata(directory).map_err(|error| wrong(&error.to_string()))?;
    if !found.is_dir() {
        return Err(wrong("it is not a directory"));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(wrong("it belongs to another user"));
    }
    if found.mode() & 0o077 != 0 {
        // Removing it would leave a running agent that holds the tokens and cannot be reached.
        let remedy =
            format!("chmod 700 {}, after checking its content; a running agent keeps working", directory.display());
        return Err(SocketProblem::new(format!("other users can access it (mode {:o})", found.mode() & 0o777), remedy));
    }
    Ok(())
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
