//! The agent's two sockets: where they are, who may make them, and whether somebody listens.
//!
//! They lie in a directory that is the user's alone (0700, no link), are the user's alone themselves (0600), and belong to
//! one agent: whoever holds the lock on the file `lock` beside them. A socket that nobody listens on any more, of an agent
//! that was killed, is taken over; a live one never. Sockets that systemd made and hands over stay systemd's.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::broker::BrokerError;
use crate::token;

/// `sun_path` of Linux has 108 bytes, its last one 0.
const LONGEST_PATH: usize = 107;

/// How long the worker of an agent that was killed may take to notice it.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// How long somebody may hold the lock only to look.
const GLANCE: Duration = Duration::from_millis(200);

/// How long to sleep between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// What helps where there is no socket to use, and where no directory: never to remove something beside a running agent.
const REPLACE: &str = "end the agent (`tokenkeep agent stop`), remove that, and start the agent again";
const GIVE_UP: &str = "see who made it; end the agent by its process id if one runs, then remove it";

/// The file beside the sockets on which the running agent holds a lock.
const LOCK: &str = "lock";

/// One of the agent's two doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// the SSH agent protocol
    Ssh,
    /// the agent's own API
    Api,
}

impl Door {
    /// Its name, also in `LISTEN_FDNAMES`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Api => "api",
        }
    }

    /// The one of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Ssh, Self::Api].into_iter().find(|door| door.name() == name)
    }
}

/// What is found where a socket belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// nothing: no agent runs
    Absent,
    /// somebody listens
    Live,
    /// a socket that nobody listens on any more: the next agent takes it over
    Stale,
    /// nothing to use
    Wrong(Trouble),
}

/// What is wrong with a socket or its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// why it cannot be used
    pub reason: String,
    /// what to do about it, beside an agent that runs, too
    pub remedy: String,
}

impl Trouble {
    fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into() }
    }
}

/// The directory of the agent's sockets.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// `$XDG_RUNTIME_DIR/tokenkeep/agent`, else `agent` in the directory that [`token::lock_directory`] finds without it, beside
    /// the locks of the tokens.
    pub fn of_this_user() -> Self {
        Self(token::lock_directory().join("agent"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the socket of a door is.
    pub fn socket(&self, door: Door) -> PathBuf {
        self.0.join(door.name()).with_extension("sock")
    }

    /// Looks at the socket of a door, and knocks. (With socket activation, knocking starts the agent.)
    pub fn state(&self, door: Door) -> State {
        if fs::symlink_metadata(&self.0).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return State::Absent;
        }
        if let Err(Trouble { reason, remedy }) = check_private(&self.0) {
            return State::Wrong(Trouble::new(format!("{}: {reason}", self.0.display()), remedy));
        }
        state_of(&self.socket(door))
    }

    /// Makes the directory if need be.
    ///
    /// # Errors
    /// [`BrokerError::Directory`] if others can use it.
    pub fn prepare(&self) -> Result<&Path, BrokerError> {
        for directory in [self.0.parent(), Some(&*self.0)].into_iter().flatten() {
            let refuse = |Trouble { reason, .. }| BrokerError::Directory { path: directory.to_owned(), reason };
            make_private(directory).map_err(refuse)?;
        }
        Ok(&self.0)
    }

    /// Makes the directory if need be, and becomes the one agent of this user.
    ///
    /// # Errors
    /// [`BrokerError::Directory`] if others can use it, [`BrokerError::Running`] if there is another agent.
    pub(super) fn claim(&self) -> Result<Claim, BrokerError> {
        let path = self.prepare()?.join(LOCK);
        let failed = |error: io::Error| BrokerError::Directory { path: path.clone(), reason: error.to_string() };
        let mut lock = open_lock(&path).map_err(failed)?;
        let started = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                // Somebody may only be looking whether an agent runs.
                Err(TryLockError::WouldBlock) if started.elapsed() < GLANCE => std::thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => return Err(BrokerError::Running { holder: holder(&mut lock) }),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        lock.set_len(0).and_then(|()| lock.rewind()).map_err(failed)?;
        write!(lock, "process {}", std::process::id()).map_err(failed)?;
        Ok(Claim { directory: self.clone(), _lock: lock })
    }

    /// The process id of the running agent, by the lock that it holds. None: no agent runs.
    pub fn running(&self) -> Option<i32> {
        check_private(&self.0).ok()?;
        let mut lock = OpenOptions::new().read(true).write(true).open(self.0.join(LOCK)).ok()?;
        match lock.try_lock_shared() {
            Err(TryLockError::WouldBlock) => holder(&mut lock).strip_prefix("process ")?.parse().ok(),
            _ => None,
        }
    }
}

/// The right to be this user's agent, as long as it lives.
#[derive(Debug)]
pub(super) struct Claim {
    directory: Directory,
    _lock: File,
}

impl Claim {
    /// Makes the socket of a door, mode 0600. A stale one is taken over, a live one never.
    ///
    /// # Errors
    /// [`BrokerError::Socket`]
    pub(super) fn bind(&self, door: Door) -> Result<Socket, BrokerError> {
        let path = self.directory.socket(door);
        let refuse = |reason: String| BrokerError::Socket { path: path.clone(), reason };
        let failed = |error: io::Error| refuse(error.to_string());
        let started = Instant::now();
        loop {
            match state_of(&path) {
                State::Absent | State::Stale => break,
                State::Wrong(Trouble { reason, remedy }) => return Err(refuse(format!("{reason}; {remedy}"))),
                // An agent that was killed leaves a worker behind that ends as soon as it notices.
                State::Live if started.elapsed() < LAST_BREATH => std::thread::sleep(PAUSE),
                State::Live => {
                    return Err(refuse("another program listens there (systemd, or an agent of another kind)".into()));
                }
            }
        }
        // Under another name until nobody else can open it; then in one stroke over what is there.
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

/// A socket that is listened on.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    file: Option<SocketFile>,
}

impl Socket {
    /// One that systemd made: its file stays.
    pub(super) fn inherited(listener: UnixListener) -> Self {
        Self { listener, file: None }
    }

    /// Where it is; none if systemd knows better.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match &self.file {
            Some(file) => Some(file.path.clone()),
            None => self.listener.local_addr().ok()?.as_pathname().map(Path::to_owned),
        }
    }
}

