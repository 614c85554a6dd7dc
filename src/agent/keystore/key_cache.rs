//! The keys that can be offered, from the tokens' public indexes and certificates as last read, and
//! what has changed on the tokens between two readings.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::cached_signer::CachedSigners;
use super::clock::Clock;
use super::events::{Event, Events, LogOffReason};
use super::identity::SigningIdentity;
use super::sessions::ActiveSessions;
use crate::keyset::{FoundKeyset, KeysetError, Tokens, UnreadableToken};
use crate::pki::Certificate;
use crate::token::{PinState, TokenError, TokenInfo};

/// Maximum age of a listing that the next listing reuses.
const MAX_AGE: Duration = Duration::from_secs(2);
/// A certificate that expires within this time is reported once.
const EXPIRY_WARNING: SignedDuration = SignedDuration::from_hours(60 * 24);

/// Maximum number of certificates remembered as reported.
const MAX_NOTIFIED: usize = 1024;

/// The last listing, and what has been reported about it.
pub(super) struct KeyCache {
    tokens: Tokens,
    clock: Arc<dyn Clock>,
    events: Events,
    sessions: Arc<ActiveSessions>,
    pub cached_signers: Arc<CachedSigners>,
    snapshot: RwLock<Snapshot>,
    // One thread reads the tokens at a time; the others then use its result.
    reading: Mutex<()>,
    // The certificates whose expiry was reported.
    notified: Mutex<VecDeque<Vec<u8>>>,
    // The logged reasons why tokens cannot be read.
    logged_problems: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Snapshot {
    at: Option<Duration>,
    tokens: Vec<TokenInfo>,
    list: Vec<Arc<SigningIdentity>>,
    by_key: HashMap<Vec<u8>, Arc<SigningIdentity>>,
    has_tokens_in_use: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KeyCache {
    pub fn new(
        tokens: Tokens,
        clock: Arc<dyn Clock>,
        events: Events,
        sessions: Arc<ActiveSessions>,
        cached_signers: Arc<CachedSigners>,
    ) -> Self {
        Self {
            tokens,
            clock,
            events,
            sessions,
            cached_signers,
            snapshot: RwLock::default(),
            reading: Mutex::default(),
            notified: Mutex::default(),
            logged_problems: Mutex::default(),
        }
    }

    pub fn list(&self) -> Vec<Arc<SigningIdentity>> {
        self.snapshot().list.clone()
    }

    pub fn find(&self, spki: &[u8]) -> Option<Arc<SigningIdentity>> {
        self.snapshot().by_key.get(spki).cloned()
    }

    pub fn tokens(&self) -> Vec<TokenInfo> {
        self.snapshot().tokens.clone()
    }

    pub fn is_fresh(&self) -> bool {
        let now = self.clock.elapsed();
        self.snapshot().at.is_some_and(|at| now.saturating_sub(at) < MAX_AGE)
    }

    /// Returns true if a token was skipped because another program owns it.
    pub fn has_tokens_in_use(&self) -> bool {
        self.snapshot().has_tokens_in_use
    }

    fn snapshot(&self) -> RwLockReadGuard<'_, Snapshot> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the session of a token that does not respond as present, and reads the tokens again.
    pub fn mark_lost(&self, token: &TokenInfo) {
        self.sessions.end(token, LogOffReason::Removed);
        self.tokens.forget(token);
        self.refresh();
    }

    /// Reads the tokens and reports changes. A failure is logged: the last listing stays.
    pub fn refresh(&self) {
        if let Err(error) = self.try_refresh() {
            tracing::debug!(%error, "cannot read the tokens");
        }
    }

    /// Like [`Self::refresh`]. Unchanged objects on a token that is kept open are not read again.
    pub fn try_refresh(&self) -> Result<(), KeysetError> {
        let _reading = lock(&self.reading);
        let tokens = self.tokens.list()?;
        let before = self.tokens();
        self.forget_changed(&before, &tokens);
        let (keysets, unreadable_tokens) = self.tokens.keysets()?;
        let list: Vec<Arc<SigningIdentity>> = keysets.iter().filter_map(|keyset| self.identity(keyset)).collect();
        // If two keysets claim the same key, the first one counts; each use checks the private
        // index anyway.
        let mut by_key = HashMap::new();
        for identity in &list {
            by_key.entry(identity.spki.clone()).or_insert_with(|| Arc::clone(identity));
        }
        self.log_unreadable_tokens(&unreadable_tokens);
        let has_tokens_in_use = unreadable_tokens
            .iter()
            .any(|unreadable| matches!(unreadable.error, KeysetError::Token(TokenError::Owned { .. })));
        let changed = changed_keysets(&self.list(), &list);
        let at = Some(self.clock.elapsed());
        let snapshot = Snapshot { at, tokens: tokens.clone(), list, by_key, has_tokens_in_use };
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
        self.cached_signers.forget_unused();
        for token in tokens.iter().filter(|token| !before.iter().any(|other| other.id() == token.id())) {
            self.events.publish(&Event::Inserted(token.clone()));
        }
        // Inserted and removed tokens have events of their own.
        let is_in_both =
            |token: &TokenInfo| [&before, &tokens].iter().all(|all| all.iter().any(|one| one.id() == token.id()));
        for token in changed.into_iter().filter(is_in_both) {
            self.events.publish(&Event::Changed(token));
        }
        self.warn_of_expiry(&keysets);
        Ok(())
    }

    /// Reuses the previous identity if it is unchanged, so that references to it stay current.
    fn identity(&self, keyset: &FoundKeyset) -> Option<Arc<SigningIdentity>> {
        let identity = SigningIdentity::of(keyset, &self.cached_signers)?;
        let before = self.find(&identity.spki);
        Some(before.filter(|before| is_unchanged(before, &identity)).unwrap_or_else(|| Arc::new(identity)))
    }

    fn forget_changed(&self, before: &[TokenInfo], now: &[TokenInfo]) {
        for token in before {
            match now.iter().find(|other| other.id() == token.id()) {
                None => {
                    self.sessions.end(token, LogOffReason::Removed);
                    self.tokens.forget(token);
                    self.events.publish(&Event::Removed(token.clone()));
                }
                Some(other) if has_lost_its_pin(token, other) => {
                    self.sessions.end(token, LogOffReason::Changed);
                    self.tokens.forget(token);
                    self.events.publish(&Event::Changed(other.clone()));
                }
                Some(other) if other.pin_state == PinState::Locked && token.pin_state != PinState::Locked => {
                    // The token is unusable until the PIN is unblocked with the SO PIN.
                    self.tokens.forget(token);
                    self.events.publish(&Event::PinLocked(other.clone()));
                }
                Some(_) => {}
            }
        }
    }

    /// Logs each problem once. A client that lists keys only sees that a key is missing.
    fn log_unreadable_tokens(&self, unreadable_tokens: &[UnreadableToken]) {
        let now: Vec<String> = unreadable_tokens.iter().map(|unreadable| unreadable.error.to_string()).collect();
        let mut logged_problems = lock(&self.logged_problems);
        for text in now.iter().filter(|text| !logged_problems.contains(text)) {
            tracing::warn!("{text}");
        }
        *logged_problems = now;
    }

    fn warn_of_expiry(&self, keysets: &[FoundKeyset]) {
        let soon = self.clock.now().saturating_add(EXPIRY_WARNING).unwrap_or(Timestamp::MAX);
        for keyset in keysets {
            let current = keyset.signing.iter().chain(keyset.encryption.first());
            let stored = current.filter_map(|id| keyset.certificates.iter().find(|stored| stored.id == *id));
            for stored in stored {
                let Ok(certificate) = Certificate::from_der(&stored.der) else { continue };
                let not_after = certificate.not_after();
                let mut notified = lock(&self.notified);
                if not_after > soon || notified.contains(&stored.der) {
                    continue;
                }
                if notified.len() >= MAX_NOTIFIED {
                    notified.pop_front();
                }
                notified.push_back(stored.der.clone());
                drop(notified);
                let (keyset, token) = (keyset.name.clone(), keyset.token.clone());
                tracing::warn!(
                    keyset = keyset.as_str(),
                    token = %token.name(),
                    %not_after,
                    "a certificate in use expires soon"
                );
                self.events.publish(&Event::Expiring { keyset, token, not_after });
            }
        }
    }
}

/// A token that was reinitialized has no PIN for a while. (With another label it is another token.)
pub(super) fn has_lost_its_pin(before: &TokenInfo, now: &TokenInfo) -> bool {
    now.pin_state == PinState::NotSet && before.pin_state != PinState::NotSet
}

fn is_unchanged(one: &SigningIdentity, other: &SigningIdentity) -> bool {
    one.certificate == other.certificate
        && one.keyset.level == other.keyset.level
        && one.keyset.encryption == other.keyset.encryption
        && one.keyset.status == other.keyset.status
        && one.keyset.is_same_keyset(&other.keyset)
}

/// The tokens whose identities differ.
fn changed_keysets(before: &[Arc<SigningIdentity>], now: &[Arc<SigningIdentity>]) -> Vec<TokenInfo> {
    let mut changed: Vec<TokenInfo> = Vec::new();
    let missing =
        |one: &[Arc<SigningIdentity>], other: &Arc<SigningIdentity>| !one.iter().any(|same| Arc::ptr_eq(same, other));
    let removed = before.iter().filter(|identity| missing(now, identity));
    for identity in removed.chain(now.iter().filter(|identity| missing(before, identity))) {
        if !changed.iter().any(|token| token.id() == identity.keyset.token.id()) {
            changed.push(identity.keyset.token.clone());
        }
    }
    changed
}
