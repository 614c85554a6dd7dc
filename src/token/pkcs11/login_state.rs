//! What this process knows of its login to a token.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The login and the active session. They change only under the token's exclusive lock, except that
/// a removal ends both.
#[derive(Debug, Default)]
pub(in crate::token) struct LoginState {
    logged_in: AtomicBool,
    // The number of the active session; 0 without one.
    active_session: AtomicU64,
    // The SO has set a new PIN that was not tried yet. Kryoptic still reports the old one as
    // locked.
    pin_is_new: AtomicBool,
}

impl LoginState {
    /// Whether this process has logged in the user.
    pub(in crate::token) fn is_logged_in(&self) -> bool {
        self.logged_in.load(Ordering::SeqCst)
    }

    pub(super) fn note_logged_in(&self) {
        self.logged_in.store(true, Ordering::SeqCst);
    }

    /// Records a logout, which ends an active session.
    pub(super) fn note_logged_out(&self) {
        self.set_active_session(None);
        self.logged_in.store(false, Ordering::SeqCst);
    }

    /// The number of the active session.
    pub(in crate::token) fn active_session(&self) -> Option<u64> {
        Some(self.active_session.load(Ordering::SeqCst)).filter(|number| *number != 0)
    }

    pub(super) fn set_active_session(&self, active_session: Option<u64>) {
        self.active_session.store(active_session.unwrap_or(0), Ordering::SeqCst);
    }

    /// Whether the SO has set a new PIN that was not tried yet.
    pub(super) fn is_pin_new(&self) -> bool {
        self.pin_is_new.load(Ordering::SeqCst)
    }

    /// Records that the SO has set a new PIN, or that it was tried.
    pub(super) fn note_new_pin(&self, new: bool) {
        self.pin_is_new.store(new, Ordering::SeqCst);
    }
}
