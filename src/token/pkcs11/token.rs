//! An open token: log-in, PINs, and what it can do.

use std::sync::Arc;

use crate::token::{KeyWrapMechanism, OaepHash, Pin, PinState, TokenError, TokenInfo, Unlock};

/// An open token, owned by this process as long as a clone of it lives.
#[derive(Clone, Debug)]
pub struct Token {
    inner: Arc<TokenInfo>,
}

impl Token {
    /// What the token said about itself when it was opened.
    pub fn info(&self) -> &TokenInfo {
        &self.inner
    }

    /// Asks the token what it says about its PIN now. Costs no try.
    pub fn refresh_pin_state(&self) -> Result<PinState, TokenError> {
        todo!()
    }

    /// Really verifies the PIN: waits for running operations, logs out, logs in. One call is at most one try, and none
    /// when the PIN is locked, not set, or of a length that the token does not take.
    pub fn log_in(&self, pin: &Pin) -> Result<(), TokenError> {
        todo!()
    }

    /// Logs out; no error when nobody is logged in.
    pub fn log_out(&self) -> Result<(), TokenError> {
        todo!()
    }

    /// Is the user logged in through this process?
    pub fn is_logged_in(&self) -> bool {
        todo!()
    }

    /// Changes the user PIN; one try of the old one.
    pub fn change_pin(&self, old: &Pin, new: &Pin) -> Result<(), TokenError> {
        todo!()
    }

    /// Changes the SO PIN; one try of the old one. Logs the user out.
    pub fn set_so_pin(&self, old: &Pin, new: &Pin) -> Result<(), TokenError> {
        todo!()
    }

    /// Sets a new user PIN as security officer, whatever the old one was; one try of the SO PIN. Logs the user out.
    pub fn init_pin_as_so(&self, so_pin: &Pin, pin: &Pin) -> Result<(), TokenError> {
        todo!()
    }

    /// The user's side: logs in for one act. [`TokenError::Busy`] while another act's [`Unlock`] lives.
    pub fn unlock(&self, pin: Pin) -> Result<Unlock, TokenError> {
        todo!()
    }

    /// The AES key wrap this token does; `None` when it can do neither, and so can take no delivered key.
    pub fn aes_key_wrap_mechanism(&self) -> Option<KeyWrapMechanism> {
        todo!()
    }

    /// The best RSA-OAEP this token does for unwrapping, SHA-256 before SHA-1; `None` when it does none.
    pub fn oaep_hash(&self) -> Option<OaepHash> {
        todo!()
    }
}
