//! What is known of a module without calling it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use cryptoki::slot::Slot;

use crate::token::TokenInfo;

/// A module's state as known without calling it.
#[derive(Debug, Default)]
pub(super) struct ModuleState {
    pub(super) snapshot: Mutex<Option<SlotSnapshot>>,
    readers: AtomicBool,
    pub(super) taken: AtomicBool,
    pub(super) keeps_pin_state: OnceLock<bool>,
    pub(super) pending_calls: Mutex<Vec<PendingCall>>,
    pub(super) next: AtomicU64,
}

/// The content of the slots when they were last read.
#[derive(Debug)]
pub(super) struct SlotSnapshot {
    pub(super) slots: Vec<Slot>,
    pub(super) tokens: Vec<TokenInfo>,
}

/// A call that has not returned yet.
#[derive(Debug)]
pub(super) struct PendingCall {
    pub(super) number: u64,
    pub(super) since: Instant,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ModuleState {
    /// Readers that were seen once remain; a module without readers may get some later.
    pub(super) fn has_readers(&self) -> bool {
        self.readers.load(Ordering::Relaxed)
    }

    pub(super) fn note_readers(&self, has: bool) {
        self.readers.store(has, Ordering::Relaxed);
    }

    /// Records whether a card is present that cannot be accessed.
    pub(super) fn note_blocked_card(&self, taken: bool) {
        self.taken.store(taken, Ordering::Relaxed);
    }

    /// Records the content of the slots. `None` if a slot could not be read: the slots are then
    /// read again.
    pub(super) fn note_seen(&self, slots: Option<Vec<Slot>>, tokens: &[TokenInfo]) {
        *lock(&self.snapshot) = slots.map(|slots| SlotSnapshot { slots, tokens: tokens.to_vec() });
    }
}
