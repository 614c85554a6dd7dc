//! The queue of the operations that need a token's PIN: first come, first served.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::TokenError;

/// A token's queue for the use of its PIN.
#[derive(Debug, Default)]
pub(super) struct PinQueue {
    queue: Mutex<QueueState>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    // Tickets: the next one to issue, and the one being served.
    next: u64,
    serving: u64,
    // Number of failed session logins, and the last failure.
    failures: u64,
    last_failure: Option<TokenError>,
    declined: u64,
}

/// What had happened in the queue before a caller began to wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueHistory {
    failures: u64,
    declined: u64,
}

impl QueueState {
    fn issue_ticket(&mut self) -> (u64, QueueHistory) {
        let ticket = self.next;
        self.next += 1;
        (ticket, QueueHistory { failures: self.failures, declined: self.declined })
    }
}

impl PinQueue {
    fn queue(&self) -> MutexGuard<'_, QueueState> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the head position. [`PinQueue::leave`] ends it.
    pub(super) fn enter(&self) -> QueueHistory {
        let mut queue = self.queue();
        let (ticket, history) = queue.issue_ticket();
        while queue.serving != ticket {
            queue = self.moved.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        history
    }

    /// Like [`PinQueue::enter`] without waiting; `None` if another caller has the position.
    pub(super) fn try_enter(&self) -> Option<QueueHistory> {
        let mut queue = self.queue();
        (queue.next == queue.serving).then(|| queue.issue_ticket().1)
    }

    /// Gives the head position to the next caller.
    pub(super) fn leave(&self) {
        self.queue().serving += 1;
        self.moved.notify_all();
    }

    /// Records a failed session login.
    pub(super) fn note_failure(&self, error: &TokenError) {
        let mut queue = self.queue();
        queue.failures += 1;
        queue.last_failure = Some(error.clone());
    }

    /// Records that a person declined to enter a PIN for a session.
    pub(super) fn note_declined(&self) {
        self.queue().declined += 1;
    }

    /// The last failure of a session login, if it occurred since.
    pub(super) fn failure_since(&self, history: QueueHistory) -> Option<TokenError> {
        let queue = self.queue();
        queue.last_failure.clone().filter(|_| queue.failures > history.failures)
    }

    /// Whether a person declined since.
    pub(super) fn has_declined_since(&self, history: QueueHistory) -> bool {
        self.queue().declined > history.declined
    }

    /// Number of callers waiting for the current one.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let queue = self.queue();
        usize::try_from((queue.next - queue.serving).saturating_sub(1)).unwrap()
    }
}
