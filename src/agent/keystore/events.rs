//! Events of tokens and sessions, delivered to listeners.
//!
//! A listener that does not read loses the oldest events and receives their number. A slow listener
//! therefore never blocks the keystore, and a gap never looks like silence.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::token::{KeysetName, TokenInfo};

/// Maximum number of events queued for one listener.
const MAX_QUEUED_EVENTS: usize = 256;

/// A change of a token, a session or the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A token is newly present: inserted, created, or released by another program.
    Inserted(TokenInfo),
    /// A token is absent: removed, or no longer reported by its module. Its session has ended.
    Removed(TokenInfo),
    /// The PIN of a token was locked.
    PinLocked(TokenInfo),
    /// A login started a session.
    LoggedIn(TokenInfo),
    /// A session ended.
    LoggedOff { token: TokenInfo, reason: LogOffReason },
    /// The keystore is locked with a pass phrase.
    Locked,
    /// The keystore is unlocked.
    Unlocked,
    /// A certificate in use expires within 60 days. Sent once for each certificate and keystore
    /// start.
    Expiring {
        keyset: KeysetName,
        token: TokenInfo,
        /// end of the certificate's validity
        not_after: Timestamp,
    },
    /// The keysets on a token changed.
    Changed(TokenInfo),
    /// The listener was too slow: this many events before the next one were dropped.
    Missed(u64),
}

/// The reason for the end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOffReason {
    /// A client requested it.
    Requested,
    /// The session was unused for too long, or its time limit passed.
    Idle,
    /// The token was removed.
    Removed,
    /// The machine slept.
    Suspend,
    /// The keystore was locked.
    Locked,
    /// The token was reinitialized, its PIN removed, or its session ended by another program.
    Changed,
    /// The module was restarted to find tokens that another program created.
    Rescan,
}

/// The registered listeners. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Events {
    listeners: Arc<Mutex<Vec<Weak<Queue>>>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    missed: u64,
}

/// A listener; it receives the events after its creation and is removed when dropped.
#[derive(Debug)]
pub struct EventReceiver {
    queue: Arc<Queue>,
}

impl Events {
    pub fn listen(&self) -> EventReceiver {
        let queue = Arc::new(Queue::default());
        lock(&self.listeners).push(Arc::downgrade(&queue));
        EventReceiver { queue }
    }

    pub fn publish(&self, event: &Event) {
        tracing::debug!(?event, "keystore");
        lock(&self.listeners).retain(|listener| {
            let Some(queue) = listener.upgrade() else { return false };
            let mut waiting = lock(&queue.waiting);
            if waiting.events.len() >= MAX_QUEUED_EVENTS {
                waiting.events.pop_front();
                waiting.missed += 1;
            }
            waiting.events.push_back(event.clone());
            drop(waiting);
            queue.arrived.notify_all();
            true
        });
    }
}

impl EventReceiver {
    /// The next event; `None` if none arrives within `timeout`.
    pub fn next(&self, timeout: Duration) -> Option<Event> {
        let deadline = Instant::now() + timeout;
        let mut waiting = lock(&self.queue.waiting);
        loop {
            if waiting.missed > 0 {
                return Some(Event::Missed(std::mem::take(&mut waiting.missed)));
            }
            if let Some(event) = waiting.events.pop_front() {
                return Some(event);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            waiting = self.queue.arrived.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn every_listener_receives_the_events_after_its_creation() {
        let events = Events::default();
        events.publish(&Event::Locked);
        let (one, other) = (events.listen(), events.listen());
        events.publish(&Event::Unlocked);
        for listener in [&one, &other] {
            assert_eq!(listener.next(NOW), Some(Event::Unlocked));
            assert_eq!(listener.next(NOW), None);
        }
    }

    #[test]
    fn a_slow_listener_loses_the_oldest_and_receives_their_number() {
        let events = Events::default();
        let slow = events.listen();
        for _ in 0..MAX_QUEUED_EVENTS {
            events.publish(&Event::Locked);
        }
        events.publish(&Event::Unlocked);
        events.publish(&Event::Unlocked);
        assert_eq!(slow.next(NOW), Some(Event::Missed(2)));
        let rest: Vec<_> = std::iter::from_fn(|| slow.next(NOW)).collect();
        assert_eq!(rest.len(), MAX_QUEUED_EVENTS);
        assert_eq!(rest.first(), Some(&Event::Locked));
        assert_eq!(rest.last(), Some(&Event::Unlocked));
    }

    #[test]
    fn a_dropped_listener_is_removed() {
        let events = Events::default();
        drop(events.listen());
        events.publish(&Event::Locked);
        assert!(lock(&events.listeners).is_empty());
    }

    #[test]
    fn an_event_ends_the_wait() {
        let events = Events::default();
        let listener = events.listen();
        let publisher = events.clone();
        let publishing = std::thread::spawn(move || publisher.publish(&Event::Locked));
        assert_eq!(listener.next(Duration::from_secs(20)), Some(Event::Locked));
        publishing.join().unwrap();
    }
}
