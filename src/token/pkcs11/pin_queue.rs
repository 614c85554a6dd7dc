//! The queue for PINs: an operation that needs a PIN waits for the earlier ones, first come, first
//! served.
//!
//! A lease of the queue covers the prompt as well as the try: two programs that ask at the same
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

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::log_in::LoginMode;
use crate::token::{Pin, PinSession, Token, TokenError};

/// Polling interval while a login is being verified.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// The right to use a PIN on a token now. Dropping it passes the right to the next caller.
#[derive(Debug)]
pub struct PinLease {
    slot: QueueSlot,
    failures_seen: u64,
    declined_seen: u64,
}

/// The head position in a token's queue. Dropping it releases the position.
#[derive(Debug)]
pub(in crate::token) struct QueueSlot {
    token: Token,
}

/// A token's queue for the use of PINs.
#[derive(Debug, Default)]
pub(super) struct PinQueue {
    queue: Mutex<QueueState>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    // Tickets: the next one to issue, and the one being served.
    next: u64,
    serving: u64,
    // Number of failed session logins, and the last failure.
    failures: u64,
    last_failure: Option<TokenError>,
    declined: u64,
}

impl PinQueue {
    fn queue(&self) -> MutexGuard<'_, QueueState> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Token {
    /// Waits for the right to use a PIN on this token. It waits while another [`PinLease`] lives,
    /// or a [`PinSession`] that was made with a PIN. First come, first served; other tokens do not
    /// delay it.
    pub fn acquire_pin_lease(&self) -> PinLease {
        let pin_queue = self.pin_queue();
        let mut queue = pin_queue.queue();
        let ticket = queue.next;
        queue.next += 1;
        let (failures_seen, declined_seen) = (queue.failures, queue.declined);
        while queue.serving != ticket {
            queue = pin_queue.moved.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        PinLease { slot: QueueSlot { token: self.clone() }, failures_seen, declined_seen }
    }

    /// Like [`Token::acquire_pin_lease`] without waiting: [`TokenError::Busy`] if another caller
    /// has the right.
    fn try_pin_lease(&self) -> Result<PinLease, TokenError> {
        let mut queue = self.pin_queue().queue();
        if queue.next != queue.serving {
            return Err(TokenError::Busy { token: self.info().name() });
        }
        queue.next += 1;
        let (failures_seen, declined_seen) = (queue.failures, queue.declined);
        Ok(PinLease { slot: QueueSlot { token: self.clone() }, failures_seen, declined_seen })
    }

    /// Logs in for one operation, like [`PinLease::unlock`]. [`TokenError::Busy`] if another caller
    /// uses a PIN.
    pub fn unlock(&self, pin: Pin) -> Result<PinSession, TokenError> {
        self.try_pin_lease()?.unlock(pin)
    }

    /// Whether a session is active, so that [`Token::under_active_session`] succeeds.
    pub fn has_active_session(&self) -> bool {
        self.active_session().is_some()
    }

    /// Like [`Token::has_active_session`], but waits for a running login. During one the token is
    /// logged out, and an active session continues afterwards. Code that ends sessions must use
    /// this function, or it would miss such a session.
    ///
    /// Does not wait for a module that does not respond.
    pub fn has_active_session_settled(&self) -> bool {
        loop {
            match self.try_shared() {
                Some(_shared) => return self.has_active_session(),
                None if self.module().unresponsive_for().is_some() => return self.has_active_session(),
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
        let queue = self.pin_queue().queue();
        usize::try_from((queue.next - queue.serving).saturating_sub(1)).unwrap()
    }
}

impl PinLease {
    /// The token of this lease.
    pub fn token(&self) -> &Token {
        &self.slot.token
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
                let mut queue = self.token().pin_queue().queue();
                queue.failures += 1;
                queue.last_failure = Some(error.clone());
                Err(error)
            }
        }
    }

    /// The failure of a session login that occurred while this caller waited. Callers that wait
    /// behind one wrong PIN share its failure and do not each try again.
    pub fn failed_meanwhile(&self) -> Option<TokenError> {
        let queue = self.token().pin_queue().queue();
        queue.last_failure.clone().filter(|_| queue.failures > self.failures_seen)
    }

    /// Ends the lease because the person declined to enter a PIN for a session. Waiting callers see
    /// that in [`PinLease::declined_meanwhile`] and need not ask again.
    pub fn decline(self) {
        self.token().pin_queue().queue().declined += 1;
    }

    /// Whether a person declined a session login while this caller waited.
    pub fn declined_meanwhile(&self) -> bool {
        self.token().pin_queue().queue().declined > self.declined_seen
    }
}

impl QueueSlot {
    pub(in crate::token) fn token(&self) -> &Token {
        &self.token
    }
}

impl Drop for QueueSlot {
    fn drop(&mut self) {
        let pin_queue = self.token.pin_queue();
        pin_queue.queue().serving += 1;
        pin_queue.moved.notify_all();
    }
}
