//! The keys that can be offered, from the tokens' public indexes and certificates as last read.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::identity::{Identity, Ready};
use super::{Event, Inner, LogOff};
use crate::keyset::{FoundKeyset, KeysetError, TokenTrouble};
use crate::pki::Certificate;
use crate::token::{PinState, TokenError, TokenInfo};

/// Maximum age of a listing that the next listing reuses.
const FRESH: Duration = Duration::from_secs(2);
/// A certificate that expires within this time is reported once.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(60 * 24);

/// Maximum number of certificates remembered as reported.
const TOLD: usize = 1024;

/// The last listing, and what has been reported about it.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    seen: RwLock<Seen>,
    // One thread reads the tokens at a time; the others then use its result.
    reading: Mutex<()>,
    // By public key: keys that are present or whose identity is held.
    ready: Mutex<HashMap<Vec<u8>, Arc<Ready>>>,
    // The certificates whose expiry was reported.
    told: Mutex<VecDeque<Vec<u8>>>,
    // The logged reasons why tokens cannot be read.
    said: Mutex<Vec<String>>,
}

#[derive(Debug, Default)]
struct Seen {
    at: Option<Duration>,
    tokens: Vec<TokenInfo>,
    list: Vec<Arc<Identity>>,
    by_key: HashMap<Vec<u8>, Arc<Identity>>,
    held_by_others: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Catalogue {
    pub fn list(&self) -> Vec<Arc<Identity>> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).list.clone()
    }

    pub fn find(&self, spki: &[u8]) -> Option<Arc<Identity>> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).by_key.get(spki).cloned()
    }

    pub fn tokens(&self) -> Vec<TokenInfo> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).tokens.clone()
    }

    pub fn is_fresh(&self, now: Duration) -> bool {
        let at = self.seen.read().unwrap_or_else(PoisonError::into_inner).at;
        at.is_some_and(|at| now.saturating_sub(at) < FRESH)
    }

    /// Returns true if a token was skipped because another program owns it.
    pub fn held_by_others(&self) -> bool {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).held_by_others
    }

    /// The cached signers of this token's active session.
    pub fn ready_on(&self, token: &TokenInfo) -> Vec<Arc<Ready>> {
        let on = |ready: &&Arc<Ready>| ready.signer().is_some_and(|signer| is_at(signer.key().token().info(), token));
        lock(&self.ready).values().filter(on).map(Arc::clone).collect()
    }

    fn ready(&self, spki: &[u8]) -> Arc<Ready> {
        Arc::clone(lock(&self.ready).entry(spki.to_vec()).or_default())
    }

    #[cfg(test)]
    pub fn remembered_keys(&self) -> usize {
        lock(&self.ready).len()
    }

    /// Drops entries without a signer that nobody else holds; otherwise the map would grow without
    /// limit.
    fn forget_unheld(&self) {
        lock(&self.ready).retain(|_, ready| Arc::strong_count(ready) > 1 || ready.signer().is_some());
    }
}

impl Inner {
    /// Reads the tokens and reports changes. Unchanged objects on a token that is kept open are not
    /// read again.
    pub fn refresh(&self) -> Result<Vec<TokenTrouble>, KeysetError> {
        let _reading = lock(&self.catalogue.reading);
        let tokens = match self.tokens.list() {
            // All modules may be in module workers; when these exit, their tokens are absent.
            Err(_) if self.tokens.modules().is_empty() => Vec::new(),
            listed => listed?,
        };
        let before = self.catalogue.tokens();
        self.forget_what_changed(&before, &tokens);
        let (keysets, trouble) = self.tokens.keysets()?;
        let list: Vec<Arc<Identity>> = keysets.iter().filter_map(|keyset| self.identity(keyset)).collect();
        // If two keysets claim the same key, the first one counts; each use checks the private
        // index anyway.
        let mut by_key = HashMap::new();
        for identity in &list {
            by_key.entry(identity.spki.clone()).or_insert_with(|| Arc::clone(identity));
        }
        self.say_what_is_in_the_way(&trouble);
        let held_by_others =
            trouble.iter().any(|trouble| matches!(trouble.error, KeysetError::Token(TokenError::Owned { .. })));
        let changed = changed_keysets(&self.catalogue.list(), &list);
        let at = Some(self.clock.elapsed());
        let seen = Seen { at, tokens: tokens.clone(), list, by_key, held_by_others };
        *self.catalogue.seen.write().unwrap_or_else(PoisonError::into_inner) = seen;
        self.catalogue.forget_unheld();
        for token in tokens.iter().filter(|token| !before.iter().any(|other| is_at(other, token))) {
            self.events.tell(&Event::Inserted(token.clone()));
        }
        // Inserted and removed tokens have events of their own.
        let stayed = |token: &TokenInfo| [&before, &tokens].iter().all(|all| all.iter().any(|one| is_at(one, token)));
        for token in changed.into_iter().filter(stayed) {
            self.events.tell(&Event::Changed(token));
        }
        self.tell_what_expires(&keysets);
        Ok(trouble)
    }