/// A socket's file, known by its inode: another process may have put its own there since.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            // One that stays is taken over by the next agent.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

fn state_of(path: &Path) -> State {
    let wrong = |reason: String, remedy: &str| State::Wrong(Trouble::new(reason, remedy));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return State::Absent,
        Err(error) => return wrong(error.to_string(), REPLACE),
        Ok(found) if !found.file_type().is_socket() => {
            return wrong("something else than a socket is there".to_owned(), REPLACE);
        }
        Ok(found) if found.uid() != rustix::process::geteuid().as_raw() => {
            return wrong("the socket belongs to somebody else".to_owned(), REPLACE);
        }
        Ok(found) if found.mode() & 0o077 != 0 => {
            let reason = format!("others can use the socket (mode {:o})", found.mode() & 0o777);
            return wrong(reason, &format!("chmod 600 {}", path.display()));
        }
        Ok(_) => {}
    }
    match knock(path) {
        // A full queue has somebody behind it, too.
        Ok(()) | Err(Errno::AGAIN) => State::Live,
        Err(Errno::CONNREFUSED) => State::Stale,
        Err(Errno::NOENT) => State::Absent,
        Err(error) => wrong(error.to_string(), REPLACE),
    }
}

/// Connects without ever waiting, and hangs up.
fn knock(path: &Path) -> Result<(), Errno> {
    if path.as_os_str().len() > LONGEST_PATH {
        return Err(Errno::NAMETOOLONG);
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(socket.as_fd(), &SocketAddrUnix::new(path)?)
}

/// Makes the directory if need be, and checks that nobody else can put files into it.
fn make_private(directory: &Path) -> Result<(), Trouble> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(Trouble::new(error.to_string(), "see whether its parent directory is yours"))
        }
        _ => check_private(directory),
    }
}

fn check_private(directory: &Path) -> Result<(), Trouble> {
    let wrong = |reason: &str| Trouble::new(reason, GIVE_UP);
    let found = fs::symlink_metadata(directory).map_err(|error| wrong(&error.to_string()))?;
    if !found.is_dir() {
        return Err(wrong("it is no directory"));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(wrong("it belongs to somebody else"));
    }
    if found.mode() & 0o077 != 0 {
        // Removed, it would leave an agent that runs with the tokens and without a way to it.
        let remedy = format!(
            "chmod 700 {}, after a look at who put what into it; an agent that runs goes on",
            directory.display()
        );
        return Err(Trouble::new(format!("others can use it (mode {:o})", found.mode() & 0o777), remedy));
    }
    Ok(())
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.rewind().and_then(|()| lock.take(60).read_to_string(&mut text));
    match read {
        Ok(length) if length > 0 => text,
        _ => "a process that starts just now".to_owned(),
    }
}

#[cfg(test)]
mod tests;
