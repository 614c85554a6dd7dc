//! The process at the other end of a connection.

use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::{Deserialize, Serialize};

/// A connected process, as the kernel reports it (`SO_PEERCRED`). Processes of other users are
/// rejected earlier.
///
/// The process id dates from the connection. The program behind it may have changed since, or may
/// have been chosen to deceive; so what is shown of it is advice to a person and decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerProcess {
    /// its process id; 0 if it is in a PID namespace invisible to this process (in a container, or
    /// outside of one)
    pub pid: i32,
    /// its effective user id
    pub uid: u32,
}

impl PeerProcess {
    /// The peer of this connection; `None` if the kernel does not report it.
    pub(super) fn of(stream: &UnixStream) -> Option<Self> {
        let credentials = getsockopt(stream, PeerCredentials).ok()?;
        Some(Self { pid: credentials.pid(), uid: credentials.uid() })
    }
}
