//! Sessions: started by a PIN, ended by log-off, idleness, removal, sleep or lock.
//!
//! The session itself belongs to the token; this module tracks its last use and reports its start
//! and end.

use std::sync::PoisonError;
use std::time::Duration;

use super::catalogue::is_at;
use super::{Event, Inner, LogOff};
use crate::token::{Token, TokenInfo};

/// An active session.
#[derive(Debug)]
pub(super) struct LoggedIn {
    token: TokenInfo,
    used: Duration,
    // The time limit, however much the session is used.
    ends: Option<Duration>,
}

impl Inner {
    /// Compares the recorded sessions with the tokens' and reports changes. Call it after anything
    /// that may start or end a session.
    pub fn note_log_ins(&self) {
        let standing: Vec<TokenInfo> = self.tokens.standing().iter().map(|token| token.info().clone()).collect();
        let now = self.clock.elapsed();
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        {
            let mut log_ins = self.log_ins.lock().unwrap_or_else(PoisonError::into_inner);
            log_ins.retain(|log_in| {
                let stands = standing.iter().any(|token| is_at(token, &log_in.token));
                if !stands {
                    ended.push(log_in.token.clone());
                }
                stands
            });
            for token in standing {
                if !log_ins.iter().any(|log_in| is_at(&log_in.token, &token)) {
                    begun.push(token.clone());
                    log_ins.push(LoggedIn { token, used: now, ends: None });
                }
            }
        }
        for token in ended {
            self.clear(&token);
            self.events.tell(&Event::LoggedOff { token, why: LogOff::Changed });
        }
        for token in begun {
            self.events.tell(&Event::LoggedIn(token));
        }
        // A lock or sleep may have happened while a person typed.
        if self.locked.is_locked() {
            self.end_all_log_ins_here(LogOff::Locked);
        }
    }

    /// Records a use of the token's session.
    pub fn note_use(&self, token: &TokenInfo) {
        let now = self.clock.elapsed();
        let mut log_ins = self.log_ins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log_in) = log_ins.iter_mut().find(|log_in| is_at(&log_in.token, token)) {
            log_in.used = now;
        }
    }

    /// Limits the session on this token to `longest` from now, however much it is used. An earlier
    /// limit stays: no client can extend a session beyond the wish of the client that supplied the
    /// PIN.
    pub fn bound_log_in(&self, token: &TokenInfo, longest: Duration) {
        let ends = self.clock.elapsed().saturating_add(longest);
        let mut log_ins = self.log_ins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log_in) = log_ins.iter_mut().find(|log_in| is_at(&log_in.token, token)) {
            log_in.ends = Some(log_in.ends.map_or(ends, |earlier| earlier.min(ends)));
        }
    }

    /// Ends the sessions that are idle or past their limit.
    pub fn end_idle_log_ins(&self) {
        let now = self.clock.elapsed();
        let mut idle = Vec::new();
        for log_in in self.log_ins.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let ready = self.catalogue.ready_on(&log_in.token);
            if ready.iter().filter(|ready| ready.take_use()).count() > 0 {
                log_in.used = now;
            }
            let is_over = log_in.ends.is_some_and(|ends| now >= ends);
            if is_over || now.saturating_sub(log_in.used) >= self.settings.idle_timeout {
                idle.push(log_in.token.clone());
            }
        }
        for token in idle {
            self.end_log_in(&token, LogOff::Idle);
        }
    }

    /// Ends the session on this token, if one is active; returns the number ended in a module
    /// worker. An operation that has the token unlocked ends with it.
    pub fn end_log_in(&self, token: &TokenInfo, why: LogOff) -> usize {
        if let Some(annex) = self.annex_of(token) {
            return annex.log_off(Some(token), why);
        }
        self.clear(token);
        let stood = {
            let mut log_ins = self.log_ins.lock().unwrap_or_else(PoisonError::into_inner);
            let before = log_ins.len();
            log_ins.retain(|log_in| !is_at(&log_in.token, token));
            before != log_ins.len()
        };
        for open in self.tokens.standing().iter().filter(|open| is_at(open.info(), token)) {
            log_out(open);
        }
        if stood {
            self.events.tell(&Event::LoggedOff { token: token.clone(), why });
        }
        0
    }

    /// Ends all sessions; returns the number ended in module workers.
    pub fn end_all_log_ins(&self, why: LogOff) -> usize {
        self.end_all_log_ins_here(why);
        self.annexes.iter().map(|annex| annex.log_off(None, why)).sum()
    }

    fn end_all_log_ins_here(&self, why: LogOff) {
        let announced: Vec<TokenInfo> = self
            .log_ins
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|log_in| log_in.token.clone())
            .collect();
        for token in announced {
            self.end_log_in(&token, why);
        }
        for open in self.tokens.standing() {
            log_out(&open);
        }
    }

    fn clear(&self, token: &TokenInfo) {
        for ready in self.catalogue.ready_on(token) {
            ready.set(None);
        }
    }
}

/// Logs the token out. An absent token is logged out already.
fn log_out(token: &Token) {
    if let Err(error) = token.log_out() {
        tracing::debug!(token = %token.info().name(), %error, "cannot log out");
    }
}