    /// Reuses the previous identity if it is unchanged, so that whoever holds it holds the current
    /// one.
    fn identity(&self, keyset: &FoundKeyset) -> Option<Arc<Identity>> {
        let identity = Identity::of(keyset, |spki| self.catalogue.ready(spki))?;
        let before = self.catalogue.find(&identity.spki);
        Some(before.filter(|before| is_same(before, &identity)).unwrap_or_else(|| Arc::new(identity)))
    }

    fn forget_what_changed(&self, before: &[TokenInfo], now: &[TokenInfo]) {
        for token in before {
            match now.iter().find(|other| is_at(other, token)) {
                None => {
                    self.end_log_in_here(token, LogOff::Removed);
                    self.tokens.forget(token);
                    self.events.tell(&Event::Removed(token.clone()));
                }
                Some(other) if is_another(token, other) => {
                    self.end_log_in_here(token, LogOff::Changed);
                    self.tokens.forget(token);
                    self.events.tell(&Event::Changed(other.clone()));
                }
                Some(other) if other.pin_state == PinState::Locked && token.pin_state != PinState::Locked => {
                    // The token is unusable until the PIN is unblocked with the SO PIN.
                    self.tokens.forget(token);
                    self.events.tell(&Event::PinLocked(other.clone()));
                }
                Some(_) => {}
            }
        }
    }

    /// A module worker ends its sessions itself.
    fn end_log_in_here(&self, token: &TokenInfo, why: LogOff) {
        if self.annex_of(token).is_none() {
            self.end_log_in(token, why);
        }
    }

    /// Logs each problem once. A client that lists keys only sees that a key is missing.
    fn say_what_is_in_the_way(&self, trouble: &[TokenTrouble]) {
        let now: Vec<String> = trouble.iter().map(|trouble| trouble.error.to_string()).collect();
        let mut said = lock(&self.catalogue.said);
        for text in now.iter().filter(|text| !said.contains(text)) {
            tracing::warn!("{text}");
        }
        *said = now;
    }

    fn tell_what_expires(&self, keysets: &[FoundKeyset]) {
        let soon = self.clock.now().saturating_add(EXPIRES_SOON).unwrap_or(Timestamp::MAX);
        for keyset in keysets {
            let current = keyset.signing.iter().chain(keyset.encryption.first());
            let stored = current.filter_map(|id| keyset.certificates.iter().find(|stored| stored.id == *id));
            for stored in stored {
                let Ok(certificate) = Certificate::from_der(&stored.der) else { continue };
                let not_after = certificate.not_after();
                let mut told = lock(&self.catalogue.told);
                if not_after > soon || told.contains(&stored.der) {
                    continue;
                }
                if told.len() >= TOLD {
                    told.pop_front();
                }
                told.push_back(stored.der.clone());
                drop(told);
                let (keyset, token) = (keyset.name.clone(), keyset.token.clone());
                tracing::warn!(
                    keyset = keyset.as_str(),
                    token = %token.name(),
                    %not_after,
                    "a certificate in use expires soon"
                );
                self.events.tell(&Event::Expiring { keyset, token, not_after });
            }
        }
    }
}

/// Compares serial number and module.
pub(super) fn is_at(one: &TokenInfo, other: &TokenInfo) -> bool {
    one.serial == other.serial && one.module == other.module
}

/// A token that was reinitialized has another label, or no PIN for a while.
pub(super) fn is_another(before: &TokenInfo, now: &TokenInfo) -> bool {
    let lost_its_pin = now.pin_state == PinState::NotSet && before.pin_state != PinState::NotSet;
    before.label != now.label || lost_its_pin
}

fn is_same(one: &Identity, other: &Identity) -> bool {
    one.certificate == other.certificate
        && one.keyset.level == other.keyset.level
        && one.keyset.name == other.keyset.name
        && one.keyset.encryption == other.keyset.encryption
        && one.keyset.standing == other.keyset.standing
        && is_at(&one.keyset.token, &other.keyset.token)
}

/// The tokens whose identities differ.
fn changed_keysets(before: &[Arc<Identity>], now: &[Arc<Identity>]) -> Vec<TokenInfo> {
    let mut changed: Vec<TokenInfo> = Vec::new();
    let missing = |one: &[Arc<Identity>], other: &Arc<Identity>| !one.iter().any(|same| Arc::ptr_eq(same, other));
    let gone = before.iter().filter(|identity| missing(now, identity));
    for identity in gone.chain(now.iter().filter(|identity| missing(before, identity))) {
        if !changed.iter().any(|token| is_at(token, &identity.keyset.token)) {
            changed.push(identity.keyset.token.clone());
        }
    }
    changed
}
