//! Handles modules that respond slowly or not at all.
//!
//! Reading a card's token information takes several card commands. Doing that every second keeps
//! other programs from the card, and a removal in the middle has hung OpenSC (0.23) permanently. So
//! a module with readers is only asked every second whether a card was inserted or removed
//! ([`Module::poll_tokens`]).
//!
//! A module blocks while another program has exclusive access to its card
//! (`SCardBeginTransaction`), for an unknown time. So code that asks all modules asks each in a
//! thread that can be abandoned ([`Module::ask`]).

use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use cryptoki::slot::Slot;

use super::module::Module;
use super::module_state::{PendingCall, lock};
use crate::token::{TokenError, TokenInfo};

/// Time limit for an answer. Reading a newly inserted card takes seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for a module that has already exceeded [`ANSWER_TIMEOUT`].
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);
/// Polling interval while waiting for a late answer.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Maximum number of slot events taken at once.
const MAX_EVENTS: usize = 64;

impl Module {
    /// The present tokens, like [`Module::tokens`]. A module with readers reads them again only
    /// after a card was inserted or removed.
    pub fn poll_tokens(&self) -> Result<Vec<TokenInfo>, TokenError> {
        if !self.has_readers()? {
            return self.tokens();
        }
        let slots = self.slots_with_tokens()?;
        match &*lock(&self.module_state().snapshot) {
            Some(snapshot) if snapshot.slots == slots => return Ok(snapshot.tokens.clone()),
            _ => {}
        }
        self.tokens()
    }

    /// The slots that hold a token. No slot is read. Slot events discard the snapshot, because a
    /// card may have been swapped.
    fn slots_with_tokens(&self) -> Result<Vec<Slot>, TokenError> {
        let _running = self.running();
        let slots = self.list_slots()?;
        let event = |_: &usize| matches!(self.pkcs11().get_slot_event(), Ok(Some(_)));
        if (0..MAX_EVENTS).take_while(event).count() > 0 {
            self.module_state().note_seen(None, &[]);
        }
        Ok(slots)
    }

    /// The tokens of the last snapshot; does not call the module.
    pub fn last_seen(&self) -> Vec<TokenInfo> {
        lock(&self.module_state().snapshot).as_ref().map(|snapshot| snapshot.tokens.clone()).unwrap_or_default()
    }

    /// The reason why the last listing of the tokens skipped a present card.
    pub fn blocked_card(&self) -> Option<TokenError> {
        self.module_state().taken.load(Ordering::Relaxed).then(|| TokenError::Source {
            path: self.path().to_owned(),
            reason: "a card in one of its readers cannot be accessed: another program has exclusive access".to_owned(),
            remedy: "end that program (GnuPG: `gpgconf --kill scdaemon`), or remove the card and insert it again"
                .to_owned(),
        })
    }

    /// Duration of the current call, if it is longer than the time limit.
    pub fn unresponsive_for(&self) -> Option<Duration> {
        let longest =
            lock(&self.module_state().pending_calls).iter().map(|pending_calls| pending_calls.since.elapsed()).max()?;
        Some(longest).filter(|longest| *longest >= ANSWER_TIMEOUT)
    }

    /// Whether the module has answered before, and has not answered for at least `longest`.
    pub fn is_hung(&self, longest: Duration) -> bool {
        lock(&self.module_state().snapshot).is_some() && self.unresponsive_for().is_some_and(|silent| silent >= longest)
    }

    /// Refuses to wait for a module that does not respond. A module that may only be busy, perhaps
    /// with a key generation for the same caller, gets one more second.
    pub fn check_responsive(&self) -> Result<(), TokenError> {
        let asked = Instant::now();
        while self.unresponsive_for().is_some() {
            if asked.elapsed() >= SHORT_TIMEOUT {
                return Err(self.unresponsive_error());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Runs a call to this module in a thread of its own, and abandons the thread at the time
    /// limit. No other call starts until an abandoned one has returned.
    pub fn ask<T: Send + 'static>(&self, ask: impl FnOnce() -> T + Send + 'static) -> Result<T, TokenError> {
        if self.unresponsive_for().is_some() {
            return Err(self.unresponsive_error());
        }
        let number = self.module_state().next.fetch_add(1, Ordering::Relaxed);
        lock(&self.module_state().pending_calls).push(PendingCall { number, since: Instant::now() });
        let (sender, answer) = channel();
        let module = self.clone();
        let asking = move || {
            let _answered = PendingCallGuard { module, number };
            // After a timeout nobody receives this.
            let _ = sender.send(ask());
        };
        if std::thread::Builder::new().name("module-call".to_owned()).spawn(asking).is_err() {
            self.end_call(number);
            return Err(self.unresponsive_error());
        }
        match answer.recv_timeout(ANSWER_TIMEOUT) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => {
                let error = self.unresponsive_error();
                tracing::warn!("{error}");
                Err(error)
            }
            // The thread has panicked.
            Err(RecvTimeoutError::Disconnected) => Err(self.unresponsive_error()),
        }
    }

    fn unresponsive_error(&self) -> TokenError {
        let reason =
            "it does not answer: another program has exclusive access to the card, or the module is busy or hangs"
                .to_owned();
        let remedy =
            "wait until that program is done, or end it; if that does not help, log off (`tokenkeep agent log-off`), \
             and the agent reloads the module"
                .to_owned();
        TokenError::Source { path: self.path().to_owned(), reason, remedy }
    }

    fn end_call(&self, number: u64) {
        let mut pending_calls = lock(&self.module_state().pending_calls);
        let since = pending_calls
            .iter()
            .find(|pending_calls| pending_calls.number == number)
            .map(|pending_calls| pending_calls.since);
        pending_calls.retain(|pending_calls| pending_calls.number != number);
        if since.is_some_and(|since| since.elapsed() >= ANSWER_TIMEOUT) {
            tracing::info!(module = %self.path().display(), "the module answers again");
        }
    }
}

/// Marks a call as returned, even if it panics.
struct PendingCallGuard {
    module: Module,
    number: u64,
}

impl Drop for PendingCallGuard {
    fn drop(&mut self) {
        self.module.end_call(self.number);
    }
}
