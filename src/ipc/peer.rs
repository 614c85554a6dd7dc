//! The process at the other end of a Unix socket.

use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// A connected process, as the kernel reports it (`SO_PEERCRED`).
///
/// The process id dates from the connection. The program behind it may have changed since, or may
/// have been chosen to deceive; so what is shown of it is advice to a person and decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProcess {
    /// its process id; 0 if it is in a PID namespace invisible to this process (in a container, or
    /// outside of one)
    pub pid: i32,
    /// its effective user id
    pub uid: u32,
}

impl PeerProcess {
    /// The peer of this connection; `None` if the kernel does not report it.
    pub fn of(stream: &impl AsFd) -> Option<Self> {
        let credentials = getsockopt(stream, PeerCredentials).ok()?;
        Some(Self { pid: credentials.pid(), uid: credentials.uid() })
    }

    /// Whether the peer has the user id of this process. Even root counts as another user.
    pub fn is_same_user(self) -> bool {
        self.uid == rustix::process::geteuid().as_raw()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn only_a_process_of_the_same_user_is_the_same_user() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = PeerProcess::of(&one).unwrap();
        assert!(peer.is_same_user());
        assert!(!PeerProcess { uid: peer.uid + 1, ..peer }.is_same_user());
        assert!(peer.uid == 0 || !PeerProcess { uid: 0, ..peer }.is_same_user());
    }
}
