//! Waiting for input, but not for ever, and not for somebody who has gone.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What [`Deadline::either`] says when those for whom it is waited have gone.
pub(super) const GONE: io::ErrorKind = io::ErrorKind::ConnectionAborted;

/// Until when it is waited; without a moment, for as long as it takes.
#[derive(Clone, Debug, Default)]
pub(super) struct Deadline {
    end: Option<Instant>,
    /// what stands for those who want the answer: when one of these can be read or has ended, nobody does
    askers: Vec<Arc<OwnedFd>>,
}

impl Deadline {
    pub(super) fn after(patience: Duration) -> Self {
        Self { end: Instant::now().checked_add(patience), askers: Vec::new() }
    }

    /// No longer than these last: a handle of the process that asks, a pipe that ends when the question is withdrawn.
    pub(super) fn for_askers(self, askers: &[Arc<OwnedFd>]) -> Self {
        Self { askers: askers.to_vec(), ..self }
    }

    /// Another moment, from now.
    pub(super) fn set(&mut self, patience: Duration) {
        self.end = Instant::now().checked_add(patience);
    }

    /// Waits until there is something to read, or its end. [`io::ErrorKind::TimedOut`] when there is not in time, [`GONE`]
    /// when the asker has gone.
    pub(super) fn input(&self, from: impl AsFd) -> io::Result<()> {
        self.either(&from, None).map(|_| ())
    }

    /// Waits for input or, from a second descriptor, for another event. Which of the two there is: (input, event).
    pub(super) fn either(&self, from: &impl AsFd, event: Option<&OwnedFd>) -> io::Result<(bool, bool)> {
        let handles = event.into_iter().chain(self.askers.iter().map(AsRef::as_ref));
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
        if input || happened { Ok((input, happened)) } else { Err(GONE.into()) }
    }
}
