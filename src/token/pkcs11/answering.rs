//! Modules that keep one waiting: looked at no more than needed, and never waited for without end.
//!
//! What a token says about itself, a card has to be asked for by commands. To do so every second keeps other programs from the
//! card, and one that is pulled out in the middle of it has hung OpenSC (0.23) for good. So a module with readers is asked
//! every second only whether something came or went ([`Module::glance`]).
//!
//! A module answers nobody while another program has its card for itself (`SCardBeginTransaction`), and there is no telling
//! how long. So whoever looks at all modules, for others too, asks each in a thread that can be left behind
//! ([`Module::ask`]).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use cryptoki::slot::Slot;

use super::module::{Module, TokenInfo};
use crate::token::TokenError;

/// How long a module may take for an answer. To read a card that was just put in takes seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it is waited for one that has already taken too long.
const MOMENT: Duration = Duration::from_secs(1);
/// How often it is looked whether it answers.
const GLANCE: Duration = Duration::from_millis(5);
/// Of events that a module has to tell so many are taken at once.
const EVENTS: usize = 64;

/// What is known of a module without asking it.
#[derive(Debug, Default)]
pub(super) struct Known {
    seen: Mutex<Option<Seen>>,
    readers: AtomicBool,
    taken: AtomicBool,
    pub(super) keeps_pin_state: OnceLock<bool>,
    waiting: Mutex<Vec<Waiting>>,
    next: AtomicU64,
}

/// What was in the slots when they were last looked into.
#[derive(Debug)]
struct Seen {
    slots: Vec<Slot>,
    tokens: Vec<TokenInfo>,
}

/// A question without an answer yet.
#[derive(Debug)]
struct Waiting {
    number: u64,
    since: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    /// That it has readers is so for good; that it has none may change.
    pub(super) fn has_readers(&self) -> bool {
        self.readers.load(Ordering::Relaxed)
    }

    pub(super) fn note_readers(&self, has: bool) {
        self.readers.store(has, Ordering::Relaxed);
    }

    /// Remembers whether there is a card that cannot be reached.
    pub(super) fn note_taken(&self, taken: bool) {
        self.taken.store(taken, Ordering::Relaxed);
    }

    /// Remembers what was seen; not where a slot could not be looked into: it is looked into again.
    pub(super) fn note_seen(&self, slots: Option<Vec<Slot>>, tokens: &[TokenInfo]) {
        *lock(&self.seen) = slots.map(|slots| Seen { slots, tokens: tokens.to_vec() });
    }
}

impl Module {
    /// The tokens that are present, as [`Module::tokens`] gives them; asked of a module with readers only when something has
    /// come or gone since they were last asked for.
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

    /// The slots with a token in them; none is looked into. If one was changed for another meanwhile, what was seen is
    /// forgotten.
    fn slots_with_tokens(&self) -> Result<Vec<Slot>, TokenError> {
        let _running = self.running();
        let slots = self.list_slots()?;
        let event = |_: &usize| matches!(self.pkcs11().get_slot_event(), Ok(Some(_)));
        if (0..EVENTS).take_while(event).count() > 0 {
            self.known().note_seen(None, &[]);
        }
        Ok(slots)
    }

    /// The tokens that were seen last, without asking the module.
    pub fn last_seen(&self) -> Vec<TokenInfo> {
        lock(&self.known().seen).as_ref().map(|seen| seen.tokens.clone()).unwrap_or_default()
    }

    /// What is in the way of a card that is there, and that was passed over when the tokens were last asked for.
    pub fn taken(&self) -> Option<TokenError> {
        self.known().taken.load(Ordering::Relaxed).then(|| TokenError::Module {
            path: self.path().to_owned(),
            reason: "a card in one of its readers cannot be reached: another program has it for itself".to_owned(),
            remedy: "end that program (of GnuPG: `gpgconf --kill scdaemon`), or take the card out and put it in again"
                .to_owned(),
        })
    }

    /// For how long the module has not answered, if it is longer than it may take.
    pub fn silent_for(&self) -> Option<Duration> {
        let longest = lock(&self.known().waiting).iter().map(|waiting| waiting.since.elapsed()).max()?;
        Some(longest).filter(|longest| *longest >= PATIENCE)
    }

    /// Has it answered before, and not now for so long that it will not any more?
    pub fn is_hung(&self, longest: Duration) -> bool {
        lock(&self.known().seen).is_some() && self.silent_for().is_some_and(|silent| silent >= longest)
    }

    /// Refuses what would wait for a module that does not answer. One that may just have been busy, with making a key for the
    /// same caller perhaps, has a moment more.
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

    /// Does something that asks this module, in a thread of its own, and leaves it behind when it takes too long. Until that
    /// one has its answer, no other is begun.
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
            // Nobody waits any more if it took too long.
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
            "it does not answer: another program has the card for itself, or it is busy, or it hangs".to_owned();
        let remedy =
            "wait until that program is done, or end it; if that does not help, log off (`tokenkeep agent log-off`): \
                      then the agent loads the module anew"
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

/// Counts a question as answered, also when asking it panics.
struct Answered {
    module: Module,
    number: u64,
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.module.answered(self.number);
    }
}
