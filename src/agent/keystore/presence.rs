//! Polls for inserted and removed tokens without a PIN, and reads only tokens that changed.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use super::key_cache::has_lost_its_pin;
use super::recovered_source::Trial;
use super::{Clock, Keystore, LogOffReason};
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
    /// Starts the thread that polls for inserted and removed tokens, idle sessions and sleep. It
    /// does not keep the keystore alive.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub fn start(keystore: &Arc<Keystore>) -> std::io::Result<Self> {
        let ended: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let mut poller = Poller::new(&*keystore.clock);
        let (end, keystore) = (Arc::clone(&ended), Arc::downgrade(keystore));
        let run = move || {
            for number in 1_u32.. {
                if has_ended(&end) {
                    return;
                }
                let Some(keystore) = keystore.upgrade() else { return };
                poller.poll(&keystore, number % THOROUGH_POLL_EVERY == 0);
                restart_for_hung_source(&keystore);
                if number % THOROUGH_POLL_EVERY == 0 {
                    poller.trial.restart_for_recovered_source(&keystore);
                }
            }
        };
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

/// Waits for the next poll; returns true if polling has ended.
fn has_ended((ended, changed): &(Mutex<bool>, Condvar)) -> bool {
    let end = ended.lock().unwrap_or_else(PoisonError::into_inner);
    *changed.wait_timeout_while(end, POLL_INTERVAL, |end| !*end).unwrap_or_else(PoisonError::into_inner).0
}

/// What one poll leaves to the next one.
pub(super) struct Poller {
    // The time the machine has slept, as last measured.
    time_asleep: Duration,
    trial: Trial,
}

impl Poller {
    pub fn new(clock: &dyn Clock) -> Self {
        Self { time_asleep: time_asleep(clock), trial: Trial::default() }
    }

    /// Polls once.
    pub fn poll(&mut self, keystore: &Keystore, thorough: bool) {
        if self.has_slept(&*keystore.clock) {
            keystore.sessions.end_all(LogOffReason::Suspend);
        }
        keystore.sessions.end_idle();
        let now = match keystore.tokens.poll_tokens() {
            Ok(now) => now,
            // No source works: all tokens count as absent until one does.
            Err(error) => {
                tracing::debug!(%error, "cannot list the tokens");
                Vec::new()
            }
        };
        let held = thorough && keystore.key_cache.has_tokens_in_use();
        if held || differ(&keystore.key_cache.tokens(), &now) {
            keystore.key_cache.refresh();
        }
        if thorough {
            if keystore.tokens.sources().iter().any(TokenSource::is_stopped) {
                keystore.rescan_sources(false);
            }
            forget_externally_changed(keystore);
        }
        keystore.sessions.sync(&keystore.lock);
    }

    fn has_slept(&mut self, clock: &dyn Clock) -> bool {
        let now = time_asleep(clock);
        let before = std::mem::replace(&mut self.time_asleep, now);
        now.saturating_sub(before) > SLEEP_THRESHOLD
    }
}

fn time_asleep(clock: &dyn Clock) -> Duration {
    clock.elapsed().saturating_sub(clock.awake())
}

/// Handles tokens that another program reinitialized or removed keysets from: their sessions end,
/// because a session's copies of keys must not outlive the keys.
fn forget_externally_changed(keystore: &Keystore) {
    // A running operation may itself be what changes them.
    if keystore.operations.load(Ordering::SeqCst) > 0 {
        return;
    }
    let changed = keystore.tokens.externally_changed();
    // An operation may have started, and changed them, in the meantime.
    if changed.is_empty() || keystore.operations.load(Ordering::SeqCst) > 0 {
        return;
    }
    for token in changed {
        tracing::warn!("{} was reinitialized or changed by another program; its session has ended", token.name());
        keystore.sessions.end(&token, LogOffReason::Changed);
        keystore.tokens.forget(&token);
    }
    keystore.key_cache.refresh();
}

/// A hung source (OpenSC 0.23 hangs if a card is pulled out during a call) can be recovered only by
/// restarting the process, which the supervisor does. Not while a session or operation would be
/// lost. A source that has never returned in this process does not count: another program may block
/// it, and a restart does not change that.
fn restart_for_hung_source(keystore: &Keystore) {
    let Some(source) = keystore.tokens.sources().iter().find(|source| source.is_hung(HUNG_AFTER)) else { return };
    let is_operation_running = keystore.operations.load(Ordering::SeqCst) > 0 && !source.is_hung(OPERATION_HUNG_AFTER);
    if is_operation_running || !keystore.tokens.active_sessions().is_empty() {
        return;
    }
    tracing::warn!(
        source = %source.path().display(),
        "the module no longer responds: restarting the worker to reload it"
    );
    // Kill at once: exit handlers would wait for the source.
    let _ = kill_process(getpid(), Signal::KILL);
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
