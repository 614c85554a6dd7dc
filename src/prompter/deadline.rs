//! Waiting for input, but not for ever.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Until when it is waited; without a moment, for as long as it takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    pub(super) fn after(patience: Duration) -> Self {
        Self(Instant::now().checked_add(patience))
    }

    /// Waits until there is something to read, or its end; [`io::ErrorKind::TimedOut`] when there is not in time.
    pub(super) fn input(self, from: impl AsFd) -> io::Result<()> {
        self.either(&from, None).map(|_| ())
    }

    /// Waits for input or, from a second descriptor, for another event. Which of the two there is: (input, event).
    pub(super) fn either(self, from: &impl AsFd, event: Option<&dyn AsFd>) -> io::Result<(bool, bool)> {
        let mut descriptors = vec![PollFd::new(from, PollFlags::IN)];
        if let Some(event) = &event {
            descriptors.push(PollFd::from_borrowed_fd(event.as_fd(), PollFlags::IN));
        }
        loop {
            let left = self.0.map(|end| end.saturating_duration_since(Instant::now()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut descriptors, timeout.as_ref()) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut ready = descriptors.iter().map(|descriptor| !descriptor.revents().is_empty());
        Ok((ready.next().unwrap_or(false), ready.next().unwrap_or(false)))
    }
}
