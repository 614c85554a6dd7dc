//! Tokens come and go: a thread that looks, without a PIN and without reading what is on them, and reads only what is new.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use super::catalogue::{is_another, is_at};
use super::well_again::Trial;
use super::{Inner, LogOff};
use crate::token::{Module, PinState, TokenInfo};

/// How often is looked.
const EVERY: Duration = Duration::from_secs(1);
/// Of so many looks one is thorough: it also reads tokens that another program had, or may have changed.
const THOROUGH_EVERY: u32 = 5;
/// The clocks differ by this much more than before: the machine slept.
const SLEPT: Duration = Duration::from_secs(2);
/// A module that has not answered for so long is given up.
const HUNG: Duration = Duration::from_secs(15);
/// After so long an act that goes on is taken to hang with it. A card may make a key for minutes, and answers nobody meanwhile.
const LOST: Duration = Duration::from_mins(10);

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Watching {
    ended: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Watching {
    pub(super) fn begin(inner: &Arc<Inner>) -> std::io::Result<Self> {
        let ended: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let (end, inner) = (Arc::clone(&ended), Arc::downgrade(inner));
        let run = move || watch(&inner, &end);
        let thread = std::thread::Builder::new().name("presence".to_owned()).stack_size(256 * 1024).spawn(run)?;
        Ok(Self { ended, thread: Some(thread) })
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        *self.ended.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ended.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(inner: &Weak<Inner>, ended: &(Mutex<bool>, Condvar)) {
    let mut trial = Trial::default();
    for look in 1_u32.. {
        {
            let end = ended.0.lock().unwrap_or_else(PoisonError::into_inner);
            let end = ended.1.wait_timeout_while(end, EVERY, |end| !*end).unwrap_or_else(PoisonError::into_inner).0;
            if *end {
                return;
            }
        }
        let Some(inner) = inner.upgrade() else { return };
        let thorough = look % THOROUGH_EVERY == 0;
        inner.look(thorough);
        inner.end_with_a_hung_module();
        if thorough {
            inner.end_for_a_module_that_is_well_again(&mut trial);
        }
    }
}

impl Inner {
    /// Looks once.
    pub fn look(&self, thorough: bool) {
        self.end_log_ins_after_sleep();
        self.end_idle_log_ins();
        let now = match self.tokens.glance() {
            Ok(now) => now,
            // None of the modules works: whatever was there is gone, until one does again.
            Err(error) => {
                tracing::debug!(%error, "cannot list the tokens");
                Vec::new()
            }
        };
        let before = self.catalogue.tokens();
        let held = thorough && self.catalogue.held_by_others();
        if (held || differ(&before, &now))
            && let Err(error) = self.refresh()
        {
            tracing::debug!(%error, "cannot read the tokens");
        }
        if thorough {
            if self.tokens.modules().iter().any(Module::is_stopped) {
                self.look_again(false);
            }
            self.forget_what_changed_behind();
        }
        self.note_log_ins();
    }

    /// Another program has made a token anew, or has taken keysets from it: what was logged in for is no more, and the copies
    /// of its keys that a log-in has must not outlive them.
    fn forget_what_changed_behind(&self) {
        // An act that goes on may be what changes them.
        if self.acts.load(Ordering::SeqCst) > 0 {
            return;
        }
        let changed = self.tokens.changed_behind();
        // Nor may one have begun, and changed them, meanwhile.
        if changed.is_empty() || self.acts.load(Ordering::SeqCst) > 0 {
            return;
        }
        for token in changed {
            tracing::warn!(
                "{} was made anew by another program, or its keysets were changed by one; a log-in to it is over",
                token.name()
            );
            self.end_log_in(&token, LogOff::Changed);
            self.tokens.forget(&token);
        }
        self.refresh_or_say();
    }

    /// A token did not answer as one that is there: its log-in is over, and it is looked for anew.
    pub fn lost(&self, token: &TokenInfo) {
        self.end_log_in(token, LogOff::Removed);
        self.tokens.forget(token);
        if let Err(error) = self.refresh() {
            tracing::debug!(%error, "cannot read the tokens");
        }
    }

    /// A module that hangs (OpenSC 0.23 does, when a card is pulled out while it speaks to it) can be had back only with the
    /// process, which the broker starts anew. Not while anybody would lose a log-in or an act by it; and once: a module that
    /// has never answered in this process may be kept waiting by another program, which starting anew does not change.
    fn end_with_a_hung_module(&self) {
        let Some(module) = self.tokens.modules().iter().find(|module| module.is_hung(HUNG)) else { return };
        let acts = self.acts.load(Ordering::SeqCst) + self.acts_elsewhere.load(Ordering::SeqCst);
        let acting = acts > 0 && !module.is_hung(LOST);
        if acting || !self.tokens.standing().is_empty() || self.stands_in_an_annex() {
            return;
        }
        tracing::warn!(module = %module.path().display(), "the module does not answer any more: the worker ends, to load it anew");
        // At once: what runs at an orderly end would wait for the module.
        let _ = kill_process(getpid(), Signal::KILL);
    }

    fn end_log_ins_after_sleep(&self) {
        let asleep = self.clock.elapsed().saturating_sub(self.clock.awake());
        let mut known = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        let slept = asleep.saturating_sub(*known) > SLEPT;
        *known = asleep;
        drop(known);
        if slept {
            self.end_all_log_ins(LogOff::Suspend);
        }
    }
}

fn differ(before: &[TokenInfo], now: &[TokenInfo]) -> bool {
    let same = |one: &TokenInfo, other: &TokenInfo| {
        is_at(one, other)
            && !is_another(one, other)
            && (one.pin_state == PinState::Locked) == (other.pin_state == PinState::Locked)
            && (one.pin_state == PinState::NotSet) == (other.pin_state == PinState::NotSet)
    };
    before.len() != now.len() || !before.iter().zip(now).all(|(one, other)| same(one, other))
}
