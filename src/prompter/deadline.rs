//! Waits for input with a time limit, and only while the requester exists.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The error of [`Deadline::either`] when the requester has gone.
pub(super) const REQUESTER_GONE: io::ErrorKind = io::ErrorKind::ConnectionAborted;

/// The end of a wait; without one, the wait is unlimited.
#[derive(Clone, Debug, Default)]
pub(super) struct Deadline {
    end: Option<Instant>,
    /// handles of the requesters: the wait ends when one of them becomes readable or closes
    requesters: Vec<Arc<OwnedFd>>,
}

impl Deadline {
    pub(super) fn after(timeout: Duration) -> Self {
        Self { end: Instant::now().checked_add(timeout), requesters: Vec::new() }
    }

    /// Ends the wait with these handles: a requesting process's pidfd, or a pipe that closes when
    /// the prompt is withdrawn.
    pub(super) fn for_requesters(self, requesters: &[Arc<OwnedFd>]) -> Self {
        Self { requesters: requesters.to_vec(), ..self }
    }

    /// Sets a new end, `timeout` from now.
    pub(super) fn set(&mut self, timeout: Duration) {
        self.end = Instant::now().checked_add(timeout);
    }

    /// Waits until the descriptor is readable or at its end. Fails with [`io::ErrorKind::TimedOut`]
    /// after the time limit, with [`REQUESTER_GONE`] when the requester has gone.
    pub(super) fn input(&self, from: impl AsFd) -> io::Result<()> {
        self.either(&from, None).map(|_| ())
    }

    /// Waits for input, or for an event on a second descriptor. Returns which of them occurred:
    /// (input, event).
    pub(super) fn either(&self, from: &impl AsFd, event: Option<&OwnedFd>) -> io::Result<(bool, bool)> {
        let handles = event.into_iter().chain(self.requesters.iter().map(AsRef::as_ref));
        let mut descriptors = vec![PollFd::new(from, PollFlags::IN)];
        descriptors.extend(handles.map(|handle| PollFd::new(handle, PollFlags::IN)));
        loop {
            let left = self.end.map(|end| end.saturating_duration_since(Instant::now()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut descriptors, timeout.as_ref()) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let is_ready = |at: usize| descriptors.get(at).is_some_and(|descriptor| !descriptor.revents().is_empty());
        let (input, happened) = (is_ready(0), event.is_some() && is_ready(1));
        if input || happened { Ok((input, happened)) } else { Err(REQUESTER_GONE.into()) }
    }
}
