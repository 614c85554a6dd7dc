//! Polls for inserted and removed tokens without a PIN, and reads only tokens that changed.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use super::key_cache::has_lost_its_pin;
use super::recovered_source::Trial;
use super::{Inner, LogOffReason};
use crate::token::{PinState, TokenInfo, TokenSource};

/// Interval between polls.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// One poll in this many is thorough: it also reads tokens that another program held or may have
/// changed.
const THOROUGH_POLL_EVERY: u32 = 5;
/// The machine slept if the difference between the clocks grew by more than this.
const SLEEP_THRESHOLD: Duration = Duration::from_secs(2);
/// A source call without a return for this long makes the source count as hung.
const HUNG_AFTER: Duration = Duration::from_secs(15);
/// After this time a running operation counts as hung, too. A card may generate a key for minutes
/// and return from no other call meanwhile.
const OPERATION_HUNG_AFTER: Duration = Duration::from_mins(10);

/// The polling thread; it ends when this is dropped.
#[derive(Debug)]
pub struct TokenWatcher {
    ended: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl TokenWatcher {
    pub(super) fn begin(inner: &Arc<Inner>) -> std::io::Result<Self> {
        let ended: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let (end, inner) = (Arc::clone(&ended), Arc::downgrade(inner));
        let run = move || watch(&inner, &end);
        let thread = std::thread::Builder::new().name("presence".to_owned()).stack_size(256 * 1024).spawn(run)?;
        Ok(Self { ended, thread: Some(thread) })
    }
}

impl Drop for TokenWatcher {
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
    for poll_number in 1_u32.. {
        {
            let end = ended.0.lock().unwrap_or_else(PoisonError::into_inner);
            let end =
                ended.1.wait_timeout_while(end, POLL_INTERVAL, |end| !*end).unwrap_or_else(PoisonError::into_inner).0;
            if *end {
                return;
            }
        }
        let Some(inner) = inner.upgrade() else { return };
        let thorough = poll_number % THOROUGH_POLL_EVERY == 0;
        inner.poll(thorough);
        inner.restart_for_hung_source();
        if thorough {
            inner.restart_for_recovered_source(&mut trial);
        }
    }
}

impl Inner {
    /// Polls once.
    pub fn poll(&self, thorough: bool) {
        self.end_sessions_after_sleep();
        self.end_idle_sessions();
        let now = match self.tokens.poll_tokens() {
            Ok(now) => now,
            // No source works: all tokens count as absent until one does.
            Err(error) => {
                tracing::debug!(%error, "cannot list the tokens");
                Vec::new()
            }
        };
        let before = self.key_cache.tokens();
        let held = thorough && self.key_cache.has_tokens_in_use();
        if (held || differ(&before, &now))
            && let Err(error) = self.refresh()
        {
            tracing::debug!(%error, "cannot read the tokens");
        }
        if thorough {
            if self.tokens.sources().iter().any(TokenSource::is_stopped) {
                self.rescan_sources(false);
            }
            self.forget_externally_changed();
        }
        self.sync_sessions();
    }

    /// Handles tokens that another program reinitialized or removed keysets from: their sessions
    /// end, because a session's copies of keys must not outlive the keys.
    fn forget_externally_changed(&self) {
        // A running operation may itself be what changes them.
        if self.operations.load(Ordering::SeqCst) > 0 {
            return;
        }
        let changed = self.tokens.externally_changed();
        // An operation may have started, and changed them, in the meantime.
        if changed.is_empty() || self.operations.load(Ordering::SeqCst) > 0 {
            return;
        }
        for token in changed {
            tracing::warn!("{} was reinitialized or changed by another program; its session has ended", token.name());
            self.end_session(&token, LogOffReason::Changed);
            self.tokens.forget(&token);
        }
        self.refresh_or_log();
    }

    /// Ends the session of a token that does not respond as present, and reads the tokens again.
    pub fn mark_lost(&self, token: &TokenInfo) {
        self.end_session(token, LogOffReason::Removed);
        self.tokens.forget(token);
        if let Err(error) = self.refresh() {
            tracing::debug!(%error, "cannot read the tokens");
        }
    }

    /// A hung source (OpenSC 0.23 hangs if a card is pulled out during a call) can be recovered
    /// only by restarting the process, which the supervisor does. Not while a session or operation
    /// would be lost. A source that has never returned in this process does not count: another
    /// program may block it, and a restart does not change that.
    fn restart_for_hung_source(&self) {
        let Some(source) = self.tokens.sources().iter().find(|source| source.is_hung(HUNG_AFTER)) else { return };
        let is_operation_running = self.operations.load(Ordering::SeqCst) > 0 && !source.is_hung(OPERATION_HUNG_AFTER);
        if is_operation_running || !self.tokens.active_sessions().is_empty() {
            return;
        }
        tracing::warn!(
            source = %source.path().display(),
            "the module no longer responds: restarting the worker to reload it"
        );
        // Kill at once: exit handlers would wait for the source.
        let _ = kill_process(getpid(), Signal::KILL);
    }

    fn end_sessions_after_sleep(&self) {
        let time_asleep = self.clock.elapsed().saturating_sub(self.clock.awake());
        let mut known = self.time_asleep.lock().unwrap_or_else(PoisonError::into_inner);
        let slept = time_asleep.saturating_sub(*known) > SLEEP_THRESHOLD;
        *known = time_asleep;
        drop(known);
        if slept {
            self.end_all_sessions(LogOffReason::Suspend);
        }
    }
}

fn differ(before: &[TokenInfo], now: &[TokenInfo]) -> bool {
    let same = |one: &TokenInfo, other: &TokenInfo| {
        one.id() == other.id()
            && !has_lost_its_pin(one, other)
            && (one.pin_state == PinState::Locked) == (other.pin_state == PinState::Locked)
            && (one.pin_state == PinState::NotSet) == (other.pin_state == PinState::NotSet)
    };
    before.len() != now.len() || !before.iter().zip(now).all(|(one, other)| same(one, other))
}
