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
const MOMENT: Duration = Duration::from_micros(100);

/// Number of connections in this process that are being served or polled.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);

/// The state of one connection.
#[derive(Debug, Default)]
pub(super) struct Attention {
    at_work: Option<AtWork>,
}

/// Counts an active connection while it lives.
#[derive(Debug)]
struct AtWork;

impl AtWork {
    fn begin() -> Self {
        AT_WORK.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        AT_WORK.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Attention {
    /// A reader of this connection.
    pub(super) fn of<'a>(&'a mut self, stream: &'a UnixStream) -> Attentive<'a> {
        Attentive { attention: self, stream }
    }
}

/// A connection being read.
pub(super) struct Attentive<'a> {
    attention: &'a mut Attention,
    stream: &'a UnixStream,
}

impl Read for Attentive<'_> {
    fn read(&mut self, place: &mut [u8]) -> io::Result<usize> {
        let was_served = self.attention.at_work.is_some();
        if was_served
            && AT_WORK.load(Ordering::Relaxed) == 1
            && let Some(read) = at_once(self.stream, place)?
        {
            return Ok(read);
        }
        self.attention.at_work = None;
        let read = self.stream.read(place)?;
        self.attention.at_work = Some(AtWork::begin());
        Ok(read)
    }
}

/// Polls briefly; `None` if nothing arrives. It yields the core to other threads.
fn at_once(stream: &UnixStream, place: &mut [u8]) -> io::Result<Option<usize>> {
    let until = Instant::now() + MOMENT;
    loop {
        match recv(stream, &mut *place, RecvFlags::DONTWAIT) {
            Ok((read, _)) => return Ok(Some(read)),
            Err(Errno::AGAIN) if Instant::now() < until && AT_WORK.load(Ordering::Relaxed) == 1 => {
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
    fn everything_is_read_whether_it_comes_at_once_or_late_and_the_end_is_one() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let writing = thread::spawn(move || {
            for piece in [&b"one"[..], b"two", b"three"] {
                theirs.write_all(piece).unwrap();
                thread::sleep(Duration::from_millis(5));
            }
        });
        let (mut attention, mut all, mut place) = (Attention::default(), Vec::new(), [0; 2]);
        loop {
            match attention.of(&ours).read(&mut place).unwrap() {
                0 => break,
                read => all.extend_from_slice(&place[..read]),
            }
        }
        writing.join().unwrap();
        assert_eq!(all, b"onetwothree");
        assert!(attention.of(&ours).read(&mut place).unwrap() == 0, "the stream has ended");
    }

    #[test]
    fn what_is_broken_is_said() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut attention = Attention { at_work: Some(AtWork::begin()) };
        (&ours).write_all(b"unread").unwrap();
        drop(theirs);
        let error = attention.of(&ours).read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
