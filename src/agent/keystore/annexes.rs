//! The modules that have workers of their own: what they tell is listed and told on, and the lock holds there, too.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::catalogue::is_at;
use super::{Event, Inner, LogOff};
use crate::agent::annex::{Annex, LogInChange, News};
use crate::token::TokenInfo;

/// Before it is looked for the next annex when one has ended at once.
const BREATHER: Duration = Duration::from_millis(50);

impl Inner {
    /// The annex that has this token.
    pub fn annex_of(&self, token: &TokenInfo) -> Option<&Arc<Annex>> {
        self.annexes.iter().find(|annex| annex.has(token))
    }

    /// Follows each annex, a thread each, as long as the keystore is there.
    pub fn follow_annexes(inner: &Arc<Self>) -> std::io::Result<()> {
        for annex in &inner.annexes {
            let (annex, inner) = (Arc::clone(annex), Arc::downgrade(inner));
            let thread = std::thread::Builder::new().name("annex".to_owned()).stack_size(256 * 1024);
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

    /// Has the annexes be locked as this is: what goes on there stops, too. The pass phrase stays here.
    pub fn tell_annexes_whether_locked(&self) {
        for annex in &self.annexes {
            annex.lock(self.locked.is_locked());
        }
    }

    /// Has the annexes tell what their tokens say of their PINs now.
    pub fn look_at_pins_elsewhere(&self) {
        for annex in &self.annexes {
            annex.look_at_pins();
        }
    }

    /// Does a log-in stand in any annex?
    pub fn stands_in_an_annex(&self) -> bool {
        self.annexes.iter().any(|annex| !annex.logged_in().is_empty())
    }

    /// Does a log-in stand in an annex, to this token?
    pub fn stands_elsewhere(&self, token: &TokenInfo) -> bool {
        self.annex_of(token).is_some_and(|annex| annex.logged_in().iter().any(|other| is_at(other, token)))
    }

    /// Is an act going on here, or does a log-in stand?
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
