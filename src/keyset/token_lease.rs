//! The exclusive right to a token's PIN, and the limit of wrong ones.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use crate::token::{Pin, PinLease, PinSession, Token, TokenError};

use super::token_cache::TokenCache;
use super::{KeysetError, Tokens};

/// Number of consecutive wrong PINs from which the next prompt is delayed.
const DELAY_AFTER: u32 = 3;
/// Number of consecutive wrong PINs from which no further one is accepted.
const REFUSED_AFTER: u32 = 10;
/// The longest delay before a prompt.
const MAX_DELAY: Duration = Duration::from_secs(30);
/// The delay after [`DELAY_AFTER`] wrong PINs; it doubles with each further one.
#[cfg(not(test))]
const FIRST_DELAY: Duration = Duration::from_secs(1);
#[cfg(test)]
const FIRST_DELAY: Duration = Duration::from_millis(1);

/// The exclusive right to ask for a token's PIN and to try it. In the agent, concurrent operations
/// wait for it.
pub(super) struct TokenLease {
    token: Token,
    lease: Option<PinLease>,
    token_cache: Option<Arc<TokenCache>>,
    // The user was warned that one try is left, and accepted the risk.
    last_try_allowed: Cell<bool>,
}

impl Tokens {
    /// Waits until no other operation uses a PIN of this token.
    pub(super) fn acquire_lease(&self, token: &Token) -> TokenLease {
        let lease = self.token_cache.is_some().then(|| token.acquire_pin_lease());
        let last_try_allowed = Cell::new(false);
        TokenLease { token: token.clone(), lease, token_cache: self.token_cache.clone(), last_try_allowed }
    }
}

impl TokenLease {
    /// The token whose PIN may be tried.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Enforces the limit of wrong PINs before the prompt.
    pub fn throttle_wrong_pins(&self, operation: &'static str) -> Result<(), KeysetError> {
        if self.token_cache.is_none() {
            return Ok(());
        }
        throttle_wrong_pins(&self.token, operation)
    }

    /// Records that the user accepted to risk the token's last try.
    pub fn allow_last_try(&self) {
        self.last_try_allowed.set(true);
    }

    fn with_last_try(&self, pin: Pin) -> Pin {
        if self.last_try_allowed.get() { pin.allow_last_try() } else { pin }
    }

    /// The error of the preceding operation's failed login, if this operation waited for it: it
    /// shares the result at no further try.
    pub fn failed_meanwhile(&self) -> Option<TokenError> {
        self.lease.as_ref().and_then(PinLease::failed_meanwhile)
    }

    /// Returns whether the user declined the preceding operation's login while this one waited; the
    /// user is not asked again.
    pub fn declined_meanwhile(&self) -> bool {
        self.lease.as_ref().is_some_and(PinLease::declined_meanwhile)
    }

    /// Ends the lease because the user declined.
    pub fn decline(self) {
        if let Some(lease) = self.lease {
            lease.decline();
        }
    }

    /// Logs in for one operation, with one try.
    pub fn unlock(self, pin: Pin) -> Result<PinSession, TokenError> {
        let pin = self.with_last_try(pin);
        match self.lease {
            Some(lease) => lease.unlock(pin),
            None => self.token.unlock(pin),
        }
    }

    /// Logs in with one try; the session stays active after the operation.
    pub fn open_session(self, pin: Pin) -> Result<PinSession, TokenError> {
        let pin = self.with_last_try(pin);
        let Some(lease) = self.lease else { return self.token.unlock(pin) };
        let result = lease.open_session(pin);
        if let (Ok(_), Some(token_cache)) = (&result, &self.token_cache) {
            token_cache.keep(self.token.info(), &self.token);
        }
        result
    }

    /// Verifies the PIN with one try and logs out again; the lease continues. Returns the correct
    /// PIN.
    pub fn verify(&self, pin: Pin) -> Result<Pin, TokenError> {
        let pin = self.with_last_try(pin);
        self.token.verify_pin(&pin)?;
        Ok(pin)
    }

    /// Changes the PIN; costs one try of the old one.
    pub fn change_pin(self, old: Pin, new: &Pin) -> Result<(), TokenError> {
        let old = self.with_last_try(old);
        self.token.change_pin(&old, new)
    }
}

/// Limits guessing independently of the token, because some tokens (such as SoftHSM) accept any
/// number of wrong PINs. Costs no try.
fn throttle_wrong_pins(token: &Token, operation: &'static str) -> Result<(), KeysetError> {
    let wrong = token.wrong_pins_in_a_row();
    if wrong >= REFUSED_AFTER {
        return Err(KeysetError::TooManyWrongPins { operation, token: token.info().name(), wrong });
    }
    if let Some(more) = wrong.checked_sub(DELAY_AFTER) {
        std::thread::sleep(FIRST_DELAY.saturating_mul(1 << more.min(8)).min(MAX_DELAY));
    }
    Ok(())
}
