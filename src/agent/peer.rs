//! Who is at the other end of a connection.

use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::{Deserialize, Serialize};

/// A process that has connected, as the kernel names it (`SO_PEERCRED`): another user's never gets this far.
///
/// The process id is as of the connection: the program behind it can have changed since, or have been chosen to
/// deceive, so that what is shown of it is advice to a person and decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// its process id; 0 when it is in a PID namespace that this process does not see (a container, or outside of one)
    pub pid: i32,
    /// its effective user id
    pub uid: u32,
}

impl Peer {
    /// Who is at the other end of this connection; none when the kernel does not say.
    pub(super) fn of(stream: &UnixStream) -> Option<Self> {
        let credentials = getsockopt(stream, PeerCredentials).ok()?;
        Some(Self { pid: credentials.pid(), uid: credentials.uid() })
    }
}
