//! A private Unix socket: only its own user can connect, and its file belongs to one process.
//!
//! The agent's endpoints and the authority's control socket are such sockets. No other user can
//! connect at any time: the socket gets its mode (0600) under a temporary name, and is then renamed
//! over the file that a killed process has left. Modes can be changed, so a process also asks the
//! kernel for the user of each connection ([`PeerProcess`](super::PeerProcess)).
//!
//! This must never replace a socket on which a process listens, or a file that is no socket, and
//! never remove the file of another process.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// `sun_path` has 108 bytes on Linux, including the final NUL.
const MAX_PATH_BYTES: usize = 107;

/// A listening socket and its file.
#[derive(Debug)]
pub struct PrivateSocket {
    pub listener: UnixListener,
    pub file: SocketFile,
}

/// A socket's file, which is removed on drop. Its inode tells whether another process has replaced
/// it since.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

/// The state of a socket's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketState {
    /// nothing exists
    Absent,
    /// a process listens
    Live,
    /// no process listens; the next one replaces the socket
    Stale,
}

/// Why a path cannot be used for a private socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketPathError {
    /// A process listens on it.
    #[error("another process listens on it")]
    InUse,
    #[error("it is not a socket")]
    NotASocket,
    #[error("the socket belongs to another user")]
    AnotherUsers,
    /// A process listens, and the socket's mode, in this field, admits other users.
    #[error("other users can access the socket (mode {0:o})")]
    OpenToOthers(u32),
    #[error("its path is longer than the {MAX_PATH_BYTES} bytes allowed for a socket")]
    TooLong,
    #[error("{0}")]
    System(#[from] io::Error),
}

impl PrivateSocket {
    /// Creates the socket with mode 0600. Replaces a stale socket, never a live one.
    ///
    /// # Errors
    /// [`SocketPathError`]
    pub fn bind(path: &Path) -> Result<Self, SocketPathError> {
        if is_too_long(path) {
            return Err(SocketPathError::TooLong);
        }
        if SocketState::of(path)? == SocketState::Live {
            return Err(SocketPathError::InUse);
        }
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener = UnixListener::bind(&new)?;
        fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        let inode = inode(&new)?;
        fs::rename(&new, path)?;
        Ok(Self { listener, file: SocketFile { path: path.to_owned(), inode } })
    }
}

impl SocketFile {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            // If it cannot be removed, the next process replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl SocketState {
    /// Checks the file at this path, and connects to it without waiting. (With socket activation,
    /// connecting starts the server.)
    ///
    /// # Errors
    /// [`SocketPathError`] if the file is not a private socket of this user.
    pub fn of(path: &Path) -> Result<Self, SocketPathError> {
        let found = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::Absent),
            found => found?,
        };
        if !found.file_type().is_socket() {
            return Err(SocketPathError::NotASocket);
        }
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(SocketPathError::AnotherUsers);
        }
        match probe(path) {
            // A full queue means that a process listens, too.
            Ok(()) | Err(Errno::AGAIN) if found.mode() & 0o077 != 0 => {
                Err(SocketPathError::OpenToOthers(found.mode() & 0o777))
            }
            Ok(()) | Err(Errno::AGAIN) => Ok(Self::Live),
            Err(Errno::CONNREFUSED) => Ok(Self::Stale),
            Err(Errno::NOENT) => Ok(Self::Absent),
            Err(error) => Err(SocketPathError::System(error.into())),
        }
    }
}

/// Connects to a socket, which may be another user's; `None` if no process listens.
///
/// # Errors
/// The connection was refused for another reason.
pub fn connect(path: &Path) -> io::Result<Option<UnixStream>> {
    // No process can listen on such a path.
    if is_too_long(path) {
        return Ok(None);
    }
    match UnixStream::connect(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        connected => connected.map(Some),
    }
}

/// Connects without blocking and closes the connection.
fn probe(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(socket.as_fd(), &SocketAddrUnix::new(path)?)
}

fn is_too_long(path: &Path) -> bool {
    path.as_os_str().len() > MAX_PATH_BYTES
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path in a new directory.
    fn path() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.sock");
        (directory, path)
    }

    #[test]
    fn a_socket_is_private_and_removed_on_drop() {
        let (directory, path) = path();
        assert_eq!(SocketState::of(&path).unwrap(), SocketState::Absent);
        let socket = PrivateSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(SocketState::of(&path).unwrap(), SocketState::Live);
        assert!(connect(&path).unwrap().is_some());
        drop(socket);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left");
        assert!(connect(&path).unwrap().is_none());
    }

    #[test]
    fn a_stale_socket_is_replaced_whatever_its_mode() {
        for mode in [0o600, 0o755] {
            let (_directory, path) = path();
            drop(UnixListener::bind(&path).unwrap());
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(SocketState::of(&path).unwrap(), SocketState::Stale);
            let socket = PrivateSocket::bind(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
            assert!(connect(&path).unwrap().is_some());
            socket.listener.accept().unwrap();
        }
    }

    #[test]
    fn a_live_socket_is_never_replaced() {
        let (_directory, path) = path();
        let _socket = PrivateSocket::bind(&path).unwrap();
        let before = inode(&path).unwrap();
        assert!(matches!(PrivateSocket::bind(&path), Err(SocketPathError::InUse)));
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(PrivateSocket::bind(&path), Err(SocketPathError::OpenToOthers(0o666))));
        assert_eq!(inode(&path).unwrap(), before);
    }

    #[test]
    fn a_socket_with_a_full_queue_is_live() {
        let (_directory, path) = path();
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let _waiting: Vec<_> = (0..2).map(|_| probe(&path)).collect();
        assert_eq!(SocketState::of(&path).unwrap(), SocketState::Live);
    }

    #[test]
    fn a_file_that_is_no_socket_is_kept() {
        let (_directory, path) = path();
        fs::write(&path, "mine").unwrap();
        assert!(matches!(SocketState::of(&path), Err(SocketPathError::NotASocket)));
        assert!(matches!(PrivateSocket::bind(&path), Err(SocketPathError::NotASocket)));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn a_file_of_another_process_is_kept() {
        let (_directory, path) = path();
        let socket = PrivateSocket::bind(&path).unwrap();
        fs::rename(&path, path.with_extension("moved")).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(socket);
        assert!(path.exists());
    }

    #[test]
    fn a_path_that_is_too_long_is_refused() {
        let (directory, _) = path();
        let path = directory.path().join("x".repeat(MAX_PATH_BYTES));
        let error = PrivateSocket::bind(&path).unwrap_err().to_string();
        assert!(error.contains("longer than the 107 bytes"), "{error}");
        assert!(connect(&path).unwrap().is_none());
    }
}
