//! The lease of a PIN: an operation that needs a PIN waits for the earlier ones.
//!
//! A lease covers the prompt as well as the try: two programs that ask at the same
//! time show two prompts in order, each for its own use. The session of [`PinLease::open_session`]
//! is used without a lease ([`Token::under_active_session`]).
//!
//! - [`PinLease::unlock`] logs out and in, which verifies the PIN even during an active session.
//!   Afterwards it logs out, or an active session continues.
//! - [`PinLease::unlock`] with a wrong PIN spends one try. The token is then logged out; if a
//!   session was active, it has ended and the error says so.
//! - [`PinLease::open_session`] verifies the PIN in the same way, then wipes it. The session is
//!   active until [`Token::log_out`], removal, or a wrong PIN.
//!
//! The login that verified the new PIN continues an active session (it is the same user), so no PIN
//! is kept to restore it. Between logout and login the token is held exclusively: other operations
//! wait.

use std::time::Duration;

use super::authorization::LoginMode;
use super::pin_queue::QueueHistory;
use super::pin_session::QueueSlot;
use super::{Pin, PinSession, Token, TokenError};

/// Polling interval while a login is being verified.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// The right to use a PIN on a token now. Dropping it passes the right to the next caller.
#[derive(Debug)]
pub struct PinLease {
    slot: QueueSlot,
    history: QueueHistory,
}

impl Token {
    /// Waits for the right to use a PIN on this token. It waits while another [`PinLease`] lives,
    /// or a [`PinSession`] that was made with a PIN. First come, first served; other tokens do not
    /// delay it.
    pub fn acquire_pin_lease(&self) -> PinLease {
        let history = self.pin_queue().enter();
        PinLease { slot: QueueSlot::held_on(self.clone()), history }
    }

    /// Like [`Token::acquire_pin_lease`] without waiting: [`TokenError::Busy`] if another caller
    /// has the right.
    fn try_pin_lease(&self) -> Result<PinLease, TokenError> {
        let busy = || TokenError::Busy { token: self.info().name() };
        let history = self.pin_queue().try_enter().ok_or_else(busy)?;
        Ok(PinLease { slot: QueueSlot::held_on(self.clone()), history })
    }

    /// Logs in for one operation, like [`PinLease::unlock`]. [`TokenError::Busy`] if another caller
    /// uses a PIN.
    pub fn unlock(&self, pin: Pin) -> Result<PinSession, TokenError> {
        self.try_pin_lease()?.unlock(pin)
    }

    /// Like [`Token::has_active_session`], but waits for a running login. During one the token is
    /// logged out, and an active session continues afterwards. Code that ends sessions must use
    /// this function, or it would miss such a session.
    ///
    /// Does not wait for a token that does not respond.
    pub fn has_active_session_settled(&self) -> bool {
        loop {
            match self.has_active_session_unless_busy() {
                Some(has) => return has,
                None if self.is_unresponsive() => return self.has_active_session(),
                None => std::thread::sleep(POLL_INTERVAL),
            }
        }
    }

    /// A [`PinSession`] under the active session; `None` without one. Several may exist at once,
    /// and dropping one does not log out. It holds no PIN, so a key that requires the PIN for each
    /// use is refused. It is invalid once that session has ended, even while another operation has
    /// the token unlocked.
    pub fn under_active_session(&self) -> Option<PinSession> {
        self.active_session().map(|active_session| PinSession::active_session(self.clone(), active_session))
    }
}

#[cfg(test)]
impl Token {
    /// Number of callers waiting for the current one.
    pub(in crate::token) fn waiting(&self) -> usize {
        self.pin_queue().waiting()
    }
}

impl PinLease {
    /// The token of this lease.
    pub fn token(&self) -> &Token {
        self.slot.token()
    }

    /// Logs in for one operation. It really verifies the PIN by logging out and in. It spends one
    /// try, and none if the PIN is locked, not set, or has a length that the token does not accept.
    /// The lease ends with the [`PinSession`]; the token is then logged out, unless a session was
    /// active: that one continues. A wrong PIN ends it ([`TokenError::PinIncorrect`] says so).
    pub fn unlock(self, pin: Pin) -> Result<PinSession, TokenError> {
        self.token().log_in_for(LoginMode::SingleOperation, &pin)?;
        Ok(PinSession::by_pin(self.slot, pin))
    }

    /// Logs in for a session that is active until [`Token::log_out`]. It verifies the PIN as
    /// [`PinLease::unlock`] does, with one try. The PIN is wiped and the lease ends immediately;
    /// waiting callers then find the active session.
    // Taken by value: nobody may have this PIN afterwards.
    #[allow(clippy::needless_pass_by_value)]
    pub fn open_session(self, pin: Pin) -> Result<PinSession, TokenError> {
        match self.token().log_in_for(LoginMode::ActiveSession, &pin) {
            Ok(active_session) => Ok(PinSession::active_session(self.token().clone(), active_session)),
            Err(error) => {
                self.token().pin_queue().note_failure(&error);
                Err(error)
            }
        }
    }

    /// The failure of a session login that occurred while this caller waited. Callers that wait
    /// behind one wrong PIN share its failure and do not each try again.
    pub fn failed_meanwhile(&self) -> Option<TokenError> {
        self.token().pin_queue().failure_since(self.history)
    }

    /// Ends the lease because the person declined to enter a PIN for a session. Waiting callers see
    /// that in [`PinLease::declined_meanwhile`] and need not ask again.
    pub fn decline(self) {
        self.token().pin_queue().note_declined();
    }

    /// Whether a person declined a session login while this caller waited.
    pub fn declined_meanwhile(&self) -> bool {
        self.token().pin_queue().has_declined_since(self.history)
    }
}
