//! Finds tokens that another process created. Some modules (SoftHSM, Kryoptic) see them only after
//! a restart, which ends every session on their tokens.
//!
//! Without an active session such a module is restarted for any listing or search. With one, only
//! if a keyset or token is requested by name and missing, and no operation is running. Modules with
//! readers report insertions and removals themselves; they are restarted only to find a named
//! object that is missing.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Inner, LogOff};
use crate::agent::act::{ActRequest, Choice};
use crate::keyset::{ErrorKind, KeysetChoice, KeysetError, NewToken};

/// Counts a running operation while it lives.
pub(super) struct Acting<'a>(&'a AtomicUsize);

impl<'a> Acting<'a> {
    pub fn begin(acts: &'a AtomicUsize) -> Self {
        acts.fetch_add(1, Ordering::SeqCst);
        Self(acts)
    }
}

impl Drop for Acting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The keyset or token that an operation requires.
pub(super) fn wanted(request: &ActRequest) -> Option<KeysetChoice> {
    let choice = match request {
        ActRequest::ListTokens {} | ActRequest::ListKeysets {} => return Some(KeysetChoice::default()),
        ActRequest::LookAtPins { token } | ActRequest::UnblockPin { token } => {
            Choice { token: token.clone(), ..Choice::default() }.to_choice().ok()?
        }
        ActRequest::ChooseKeyset(keyset)
        | ActRequest::Sign { keyset, .. }
        | ActRequest::Decrypt { keyset, .. }
        | ActRequest::OpenRecipient { keyset, .. }
        | ActRequest::Administer { keyset, .. }
        | ActRequest::OpenResponse { keyset, .. }
        | ActRequest::ChangePin { keyset }
        | ActRequest::DeleteKeyset { keyset } => keyset.to_choice().ok()?,
        ActRequest::Enroll(enroll) => {
            let options = enroll.options().ok()?;
            let makes_a_token = options.new_token.as_ref().is_some_and(|_: &NewToken| true);
            // A new token has no objects yet; an unfinished one has the keyset's name as its label.
            let name = (options.token.is_none() && !makes_a_token).then(|| options.keyset.clone());
            KeysetChoice { name, token: options.token, ..KeysetChoice::default() }
        }
    };
    Some(choice)
}

impl Inner {
    /// Reads the tokens; without an active session also those that other processes created.
    pub fn see_new_tokens(&self) {
        self.look_again(false);
    }

    /// Reads the tokens unless the last reading is fresh.
    pub fn see_new_tokens_now_and_then(&self) {
        if !self.catalogue.is_fresh(self.clock.elapsed()) {
            self.see_new_tokens();
        }
    }

    /// Searches for tokens that other processes created, unless a session or operation is active.
    pub fn look_again(&self, with_readers: bool) {
        for annex in &self.annexes {
            annex.look(Some(with_readers));
        }
        self.tell_annexes_whether_locked();
        if !self.is_in_use()
            && let Err(error) = self.tokens.rescan(with_readers)
        {
            self.warn_once(&error.to_string());
        }
        self.refresh_or_say();
    }

    /// Every poll fails the same way until somebody fixes the cause: warn once.
    fn warn_once(&self, error: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != error {
            tracing::warn!(error, "cannot restart a module");
            error.clone_into(&mut said);
        }
    }

    /// If the wanted keyset or token is missing, searches the tokens that other processes created.
    pub fn make_sure_of(&self, choice: &KeysetChoice) {
        let named = choice.name.is_some() || choice.token.is_some();
        if !named {
            // A listing or a message's recipients may mean any keyset.
            return self.see_new_tokens_now_and_then();
        }
        if !self.is_missing(choice) {
            return;
        }
        self.look_again(true);
        let acting = self.acts.load(Ordering::SeqCst) + self.acts_elsewhere.load(Ordering::SeqCst) > 0;
        // The missing object may be in a module worker that is restarting: do not end other
        // sessions for it.
        if !self.is_missing(choice) || acting || !self.annexes.iter().all(|annex| annex.is_there()) {
            return;
        }
        if !self.tokens.standing().is_empty() || self.stands_in_an_annex() {
            tracing::info!("restarting the modules to look for a missing keyset; sessions end");
            self.end_all_log_ins(LogOff::Rescan);
            self.look_again(true);
        }
    }

    fn is_missing(&self, choice: &KeysetChoice) -> bool {
        let missing = |error: KeysetError| error.kind() == ErrorKind::Absent;
        match (&choice.name, &choice.token) {
            (None, Some(token)) => self.tokens.token(token).is_err_and(missing),
            _ => self.tokens.choose(choice).is_err_and(missing),
        }
    }

    /// Called after an operation that may have changed any keyset.
    pub fn forget_keysets(&self) {
        self.tokens.forget_all_keysets();
    }

    pub fn refresh_or_say(&self) {
        if let Err(error) = self.refresh() {
            tracing::debug!(%error, "cannot read the tokens");
        }
    }
}
