//! Turns: whoever needs a PIN waits until the acts with a PIN that came before are over, first come, first served.
//!
//! A turn covers the question as well as the try: two programs that ask at once make two prompts in order, each for its
//! own use. What stands after [`Turn::log_in_standing`] is used without a turn ([`Token::under_standing_log_in`]).
//!
//! | log-in | what it does | afterwards |
//! |---|---|---|
//! | [`Turn::unlock`] | logs out, logs in: the PIN is verified also where a log-in stands | logged out; a log-in that stood stands on |
//! | the same, PIN wrong | one try | nobody is logged in; a log-in that stood is over, and the error says so |
//! | [`Turn::log_in_standing`] | the same verification; the PIN is wiped at once | the log-in stands until [`Token::log_out`], removal, or a wrong PIN |
//!
//! A log-in that stood is carried on by the log-in that verified the new PIN (it is the same user's), so no PIN is kept
//! to restore it. For the moment between the log-out and the log-in the token is held alone: other operations wait.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::log_in::Purpose;
use crate::token::{Pin, Token, TokenError, Unlock};

/// How often it is looked whether a log-in has been verified.
const GLANCE: Duration = Duration::from_millis(2);

/// The right to use a PIN on a token now. Dropping it lets the next one in.
#[derive(Debug)]
pub struct Turn {
    place: Place,
    failures_seen: u64,
    declined_seen: u64,
}

/// A place at the head of a token's queue, given up when dropped.
#[derive(Debug)]
pub(in crate::token) struct Place {
    token: Token,
}

/// A token's queue of those who want to use a PIN.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queue: Mutex<Queue>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    // Tickets: the next to be given out, and the one whose turn it is.
    next: u64,
    serving: u64,
    // How many standing log-ins have failed, and how the last one did.
    failures: u64,
    last_failure: Option<TokenError>,
    declined: u64,
}

impl Turns {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Token {
    /// Waits until it is this caller's turn to use a PIN on this token: while another [`Turn`], or an [`Unlock`] that
    /// was made with a PIN, lives. First come, first served; other tokens are not waited for.
    pub fn wait_for_turn(&self) -> Turn {
        let turns = self.turns();
        let mut queue = turns.queue();
        let ticket = queue.next;
        queue.next += 1;
        let (failures_seen, declined_seen) = (queue.failures, queue.declined);
        while queue.serving != ticket {
            queue = turns.moved.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { place: Place { token: self.clone() }, failures_seen, declined_seen }
    }

    /// The same without waiting: [`TokenError::Busy`] when it is another's turn.
    fn turn_at_once(&self) -> Result<Turn, TokenError> {
        let mut queue = self.turns().queue();
        if queue.next != queue.serving {
            return Err(TokenError::Busy { token: self.info().name() });
        }
        queue.next += 1;
        let (failures_seen, declined_seen) = (queue.failures, queue.declined);
        Ok(Turn { place: Place { token: self.clone() }, failures_seen, declined_seen })
    }

    /// Logs in for one act, as [`Turn::unlock`] does. [`TokenError::Busy`] when it is another's turn.
    pub fn unlock(&self, pin: Pin) -> Result<Unlock, TokenError> {
        self.turn_at_once()?.unlock(pin)
    }

    /// Does a log-in stand, so that [`Token::under_standing_log_in`] gives something?
    pub fn stands(&self) -> bool {
        self.standing().is_some()
    }

    /// The same, waiting for a log-in that is just being verified: while that goes on nobody is logged in, and a log-in
    /// that stood stands again afterwards. Whoever ends log-ins asks this, or would miss that one.
    ///
    /// A module that does not answer is not waited for.
    pub fn stands_after_all(&self) -> bool {
        loop {
            match self.shared_at_once() {
                Some(_shared) => return self.stands(),
                None if self.module().silent_for().is_some() => return self.stands(),
                None => std::thread::sleep(GLANCE),
            }
        }
    }

    /// An [`Unlock`] under the log-in that stands; `None` when none does. There may be several at once; dropping one
    /// logs nobody out. It holds no PIN, so a key that asks for it at each use is refused, and it is worth nothing once
    /// the log-in that stood is over, even while another act has the token unlocked.
    pub fn under_standing_log_in(&self) -> Option<Unlock> {
        self.standing().map(|standing| Unlock::standing(self.clone(), standing))
    }
}

#[cfg(test)]
impl Token {
    /// How many wait behind the one whose turn it is.
    pub(in crate::token) fn waiting(&self) -> usize {
        let queue = self.turns().queue();
        usize::try_from((queue.next - queue.serving).saturating_sub(1)).unwrap()
    }
}

impl Turn {
    /// The token whose turn it is.
    pub fn token(&self) -> &Token {
        &self.place.token
    }

    /// Logs in for one act: really verifies the PIN, by logging out and in. One try, and none when the PIN is locked,
    /// not set or of a length that the token does not take. The turn ends with the [`Unlock`]; then the token is logged
    /// out, unless a log-in stood before: that one stands on. A wrong PIN ends it ([`TokenError::PinIncorrect`] says so).
    pub fn unlock(self, pin: Pin) -> Result<Unlock, TokenError> {
        self.token().log_in_for(Purpose::OneAct, &pin)?;
        Ok(Unlock::by_pin(self.place, pin))
    }

    /// Logs in so that the log-in stands, until [`Token::log_out`]: one try, really verified, as above. The PIN is wiped
    /// and the turn ends at once; those who waited find that the log-in stands.
    // Taken by value: nobody may have this PIN afterwards.
    #[allow(clippy::needless_pass_by_value)]
    pub fn log_in_standing(self, pin: Pin) -> Result<Unlock, TokenError> {
        match self.token().log_in_for(Purpose::Standing, &pin) {
            Ok(standing) => Ok(Unlock::standing(self.token().clone(), standing)),
            Err(error) => {
                let mut queue = self.token().turns().queue();
                queue.failures += 1;
                queue.last_failure = Some(error.clone());
                Err(error)
            }
        }
    }

    /// How a standing log-in failed that somebody tried since this turn began to wait: those who wait behind one wrong
    /// PIN share its failure, instead of each trying again.
    pub fn failed_meanwhile(&self) -> Option<TokenError> {
        let queue = self.token().turns().queue();
        queue.last_failure.clone().filter(|_| queue.failures > self.failures_seen)
    }

    /// Ends the turn because the person did not want to give a PIN for a log-in that stands; those who wait see it by
    /// [`Turn::declined_meanwhile`] and need not ask again.
    pub fn decline(self) {
        self.token().turns().queue().declined += 1;
    }

    /// Has somebody been asked for a standing log-in and declined since this turn began to wait?
    pub fn declined_meanwhile(&self) -> bool {
        self.token().turns().queue().declined > self.declined_seen
    }
}

impl Place {
    pub(in crate::token) fn token(&self) -> &Token {
        &self.token
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let turns = self.token.turns();
        turns.queue().serving += 1;
        turns.moved.notify_all();
    }
}
