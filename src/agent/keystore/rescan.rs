//! Finds tokens that another process created. Some sources (SoftHSM, Kryoptic) see them only after
//! a restart, which ends every session on their tokens.
//!
//! Without an active session such a source is restarted for any listing or search. With one, only
//! if a keyset or token is requested by name and missing, and no operation is running. Sources with
//! readers report insertions and removals themselves; they are restarted only to find a named
//! object that is missing.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Keystore, LogOffReason};
use crate::keyset::{ErrorKind, KeysetChoice, KeysetError, KeysetRef, TokenSearch};

/// Counts a running operation while it lives.
pub(super) struct OperationGuard<'a>(&'a AtomicUsize);

impl<'a> OperationGuard<'a> {
    pub fn begin(operations: &'a AtomicUsize) -> Self {
        operations.fetch_add(1, Ordering::SeqCst);
        Self(operations)
    }
}

impl Drop for OperationGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl TokenSearch for Keystore {
    /// If the wanted keyset or token is missing, searches the tokens that other processes created.
    fn ensure_present(&self, choice: &KeysetChoice) {
        let named = choice.name.is_some() || choice.token.is_some();
        if !named {
            // A listing or a message's recipients may mean any keyset.
            return self.scan_tokens_if_stale();
        }
        if !self.is_missing(choice) {
            return;
        }
        self.rescan_sources(true);
        // It may be in a lost source, which no search finds: do not end sessions for it.
        let is_lost = self.tokens.unusable_sources().require_none_lost().is_err();
        if is_lost || !self.is_missing(choice) || self.operations.load(Ordering::SeqCst) > 0 {
            return;
        }
        if !self.tokens.active_sessions().is_empty() {
            tracing::info!("restarting the modules to look for a missing keyset; sessions end");
            self.sessions.end_all(LogOffReason::Rescan);
            self.rescan_sources(true);
        }
    }

    fn hidden_keysets(&self) -> Vec<KeysetRef> {
        self.hidden.list().to_vec()
    }
}

impl Keystore {
    /// Reads the tokens unless the last reading is fresh.
    pub(super) fn scan_tokens_if_stale(&self) {
        if !self.key_cache.is_fresh() {
            self.rescan_sources(false);
        }
    }

    /// Searches for tokens that other processes created, unless a session or operation is active.
    pub(super) fn rescan_sources(&self, with_readers: bool) {
        if !self.is_in_use()
            && let Err(error) = self.tokens.rescan(with_readers)
        {
            self.warn_once(&error.to_string());
        }
        self.key_cache.refresh();
    }

    /// Every poll fails the same way until somebody fixes the cause: warn once.
    fn warn_once(&self, error: &str) {
        let mut last_warning = self.last_warning.lock().unwrap_or_else(PoisonError::into_inner);
        if *last_warning != error {
            tracing::warn!(error, "cannot restart a module");
            error.clone_into(&mut last_warning);
        }
    }

    fn is_missing(&self, choice: &KeysetChoice) -> bool {
        let missing = |error: KeysetError| error.kind() == ErrorKind::Absent;
        match (&choice.name, &choice.token) {
            (None, Some(token)) => self.tokens.token(token).is_err_and(missing),
            _ => self.tokens.choose(choice).is_err_and(missing),
        }
    }

    /// Returns true if an operation or session is active.
    fn is_in_use(&self) -> bool {
        self.operations.load(Ordering::SeqCst) > 0 || !self.tokens.active_sessions().is_empty()
    }

    /// Returns true if a session is active, or an operation, a login or a signature is running.
    pub(super) fn is_busy(&self) -> bool {
        self.is_in_use() || self.uses.load(Ordering::SeqCst) > 0
    }
}
