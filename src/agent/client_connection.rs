//! A client's connection, which is watched while a person is asked: a prompt closes when its answer
//! cannot be delivered any more, even if the client program is still running.
//!
//! A client that has only shut down its sending side (`shutdown(SHUT_WR)`, as `nc -N` and some HTTP
//! clients do) still reads the answer, so its prompt stays. A client that has closed the connection
//! or its reading side is gone.
//!
//! This must never read from the connection or send a byte over it.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

/// Interval at which a waiting client's connection is checked.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A client's connection; without one, no client is known to wait and none can disconnect.
#[derive(Clone, Debug, Default)]
pub struct ClientConnection(Option<Arc<UnixStream>>);

impl ClientConnection {
    /// The connection over which the answer will be sent.
    pub fn of(stream: &Arc<UnixStream>) -> Self {
        Self(Some(Arc::clone(stream)))
    }

    /// Returns true if there is a connection to watch.
    pub(super) fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// Returns true if no answer can reach the client any more.
    pub fn has_hung_up(&self) -> bool {
        self.0.as_deref().is_some_and(|stream| is_closed(stream) || has_closed_read_side(stream))
    }
}

/// Returns true if both directions are closed.
fn is_closed(stream: &UnixStream) -> bool {
    let mut descriptors = [PollFd::new(stream, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut descriptors, Some(&now)).is_ok_and(|count| count > 0)
}

/// Returns true if the client closed its reading side. poll(2) does not report that, but sending
/// zero bytes then fails.
fn has_closed_read_side(stream: &UnixStream) -> bool {
    matches!(send(stream, &[], SendFlags::DONTWAIT | SendFlags::NOSIGNAL), Err(Errno::PIPE | Errno::CONNRESET))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::Shutdown;

    use super::*;

    fn pair() -> (ClientConnection, Arc<UnixStream>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let ours = Arc::new(ours);
        (ClientConnection::of(&ours), ours, theirs)
    }

    #[test]
    fn a_client_that_closed_its_connection_has_hung_up() {
        let (client, _ours, theirs) = pair();
        assert!(client.is_known() && !client.has_hung_up());
        drop(theirs);
        assert!(client.has_hung_up());
        assert!(!ClientConnection::default().has_hung_up());
    }

    #[test]
    fn a_reading_client_is_connected_and_receives_nothing() {
        let (client, ours, mut theirs) = pair();
        theirs.write_all(b"unread").unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(!client.has_hung_up());
        (&*ours).write_all(b"answer").unwrap();
        ours.shutdown(Shutdown::Write).unwrap();
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"answer");
    }

    #[test]
    fn a_client_that_closed_its_reading_side_has_hung_up() {
        for how in [Shutdown::Read, Shutdown::Both] {
            let (client, _ours, theirs) = pair();
            theirs.shutdown(how).unwrap();
            assert!(client.has_hung_up(), "{how:?}");
        }
    }
}
