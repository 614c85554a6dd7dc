//! Tokens that another process made: some modules (SoftHSM, Kryoptic) see them only when they are started anew, and that
//! ends every log-in to their tokens.
//!
//! So such a module is started anew when somebody lists or looks for something and nobody is logged in; and where somebody
//! is, only when a keyset or token is asked for by name that is not there, and no act is going on. Modules with readers see by
//! themselves what comes and goes; they are started anew only for something that was named and is not there.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Inner, LogOff};
use crate::agent::act::{ActRequest, Choice};
use crate::keyset::{ErrorKind, KeysetChoice, KeysetError, NewToken};

/// An act that is going on; counted as long as it lives.
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

/// What an act needs to be there: a keyset, or a token.
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
            // Of a token that is to be made nothing is there yet; of one that was begun the label is the keyset's name.
            let name = (options.token.is_none() && !makes_a_token).then(|| options.keyset.clone());
            KeysetChoice { name, token: options.token, ..KeysetChoice::default() }
        }
    };
    Some(choice)
}

impl Inner {
    /// Reads what is there, tokens of other processes among it where nobody is logged in.
    pub fn see_new_tokens(&self) {
        self.look_again(false);
    }

    /// The same, unless it was done a moment ago.
    pub fn see_new_tokens_now_and_then(&self) {
        if !self.catalogue.is_fresh(self.clock.elapsed()) {
            self.see_new_tokens();
        }
    }

    /// Looks for tokens that other processes made, unless somebody is logged in or an act is going on.
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

    /// The same is wrong at each look, until somebody mends it.
    fn warn_once(&self, error: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != error {
            tracing::warn!(error, "a module is not started anew");
            error.clone_into(&mut said);
        }
    }

    /// If what is wanted is not there, looks for it among the tokens that other processes made.
    pub fn make_sure_of(&self, choice: &KeysetChoice) {
        let named = choice.name.is_some() || choice.token.is_some();
        if !named {
            // A list, or a message's recipients, may mean any.
            return self.see_new_tokens_now_and_then();
        }
        if !self.is_missing(choice) {
            return;
        }
        self.look_again(true);
        let acting = self.acts.load(Ordering::SeqCst) + self.acts_elsewhere.load(Ordering::SeqCst) > 0;
        // What is missing may be in an annex that is being started anew: no log-in of others ends for that.
        if !self.is_missing(choice) || acting || !self.annexes.iter().all(|annex| annex.is_there()) {
            return;
        }
        if !self.tokens.standing().is_empty() || self.stands_in_an_annex() {
            tracing::info!("the modules are started anew to look for a keyset that is not there; log-ins end");
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

    /// After an act that may have changed any keyset.
    pub fn forget_keysets(&self) {
        self.tokens.forget_all_keysets();
    }

    pub fn refresh_or_say(&self) {
        if let Err(error) = self.refresh() {
            tracing::debug!(%error, "cannot read the tokens");
        }
    }
}
