//! Waits for a connection's next request: polls briefly, then blocks.
//!
//! A client usually sends its next request as soon as it has an answer. Blocking and waking an idle
//! core takes longer than a token's elliptic curve signature. So a connection that was just served
//! is polled briefly, but only while no other connection is being served, because otherwise no core
//! is idle. An idle agent never polls.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// Duration of polling: the time a client needs to read an answer and send the next request.
const SPIN_DURATION: Duration = Duration::from_micros(100);

/// Number of connections in this process that are being served or polled.
static ACTIVE_CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

/// The state of one connection.
#[derive(Debug, Default)]
pub(super) struct SpinReader {
    active: Option<ActiveConnection>,
}

/// Counts an active connection while it lives.
#[derive(Debug)]
struct ActiveConnection;

impl ActiveConnection {
    fn begin() -> Self {
        ACTIVE_CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for ActiveConnection {
    fn drop(&mut self) {
        ACTIVE_CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SpinReader {
    /// A reader of this connection.
    pub(super) fn of<'a>(&'a mut self, stream: &'a UnixStream) -> SpinStream<'a> {
        SpinStream { spin_reader: self, stream }
    }
}

/// A connection being read.
pub(super) struct SpinStream<'a> {
    spin_reader: &'a mut SpinReader,
    stream: &'a UnixStream,
}

impl Read for SpinStream<'_> {
    fn read(&mut self, destination: &mut [u8]) -> io::Result<usize> {
        let was_served = self.spin_reader.active.is_some();
        if was_served
            && ACTIVE_CONNECTIONS.load(Ordering::Relaxed) == 1
            && let Some(read) = read_spinning(self.stream, destination)?
        {
            return Ok(read);
        }
        self.spin_reader.active = None;
        let read = self.stream.read(destination)?;
        self.spin_reader.active = Some(ActiveConnection::begin());
        Ok(read)
    }
}

/// Polls briefly; `None` if nothing arrives. It yields the core to other threads.
fn read_spinning(stream: &UnixStream, destination: &mut [u8]) -> io::Result<Option<usize>> {
    let until = Instant::now() + SPIN_DURATION;
    loop {
        match recv(stream, &mut *destination, RecvFlags::DONTWAIT) {
            Ok((read, _)) => return Ok(Some(read)),
            Err(Errno::AGAIN) if Instant::now() < until && ACTIVE_CONNECTIONS.load(Ordering::Relaxed) == 1 => {
                std::thread::yield_now();
            }
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;

    use super::*;

    #[test]
    fn early_and_late_bytes_and_eof_are_read() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let writing = thread::spawn(move || {
            for piece in [&b"one"[..], b"two", b"three"] {
                theirs.write_all(piece).unwrap();
                thread::sleep(Duration::from_millis(5));
            }
        });
        let (mut spin_reader, mut all, mut destination) = (SpinReader::default(), Vec::new(), [0; 2]);
        loop {
            match spin_reader.of(&ours).read(&mut destination).unwrap() {
                0 => break,
                read => all.extend_from_slice(&destination[..read]),
            }
        }
        writing.join().unwrap();
        assert_eq!(all, b"onetwothree");
        assert!(spin_reader.of(&ours).read(&mut destination).unwrap() == 0, "the stream has ended");
    }

    #[test]
    fn read_errors_are_reported() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut spin_reader = SpinReader { active: Some(ActiveConnection::begin()) };
        (&ours).write_all(b"unread").unwrap();
        drop(theirs);
        let error = spin_reader.of(&ours).read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
