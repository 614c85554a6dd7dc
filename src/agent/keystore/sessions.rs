//! Sessions: started by a PIN, ended by log-off, idleness, removal, sleep or lock.
//!
//! The session itself belongs to the token; this module tracks its last use and reports its start
//! and end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::cached_signer::CachedSigners;
use super::clock::Clock;
use super::events::{Event, Events, LogOffReason};
use super::pass_phrase::PassPhraseLock;
use crate::keyset::Tokens;
use crate::token::{Token, TokenInfo};

/// The active sessions on all tokens.
pub(super) struct ActiveSessions {
    tokens: Tokens,
    clock: Arc<dyn Clock>,
    idle_timeout: Duration,
    events: Events,
    cached_signers: Arc<CachedSigners>,
    active: Mutex<Vec<ActiveSession>>,
}

struct ActiveSession {
    token: TokenInfo,
    used: Duration,
    // The time limit, however much the session is used.
    ends: Option<Duration>,
}

impl ActiveSessions {
    pub fn new(
        tokens: Tokens,
        clock: Arc<dyn Clock>,
        idle_timeout: Duration,
        events: Events,
        cached_signers: Arc<CachedSigners>,
    ) -> Self {
        Self { tokens, clock, idle_timeout, events, cached_signers, active: Mutex::default() }
    }

    /// Compares the recorded sessions with the tokens' and reports changes. Call it after anything
    /// that may start or end a session.
    pub fn sync(&self, lock: &PassPhraseLock) {
        let active_sessions: Vec<TokenInfo> =
            self.tokens.active_sessions().iter().map(|token| token.info().clone()).collect();
        let now = self.clock.elapsed();
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        {
            let mut active = self.active();
            active.retain(|session| {
                let is_active = active_sessions.iter().any(|token| token.id() == session.token.id());
                if !is_active {
                    ended.push(session.token.clone());
                }
                is_active
            });
            for token in active_sessions {
                if !active.iter().any(|session| session.token.id() == token.id()) {
                    begun.push(token.clone());
                    active.push(ActiveSession { token, used: now, ends: None });
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
        if lock.is_locked() {
            self.end_all(LogOffReason::Locked);
        }
    }

    /// Records a use of the token's session.
    pub fn note_use(&self, token: &TokenInfo) {
        let now = self.clock.elapsed();
        let mut active = self.active();
        if let Some(session) = active.iter_mut().find(|session| session.token.id() == token.id()) {
            session.used = now;
        }
    }

    /// Limits the session on this token to `longest` from now, however much it is used. An earlier
    /// limit stays: no client can extend a session beyond the wish of the client that supplied the
    /// PIN.
    pub fn limit(&self, token: &TokenInfo, longest: Duration) {
        let ends = self.clock.elapsed().saturating_add(longest);
        let mut active = self.active();
        if let Some(session) = active.iter_mut().find(|session| session.token.id() == token.id()) {
            session.ends = Some(session.ends.map_or(ends, |earlier| earlier.min(ends)));
        }
    }

    /// Ends the sessions that are idle or past their limit.
    pub fn end_idle(&self) {
        let now = self.clock.elapsed();
        let mut idle = Vec::new();
        for session in self.active().iter_mut() {
            let cached_signers = self.cached_signers.on(&session.token);
            if cached_signers.iter().filter(|cached_signer| cached_signer.take_use()).count() > 0 {
                session.used = now;
            }
            let is_over = session.ends.is_some_and(|ends| now >= ends);
            if is_over || now.saturating_sub(session.used) >= self.idle_timeout {
                idle.push(session.token.clone());
            }
        }
        for token in idle {
            self.end(&token, LogOffReason::Idle);
        }
    }

    /// Ends the session on this token, if one is active. An operation that has the token unlocked
    /// ends with it.
    pub fn end(&self, token: &TokenInfo, reason: LogOffReason) {
        self.clear(token);
        let was_active = {
            let mut active = self.active();
            let before = active.len();
            active.retain(|session| session.token.id() != token.id());
            before != active.len()
        };
        for token in self.tokens.active_sessions().iter().filter(|active| active.info().id() == token.id()) {
            log_out(token);
        }
        if was_active {
            self.events.publish(&Event::LoggedOff { token: token.clone(), reason });
        }
    }

    /// Ends all sessions.
    pub fn end_all(&self, reason: LogOffReason) {
        let announced: Vec<TokenInfo> = self.active().iter().map(|session| session.token.clone()).collect();
        for token in announced {
            self.end(&token, reason);
        }
        for token in self.tokens.active_sessions() {
            log_out(&token);
        }
    }

    fn clear(&self, token: &TokenInfo) {
        for cached_signer in self.cached_signers.on(token) {
            cached_signer.set(None);
        }
    }

    fn active(&self) -> MutexGuard<'_, Vec<ActiveSession>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs the token out. An absent token is logged out already.
fn log_out(token: &Token) {
    if let Err(error) = token.log_out() {
        tracing::debug!(token = %token.info().name(), %error, "cannot log out");
    }
}
