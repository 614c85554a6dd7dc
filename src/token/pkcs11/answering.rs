//! Handles modules that respond slowly or not at all.
//!
//! Reading a card's token information takes several card commands. Doing that every second keeps
//! other programs from the card, and a removal in the middle has hung OpenSC (0.23) permanently. So
//! a module with readers is only asked every second whether a card was inserted or removed
//! ([`Module::glance`]).
//!
//! A module blocks while another program has exclusive access to its card
//! (`SCardBeginTransaction`), for an unknown time. So code that asks all modules asks each in a
//! thread that can be abandoned ([`Module::ask`]).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use cryptoki::slot::Slot;

use super::module::{Module, TokenInfo};
use crate::token::TokenError;

/// Time limit for an answer. Reading a newly inserted card takes seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time limit for a module that has already exceeded [`PATIENCE`].
const MOMENT: Duration = Duration::from_secs(1);
/// Polling interval while waiting for a late answer.
const GLANCE: Duration = Duration::from_millis(5);
/// Maximum number of slot events taken at once.
const EVENTS: usize = 64;

/// What is known about a module without calling it.
#[derive(Debug, Default)]
pub(super) struct Known {
    seen: Mutex<Option<Seen>>,
    readers: AtomicBool,
    taken: AtomicBool,
    pub(super) keeps_pin_state: OnceLock<bool>,
    waiting: Mutex<Vec<Waiting>>,
    next: AtomicU64,
}

/// The content of the slots when they were last read.
#[derive(Debug)]
struct Seen {
    slots: Vec<Slot>,
    tokens: Vec<TokenInfo>,
}

/// A call that has not returned yet.
#[derive(Debug)]
struct Waiting {
    number: u64,
    since: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    /// Readers that were seen once remain; a module without readers may get some later.
    pub(super) fn has_readers(&self) -> bool {
        self.readers.load(Ordering::Relaxed)
    }

    pub(super) fn note_readers(&self, has: bool) {
        self.readers.store(has, Ordering::Relaxed);
    }

    /// Records whether a card is present that cannot be accessed.
    pub(super) fn note_taken(&self, taken: bool) {
        self.taken.store(taken, Ordering::Relaxed);
    }

    /// Records the content of the slots. `None` if a slot could not be read: the slots are then
    /// read again.
    pub(super) fn note_seen(&self, slots: Option<Vec<Slot>>, tokens: &[TokenInfo]) {
        *lock(&self.seen) = slots.map(|slots| Seen { slots, tokens: tokens.to_vec() });
    }
}

impl Module {
    /// The present tokens, like [`Module::tokens`]. A module with readers reads them again only
    /// after a card was inserted or removed.
    pub fn glance(&self) -> Result<Vec<TokenInfo>, TokenError> {
        if !self.has_readers()? {
            return self.tokens();
        }
        let slots = self.slots_with_tokens()?;
        match &*lock(&self.known().seen) {
            Some(seen) if seen.slots == slots => return Ok(seen.tokens.clone()),
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
        if (0..EVENTS).take_while(event).count() > 0 {
            self.known().note_seen(None, &[]);
        }
        Ok(slots)
    }

    /// The tokens of the last snapshot; does not call the module.
    pub fn last_seen(&self) -> Vec<TokenInfo> {
        lock(&self.known().seen).as_ref().map(|seen| seen.tokens.clone()).unwrap_or_default()
    }

    /// Why a present card was skipped when the tokens were last listed.
    pub fn taken(&self) -> Option<TokenError> {
        self.known().taken.load(Ordering::Relaxed).then(|| TokenError::Module {
            path: self.path().to_owned(),
            reason: "a card in one of its readers cannot be accessed: another program has exclusive access".to_owned(),
            remedy: "end that program (GnuPG: `gpgconf --kill scdaemon`), or remove the card and insert it again"
                .to_owned(),
        })
    }

    /// How long the module has not answered, if that is longer than the time limit.
    pub fn silent_for(&self) -> Option<Duration> {
        let longest = lock(&self.known().waiting).iter().map(|waiting| waiting.since.elapsed()).max()?;
        Some(longest).filter(|longest| *longest >= PATIENCE)
    }

    /// Whether the module has answered before, and has not answered for at least `longest`.
    pub fn is_hung(&self, longest: Duration) -> bool {
        lock(&self.known().seen).is_some() && self.silent_for().is_some_and(|silent| silent >= longest)
    }

    /// Refuses to wait for a module that does not respond. A module that may only be busy, perhaps
    /// with a key generation for the same caller, gets one more second.
    pub fn must_answer(&self) -> Result<(), TokenError> {
        let asked = Instant::now();
        while self.silent_for().is_some() {
            if asked.elapsed() >= MOMENT {
                return Err(self.silence());
            }
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// Runs a call to this module in a thread of its own, and abandons the thread at the time
    /// limit. No other call starts until an abandoned one has returned.
    pub fn ask<T: Send + 'static>(&self, ask: impl FnOnce() -> T + Send + 'static) -> Result<T, TokenError> {
        if self.silent_for().is_some() {
            return Err(self.silence());
        }
        let number = self.known().next.fetch_add(1, Ordering::Relaxed);
        lock(&self.known().waiting).push(Waiting { number, since: Instant::now() });
        let (sender, answer) = channel();
        let module = self.clone();
        let asking = move || {
            let _answered = Answered { module, number };
            // After a timeout nobody receives this.
            let _ = sender.send(ask());
        };
        if std::thread::Builder::new().name("asking".to_owned()).spawn(asking).is_err() {
            self.answered(number);
            return Err(self.silence());
        }
        match answer.recv_timeout(PATIENCE) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => {
                let error = self.silence();
                tracing::warn!("{error}");
                Err(error)
            }
            // The thread has panicked.
            Err(RecvTimeoutError::Disconnected) => Err(self.silence()),
        }
    }

    fn silence(&self) -> TokenError {
        let reason =
            "it does not answer: another program has exclusive access to the card, or the module is busy or hangs"
                .to_owned();
        let remedy =
            "wait until that program is done, or end it; if that does not help, log off (`tokenkeep agent log-off`), \
             and the agent reloads the module"
                .to_owned();
        TokenError::Module { path: self.path().to_owned(), reason, remedy }
    }

    fn answered(&self, number: u64) {
        let mut waiting = lock(&self.known().waiting);
        let since = waiting.iter().find(|waiting| waiting.number == number).map(|waiting| waiting.since);
        waiting.retain(|waiting| waiting.number != number);
        if since.is_some_and(|since| since.elapsed() >= PATIENCE) {
            tracing::info!(module = %self.path().display(), "the module answers again");
        }
    }
}

/// Marks a call as returned, even if it panics.
struct Answered {
    module: Module,
    number: u64,
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.module.answered(self.number);
    }
}
