//! The modules with workers of their own: lists their tokens, forwards their events, and locks
//! them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::catalogue::is_at;
use super::{Event, Inner, LogOff};
use crate::agent::annex::{Annex, LogInChange, News};
use crate::token::TokenInfo;

/// Delay before the next module worker is followed when one exited at once.
const BREATHER: Duration = Duration::from_millis(50);

impl Inner {
    /// The module worker that has this token.
    pub fn annex_of(&self, token: &TokenInfo) -> Option<&Arc<Annex>> {
        self.annexes.iter().find(|annex| annex.has(token))
    }

    /// Starts a thread for each module worker; it follows the worker while the keystore exists.
    pub fn follow_annexes(inner: &Arc<Self>) -> std::io::Result<()> {
        for annex in &inner.annexes {
            let (annex, inner) = (Arc::clone(annex), Arc::downgrade(inner));
            let thread = std::thread::Builder::new().name("module-worker".to_owned()).stack_size(256 * 1024);
            thread.spawn(move || follow(&inner, &annex))?;
        }
        Ok(())
    }

    fn heard(&self, annex: &Annex, news: News) {
        if let Some(LogInChange::Ended(token, why)) = &news.log_in {
            self.events.tell(&Event::LoggedOff { token: token.clone(), why: *why });
        }
        if let Some(LogInChange::Begun(token)) = &news.log_in {
            annex.forget_pin(token);
        }
        annex.note(news.seen);
        annex.lock(self.locked.is_locked());
        self.refresh_or_say();
        if let Some(LogInChange::Begun(token)) = news.log_in {
            self.events.tell(&Event::LoggedIn(token));
        }
    }

    fn heard_end(&self, annex: &Annex) {
        for token in annex.note_end() {
            self.events.tell(&Event::LoggedOff { token, why: LogOff::Removed });
        }
        self.refresh_or_say();
    }

    /// Locks or unlocks the module workers like this keystore; locking stops their operations. The
    /// pass phrase stays in this process.
    pub fn tell_annexes_whether_locked(&self) {
        for annex in &self.annexes {
            annex.lock(self.locked.is_locked());
        }
    }

    /// Makes the module workers report the current PIN states of their tokens.
    pub fn look_at_pins_elsewhere(&self) {
        for annex in &self.annexes {
            annex.look_at_pins();
        }
    }

    /// Returns true if any module worker has an active session.
    pub fn stands_in_an_annex(&self) -> bool {
        self.annexes.iter().any(|annex| !annex.logged_in().is_empty())
    }

    /// Returns true if a module worker has an active session on this token.
    pub fn stands_elsewhere(&self, token: &TokenInfo) -> bool {
        self.annex_of(token).is_some_and(|annex| annex.logged_in().iter().any(|other| is_at(other, token)))
    }

    /// Returns true if an operation or session is active in this process.
    pub fn is_in_use(&self) -> bool {
        self.acts.load(Ordering::SeqCst) > 0 || !self.tokens.standing().is_empty()
    }
}

fn follow(inner: &Weak<Inner>, annex: &Annex) {
    loop {
        let followed = annex.follow(|annex, news| {
            if let Some(inner) = inner.upgrade() {
                inner.heard(annex, news);
            }
        });
        let Some(inner) = inner.upgrade() else { return };
        inner.heard_end(annex);
        if !followed {
            annex.note_given_up();
            return;
        }
        drop(inner);
        std::thread::sleep(BREATHER);
    }
}
