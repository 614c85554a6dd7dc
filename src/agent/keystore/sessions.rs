//! Sessions: started by a PIN, ended by log-off, idleness, removal, sleep or lock.
//!
//! The session itself belongs to the token; this module tracks its last use and reports its start
//! and end.

use std::sync::PoisonError;
use std::time::Duration;

use super::{Event, Inner, LogOffReason};
use crate::token::{Token, TokenInfo};

#[derive(Debug)]
pub(super) struct ActiveSession {
    token: TokenInfo,
    used: Duration,
    // The time limit, however much the session is used.
    ends: Option<Duration>,
}

impl Inner {
    /// Compares the recorded sessions with the tokens' and reports changes. Call it after anything
    /// that may start or end a session.
    pub fn sync_sessions(&self) {
        let active_sessions: Vec<TokenInfo> =
            self.tokens.active_sessions().iter().map(|token| token.info().clone()).collect();
        let now = self.clock.elapsed();
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.retain(|session| {
                let is_active = active_sessions.iter().any(|token| token.id() == session.token.id());
                if !is_active {
                    ended.push(session.token.clone());
                }
                is_active
            });
            for token in active_sessions {
                if !sessions.iter().any(|session| session.token.id() == token.id()) {
                    begun.push(token.clone());
                    sessions.push(ActiveSession { token, used: now, ends: None });
                }
            }
        }
        for token in ended {
            self.clear(&token);
            self.events.publish(&Event::LoggedOff { token, reason: LogOffReason::Changed });
        }
        for token in begun {
            self.events.publish(&Event::LoggedIn(token));
        }
        // A lock or sleep may have happened while a person typed.
        if self.locked.is_locked() {
            self.end_all_sessions(LogOffReason::Locked);
        }
    }

    /// Records a use of the token's session.
    pub fn note_use(&self, token: &TokenInfo) {
        let now = self.clock.elapsed();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = sessions.iter_mut().find(|session| session.token.id() == token.id()) {
            session.used = now;
        }
    }

    /// Limits the session on this token to `longest` from now, however much it is used. An earlier
    /// limit stays: no client can extend a session beyond the wish of the client that supplied the
    /// PIN.
    pub fn limit_session(&self, token: &TokenInfo, longest: Duration) {
        let ends = self.clock.elapsed().saturating_add(longest);
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = sessions.iter_mut().find(|session| session.token.id() == token.id()) {
            session.ends = Some(session.ends.map_or(ends, |earlier| earlier.min(ends)));
        }
    }

    /// Ends the sessions that are idle or past their limit.
    pub fn end_idle_sessions(&self) {
        let now = self.clock.elapsed();
        let mut idle = Vec::new();
        for session in self.sessions.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let cached_signer = self.key_cache.cached_signers_on(&session.token);
            if cached_signer.iter().filter(|cached_signer| cached_signer.take_use()).count() > 0 {
                session.used = now;
            }
            let is_over = session.ends.is_some_and(|ends| now >= ends);
            if is_over || now.saturating_sub(session.used) >= self.settings.idle_timeout {
                idle.push(session.token.clone());
            }
        }
        for token in idle {
            self.end_session(&token, LogOffReason::Idle);
        }
    }

    /// Ends the session on this token, if one is active. An operation that has the token unlocked
    /// ends with it.
    pub fn end_session(&self, token: &TokenInfo, reason: LogOffReason) {
        self.clear(token);
        let was_active = {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            let before = sessions.len();
            sessions.retain(|session| session.token.id() != token.id());
            before != sessions.len()
        };
        for active in self.tokens.active_sessions().iter().filter(|active| active.info().id() == token.id()) {
            log_out(active);
        }
        if was_active {
            self.events.publish(&Event::LoggedOff { token: token.clone(), reason });
        }
    }

    /// Ends all sessions.
    pub fn end_all_sessions(&self, reason: LogOffReason) {
        let announced: Vec<TokenInfo> = self
            .sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|session| session.token.clone())
            .collect();
        for token in announced {
            self.end_session(&token, reason);
        }
        for active in self.tokens.active_sessions() {
            log_out(&active);
        }
    }

    fn clear(&self, token: &TokenInfo) {
        for cached_signer in self.key_cache.cached_signers_on(token) {
            cached_signer.set(None);
        }
    }
}

/// Logs the token out. An absent token is logged out already.
fn log_out(token: &Token) {
    if let Err(error) = token.log_out() {
        tracing::debug!(token = %token.info().name(), %error, "cannot log out");
    }
}
