//! Serializes the messages of one letter: two copies of a request, or a confirmation and the sweep,
//! never run concurrently.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};

/// The references in use.
#[derive(Debug, Default)]
pub(super) struct ReferenceLocks {
    busy: Mutex<HashSet<String>>,
    free: Condvar,
}

/// A lock on one reference, released on drop.
#[derive(Debug)]
pub(super) struct ReferenceLock<'a> {
    reference_locks: &'a ReferenceLocks,
    reference: String,
}

impl ReferenceLocks {
    /// Waits until no other thread holds this reference, and locks it.
    pub(super) fn take(&self, reference: &str) -> ReferenceLock<'_> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        while busy.contains(reference) {
            busy = self.free.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        busy.insert(reference.to_owned());
        ReferenceLock { reference_locks: self, reference: reference.to_owned() }
    }
}

impl Drop for ReferenceLock<'_> {
    fn drop(&mut self) {
        self.reference_locks.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.reference);
        self.reference_locks.free.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_same_reference_waits_and_another_does_not() {
        let reference_locks = ReferenceLocks::default();
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let _other = reference_locks.take("E2");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _turn = reference_locks.take("E1");
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 1);
    }
}
