//! Detects whether an open token is still present and still the one that was opened.
//!
//! A removed token stays gone for this process, even if it is inserted again: its sessions and its
//! login ended with the removal. [`crate::token::Module::open`] then opens it again. The same holds
//! for a token that was reinitialized by another program, which shows in another [`TokenId`] in its
//! slot, or in a user PIN that is no longer set.
//!
//! [`TokenId`]: crate::token::TokenId

use std::sync::atomic::{AtomicBool, Ordering};

use cryptoki::error::Error;
use cryptoki::session::SessionState;

use super::return_values;
use crate::token::owner_lock::is_used_by_authority;
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
    /// Whether an authority owns this token now, in another process or in this one. It neither
    /// waits nor opens the token.
    pub fn is_used_by_authority(&self, token: &TokenInfo) -> bool {
        is_used_by_authority(self.path(), &token.name())
    }
}

impl Token {
    /// Checks that the token is still present and still the one that was opened. It spends no PIN
    /// try. [`TokenError::Absent`] means that it is gone permanently; any other error leaves it
    /// open.
    pub fn check(&self) -> Result<(), TokenError> {
        let operation = "reach the token";
        let looked = {
            let _shared = self.shared();
            self.look()
        };
        if self.is_closed() {
            return Err(TokenError::Absent { operation, token: self.info().name() });
        }
        looked.map_err(|error| self.explain(operation, &error))
    }

    /// Whether the token is still present, as far as [`Token::check`] can tell.
    pub fn is_present(&self) -> bool {
        !matches!(self.check(), Err(TokenError::Absent { .. }))
    }

    /// Whether the token was found to be gone.
    pub(super) fn is_gone(&self) -> bool {
        self.presence().is_gone()
    }

    /// Like `is_gone`, and closes the sessions of a gone token: the module may reuse their handles
    /// for others.
    pub(super) fn is_closed(&self) -> bool {
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
        let info = self.module().read_token_info(self.slot()).inspect_err(|error| self.note(error))?;
        let had_pin = self.info().pin_state != PinState::NotSet;
        let is_the_same =
            info.token_initialized() && self.module().token_info(self.slot(), &info).id() == self.info().id();
        if !is_the_same || (had_pin && !info.user_pin_initialized()) {
            self.note_gone();
            return Ok(());
        }
        self.look_at_sessions();
        Ok(())
    }

    /// Records what a module's return value says about the token's presence and login. A single
    /// session may end; the login session decides for the token.
    pub(super) fn note(&self, error: &Error) {
        if return_values::is_removed(error) {
            self.note_gone();
        } else if return_values::is_session_gone(error) || return_values::is_not_logged_in(error) {
            self.look_at_sessions();
        }
    }

    /// Queries the login session, unless it is in use: its user notices a change first.
    fn look_at_sessions(&self) {
        match self.sessions().in_free_login_session(cryptoki::session::Session::get_session_info) {
            Some(Err(error)) if return_values::is_removed(&error) || return_values::is_session_gone(&error) => {
                self.note_gone();
            }
            // The login may end without a removal: after a card reset, or a logout by another
            // program.
            Some(Ok(info)) if self.is_logged_in() && !is_users(info.session_state()) => {
                tracing::info!(token = %self.info().name(), "the token logged out on its own");
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
    /// Simulates a return value of the module.
    pub(in crate::token) fn simulate_error(&self, code: cryptoki::error::RvError) -> TokenError {
        self.explain("test", &Error::Pkcs11(code, cryptoki::context::Function::Sign))
    }

    /// Logs out as another program would.
    pub(in crate::token) fn log_out_unnoticed(&self) {
        self.sessions().in_login_session(cryptoki::session::Session::logout).unwrap();
    }
}
