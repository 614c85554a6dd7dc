//! Detects whether an open token is still present and still the one that was opened.
//!
//! A removed token stays gone for this process, even if it is inserted again: its sessions and its
//! login ended with the removal. [`crate::token::TokenSource::open`] then opens it again. The same
//! holds for a token that was reinitialized by another program, which shows in another [`TokenId`]
//! in its slot, or in a user PIN that is no longer set.
//!
//! [`TokenId`]: crate::token::TokenId

use cryptoki::error::Error;

use super::token::Pkcs11Token;
use crate::token::{PinState, TokenError};

/// Whether a token is still there.
pub(in crate::token) struct Presence<'a> {
    token: &'a Pkcs11Token,
}

impl<'a> Presence<'a> {
    pub(in crate::token) fn of(token: &'a Pkcs11Token) -> Self {
        Self { token }
    }

    /// Checks that the token is still present and still the one that was opened. It spends no PIN
    /// try. [`TokenError::Absent`] means that it is gone permanently; any other error leaves it
    /// open.
    pub(in crate::token) fn check(&self) -> Result<(), TokenError> {
        let operation = "reach the token";
        let looked = {
            let _shared = self.token.shared();
            self.look()
        };
        if self.token.is_closed() {
            return Err(TokenError::Absent { operation, token: self.token.info().name() });
        }
        looked.map_err(|error| self.token.explain(operation, &error))
    }

    /// Whether the token is still present, as far as [`Presence::check`] can tell.
    pub(in crate::token) fn is_present(&self) -> bool {
        !matches!(self.check(), Err(TokenError::Absent { .. }))
    }

    fn look(&self) -> Result<(), Error> {
        if self.token.is_gone() {
            return Ok(());
        }
        let info =
            self.token.module().read_token_info(self.token.slot()).inspect_err(|error| self.token.note(error))?;
        let had_pin = self.token.info().pin_state != PinState::NotSet;
        let is_the_same = info.token_initialized()
            && self.token.module().token_info(self.token.slot(), &info).id() == self.token.info().id();
        if !is_the_same || (had_pin && !info.user_pin_initialized()) {
            self.token.note_gone();
            return Ok(());
        }
        self.token.look_at_sessions();
        Ok(())
    }
}

#[cfg(test)]
impl crate::token::Token {
    /// Simulates a return value of the module.
    pub(in crate::token) fn simulate_error(&self, code: cryptoki::error::RvError) -> TokenError {
        self.pkcs11().explain("test", &Error::Pkcs11(code, cryptoki::context::Function::Sign))
    }

    /// Logs out as another program would.
    pub(in crate::token) fn log_out_unnoticed(&self) {
        self.pkcs11().sessions().in_login_session(cryptoki::session::Session::logout).unwrap();
    }
}
