//! Tokens come and go: whether an open token is still the one that was opened.
//!
//! A token that was pulled out is gone for good, also when it is put back: its sessions and its log-in went with it.
//! [`crate::token::Module::open`] then opens it anew. The same holds for one that was made anew behind our back, which
//! shows by another serial number in its slot, or by its PIN not being set any more.

use std::sync::atomic::{AtomicBool, Ordering};

use cryptoki::error::Error;
use cryptoki::session::SessionState;

use super::answers;
use crate::token::owner_lock::is_in_use_by_an_authority;
use crate::token::{Module, PinState, Token, TokenError, TokenInfo};

/// Whether a token is gone.
#[derive(Debug, Default)]
pub(super) struct Presence {
    gone: AtomicBool,
}

impl Presence {
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }
}

impl Module {
    /// Has an authority this token now, another process or this one? It is neither waited for nor opened.
    pub fn is_in_use_by_an_authority(&self, token: &TokenInfo) -> bool {
        is_in_use_by_an_authority(self.path(), &token.name())
    }
}

impl Token {
    /// Is the token still there, and still the one that was opened? Costs no try of a PIN. [`TokenError::Absent`] when it
    /// is not, for good; any other error leaves it open.
    pub fn check(&self) -> Result<(), TokenError> {
        let operation = "reach the token";
        let looked = {
            let _shared = self.shared();
            self.look()
        };
        if self.is_buried() {
            return Err(TokenError::Absent { operation, token: self.info().name() });
        }
        looked.map_err(|error| self.explain(operation, &error))
    }

    /// Is it still there, as far as can be told? See [`Token::check`].
    pub fn is_present(&self) -> bool {
        !matches!(self.check(), Err(TokenError::Absent { .. }))
    }

    /// Has it been found to be gone?
    pub(super) fn is_gone(&self) -> bool {
        self.presence().is_gone()
    }

    /// The same; then its sessions are closed, because what they are called, the module may call others' next.
    pub(super) fn is_buried(&self) -> bool {
        if self.is_gone() {
            let _alone = self.exclusive();
            self.drop_copies();
            self.sessions().end();
        }
        self.is_gone()
    }

    fn look(&self) -> Result<(), Error> {
        if self.is_gone() {
            return Ok(());
        }
        let info = self.module().look_into(self.slot()).inspect_err(|error| self.note(error))?;
        let had_pin = self.info().pin_state != PinState::NotSet;
        let is_the_same = info.token_initialized() && info.serial_number().trim_end() == self.info().serial;
        if !is_the_same || (had_pin && !info.user_pin_initialized()) {
            self.note_gone();
            return Ok(());
        }
        self.look_at_sessions();
        Ok(())
    }

    /// Notes what an answer of the module says about the token's presence and its log-in. A session may end alone; what
    /// the anchor says counts for the token.
    pub(super) fn note(&self, error: &Error) {
        if answers::is_removed(error) {
            self.note_gone();
        } else if answers::is_session_gone(error) || answers::is_not_logged_in(error) {
            self.look_at_sessions();
        }
    }

    /// Asks the anchor, unless it is in use: whoever uses it learns it first.
    fn look_at_sessions(&self) {
        match self.sessions().at_free_anchor(cryptoki::session::Session::get_session_info) {
            Some(Err(error)) if answers::is_removed(&error) || answers::is_session_gone(&error) => self.note_gone(),
            // The log-in may end without the token: a card that was reset, another program that logged it out.
            Some(Ok(info)) if self.is_logged_in() && !is_users(info.session_state()) => {
                tracing::info!(token = %self.info().name(), "the token has logged out by itself");
                self.note_logged_out();
            }
            _ => {}
        }
    }

    fn note_gone(&self) {
        if !self.presence().gone.swap(true, Ordering::SeqCst) {
            tracing::info!(token = %self.info().name(), "the token is gone");
            self.note_logged_out();
        }
    }
}

fn is_users(state: SessionState) -> bool {
    matches!(state, SessionState::RoUser | SessionState::RwUser)
}

#[cfg(test)]
impl Token {
    /// What a module's answer says happens in a test.
    pub(in crate::token) fn hears(&self, code: cryptoki::error::RvError) -> TokenError {
        self.explain("test", &Error::Pkcs11(code, cryptoki::context::Function::Sign))
    }

    /// Logs out as something that is not this process' code would.
    pub(in crate::token) fn log_out_behind_its_back(&self) {
        self.sessions().at_anchor(cryptoki::session::Session::logout).unwrap();
    }
}
