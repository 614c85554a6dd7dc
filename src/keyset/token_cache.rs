//! The agent's cache between operations: open tokens and the content of their public indexes.
//!
//! It holds no PIN. An active session belongs to the open token itself.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::token::{Pin, PinLease, PinSession, PinState, Token, TokenError, TokenId, TokenInfo, TokenSource};

use super::find::keysets_of;
use super::{FoundKeyset, KeysetError, Tokens};

/// Number of consecutive wrong PINs from which the next prompt is delayed.
const DELAY_AFTER: u32 = 3;
/// Number of consecutive wrong PINs from which no further one is accepted.
const REFUSED_AFTER: u32 = 10;
/// The longest delay before a prompt.
const MAX_DELAY: Duration = Duration::from_secs(30);
/// The delay after [`DELAY_AFTER`] wrong PINs; it doubles with each further one.
#[cfg(not(test))]
const FIRST_DELAY: Duration = Duration::from_secs(1);
#[cfg(test)]
const FIRST_DELAY: Duration = Duration::from_millis(1);

/// The cache: one entry per token.
#[derive(Debug, Default)]
pub(super) struct TokenCache {
    tokens: Mutex<HashMap<TokenId, CachedToken>>,
    // Tokens that another program owned at the last attempt: the next listing does not wait for
    // them.
    held: Mutex<HashSet<TokenId>>,
}

#[derive(Debug)]
struct CachedToken {
    // `None` for an authority's token: it is opened once for inspection, and never kept open.
    open: Option<Token>,
    keysets: Option<Vec<FoundKeyset>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TokenCache {
    /// Returns the token if it is open and still present.
    pub fn open(&self, info: &TokenInfo) -> Option<Token> {
        let token = lock(&self.tokens).get(&info.id())?.open.clone()?;
        if token.is_present() {
            return Some(token);
        }
        self.forget(info);
        None
    }

    /// Time limit of a listing for this token.
    pub fn timeout(&self, info: &TokenInfo, usual: Duration) -> Duration {
        if lock(&self.held).contains(&info.id()) { Duration::ZERO } else { usual }
    }

    /// Records whether another program owns the token.
    pub fn note_held<T>(&self, info: &TokenInfo, result: &Result<T, TokenError>) {
        let mut held = lock(&self.held);
        match result {
            Err(TokenError::Owned { .. }) => held.insert(info.id()),
            _ => held.remove(&info.id()),
        };
    }

    /// Returns whether the token is known to belong to an authority.
    pub fn is_authority_token(&self, info: &TokenInfo) -> bool {
        lock(&self.tokens).get(&info.id()).is_some_and(|cached| cached.open.is_none())
    }

    /// The keysets found when the public indexes were last read.
    pub fn keysets(&self, info: &TokenInfo) -> Option<Vec<FoundKeyset>> {
        lock(&self.tokens).get(&info.id())?.keysets.clone()
    }

    pub fn keep(&self, info: &TokenInfo, token: &Token) {
        let mut tokens = lock(&self.tokens);
        let keysets = tokens.remove(&info.id()).and_then(|cached| cached.keysets);
        tokens.insert(info.id(), CachedToken { open: Some(token.clone()), keysets });
    }

    /// Caches a token on which keysets were found. A token without keysets is released, so that
    /// other programs can enroll on it; so is a token with a locked PIN, so that `pin unblock` can
    /// open it.
    pub fn keep_keysets(&self, info: &TokenInfo, token: &Token, keysets: &[FoundKeyset]) {
        let is_useless = keysets.is_empty() || matches!(info.pin_state, PinState::Locked | PinState::NotSet);
        if is_useless && !token.has_active_session() {
            self.forget(info);
            return;
        }
        let cached = CachedToken { open: Some(token.clone()), keysets: Some(keysets.to_vec()) };
        lock(&self.tokens).insert(info.id(), cached);
    }

    pub fn note_authority_token(&self, info: &TokenInfo) {
        lock(&self.tokens).insert(info.id(), CachedToken { open: None, keysets: Some(Vec::new()) });
    }

    /// Discards the cached keysets; the token stays open.
    pub fn forget_keysets(&self, info: &TokenInfo) {
        if let Some(cached) = lock(&self.tokens).get_mut(&info.id()).filter(|cached| cached.open.is_some()) {
            cached.keysets = None;
        }
    }

    pub fn forget(&self, info: &TokenInfo) {
        // Dropped outside the lock: closing a token calls its source.
        let cached = lock(&self.tokens).remove(&info.id());
        drop(cached);
    }

    pub fn tokens(&self) -> Vec<Token> {
        lock(&self.tokens).values().filter_map(|cached| cached.open.clone()).collect()
    }

    /// The open tokens of this source, with the keysets found on them.
    fn read_tokens(&self, source: &TokenSource) -> Vec<(Token, Vec<FoundKeyset>)> {
        let tokens = lock(&self.tokens);
        let read = tokens.values().filter_map(|cached| Some((cached.open.clone()?, cached.keysets.clone()?)));
        read.filter(|(token, _)| source.has(token.info())).collect()
    }

    /// Releases every token of this source that has no active session.
    fn release_idle_tokens(&self, source: &TokenSource) {
        let mut idle = Vec::new();
        lock(&self.tokens).retain(|_, cached| {
            // Authority tokens stay recorded, so that they are not opened again for inspection.
            let is_idle = |token: &Token| source.has(token.info()) && !token.has_active_session();
            let stays = !cached.open.as_ref().is_some_and(is_idle);
            if !stays {
                idle.extend(cached.open.take());
            }
            stays
        });
        drop(idle);
    }

    /// Limits guessing independently of the token, because some tokens (such as SoftHSM) accept any
    /// number of wrong PINs. Costs no try.
    fn throttle_wrong_pins(token: &Token, operation: &'static str) -> Result<(), KeysetError> {
        let wrong = token.wrong_pins_in_a_row();
        if wrong >= REFUSED_AFTER {
            return Err(KeysetError::TooManyWrongPins { operation, token: token.info().name(), wrong });
        }
        if let Some(more) = wrong.checked_sub(DELAY_AFTER) {
            std::thread::sleep(FIRST_DELAY.saturating_mul(1 << more.min(8)).min(MAX_DELAY));
        }
        Ok(())
    }
}

/// The exclusive right to ask for a token's PIN and to try it. In the agent, concurrent operations
/// wait for it.
pub(super) struct TokenLease {
    token: Token,
    lease: Option<PinLease>,
    token_cache: Option<Arc<TokenCache>>,
    // The user was warned that one try is left, and accepted the risk.
    last_try_allowed: Cell<bool>,
}

impl Tokens {
    /// Keeps tokens open and sessions of levels Medium and Low active between operations, as the
    /// agent does. Without this, every operation asks for the PIN and ends its login.
    #[must_use]
    pub fn with_persistent_sessions(mut self) -> Self {
        self.token_cache = Some(Arc::default());
        self
    }

    pub(super) fn has_persistent_sessions(&self) -> bool {
        self.token_cache.is_some()
    }

    /// The open tokens with an active session.
    pub fn active_sessions(&self) -> Vec<Token> {
        self.token_cache.iter().flat_map(|cache| cache.tokens()).filter(Token::has_active_session_settled).collect()
    }

    /// Lists all tokens as [`Tokens::list`] does, with a fresh PIN state: sources of an agent may
    /// cache what tokens reported at its start. If a state cannot be refreshed, the cached one is
    /// returned and a warning is logged.
    pub fn list_as_of_now(&self) -> Result<Vec<TokenInfo>, KeysetError> {
        let mut tokens = self.list()?;
        let sources = self.sources().iter().filter(|source| source.unresponsive_for().is_none());
        for source in sources.filter(|_| self.token_cache.is_some()) {
            for (_, error) in source.refresh_pin_states(tokens.iter_mut()) {
                tracing::warn!("{error}");
            }
        }
        Ok(tokens)
    }

    /// Discards all cached keysets; the next listing reads the public indexes again.
    pub fn forget_all_keysets(&self) {
        for token in self.token_cache.iter().flat_map(|cache| cache.tokens()) {
            self.forget_keysets(token.info());
        }
    }

    /// Discards the cached keysets of this token.
    pub fn forget_keysets(&self, info: &TokenInfo) {
        if let Some(token_cache) = &self.token_cache {
            token_cache.forget_keysets(info);
        }
    }

    /// Removes a token that is absent or has been replaced. Its session ends.
    pub fn forget(&self, info: &TokenInfo) {
        if let Some(token_cache) = &self.token_cache {
            token_cache.forget(info);
        }
    }

    /// Restarts sources, so that they show tokens created by other processes. Without
    /// `with_readers`, only sources without card readers are restarted: a reader reports insertions
    /// itself, and restarting its source is slow. Tokens without an active session are released
    /// first; a source with a token in use is not restarted.
    pub fn rescan(&self, with_readers: bool) -> Result<(), KeysetError> {
        let mut failed = None;
        for source in self.sources() {
            // A stopped source cannot report its readers, and owns no card that other programs
            // need.
            if !source.is_stopped() {
                // Skip an unresponsive source: listing its tokens reports the error.
                let queried = source.clone();
                let Ok(has_readers) = source.ask(move || queried.has_readers()) else { continue };
                let is_left_alone = match has_readers {
                    Ok(has_readers) => !with_readers && has_readers,
                    Err(error) => {
                        failed.get_or_insert(error);
                        true
                    }
                };
                if is_left_alone {
                    continue;
                }
            }
            if let Some(token_cache) = &self.token_cache {
                token_cache.release_idle_tokens(source);
            }
            // Continue with the other sources.
            if let Err(error) = source.rescan() {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The open tokens whose keysets were changed by another program, which may even have
    /// reinitialized the token with the same serial number and label. Sources with readers are
    /// skipped: they report a replaced card themselves.
    pub fn externally_changed(&self) -> Vec<TokenInfo> {
        let mut changed = Vec::new();
        for source in self.sources() {
            let Some(token_cache) = self.token_cache.as_ref().filter(|_| source.unresponsive_for().is_none()) else {
                continue;
            };
            if source.has_readers().unwrap_or(true) {
                continue;
            }
            for (token, before) in token_cache.read_tokens(source) {
                let info = token.info().clone();
                let now = self.query(source, move |_| Ok(keysets_of(&token, token.info())));
                // Other code reports unreadable tokens.
                if let Ok(Ok((now, unreadable_tokens))) = now
                    && (now != before || !unreadable_tokens.is_empty())
                {
                    changed.push(info);
                }
            }
        }
        changed
    }

    /// Waits until no other operation uses a PIN of this token.
    pub(super) fn acquire_lease(&self, token: &Token) -> TokenLease {
        let lease = self.token_cache.is_some().then(|| token.acquire_pin_lease());
        let last_try_allowed = Cell::new(false);
        TokenLease { token: token.clone(), lease, token_cache: self.token_cache.clone(), last_try_allowed }
    }
}

impl TokenLease {
    /// The token whose PIN may be tried.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Enforces the limit of wrong PINs before the prompt.
    pub fn throttle_wrong_pins(&self, operation: &'static str) -> Result<(), KeysetError> {
        if self.token_cache.is_none() {
            return Ok(());
        }
        TokenCache::throttle_wrong_pins(&self.token, operation)
    }

    /// Records that the user accepted to risk the token's last try.
    pub fn allow_last_try(&self) {
        self.last_try_allowed.set(true);
    }

    fn with_last_try(&self, pin: Pin) -> Pin {
        if self.last_try_allowed.get() { pin.allow_last_try() } else { pin }
    }

    /// The error of the preceding operation's failed login, if this operation waited for it: it
    /// shares the result at no further try.
    pub fn failed_meanwhile(&self) -> Option<TokenError> {
        self.lease.as_ref().and_then(PinLease::failed_meanwhile)
    }

    /// Returns whether the user declined the preceding operation's login while this one waited; the
    /// user is not asked again.
    pub fn declined_meanwhile(&self) -> bool {
        self.lease.as_ref().is_some_and(PinLease::declined_meanwhile)
    }

    /// Ends the lease because the user declined.
    pub fn decline(self) {
        if let Some(lease) = self.lease {
            lease.decline();
        }
    }

    /// Logs in for one operation, with one try.
    pub fn unlock(self, pin: Pin) -> Result<PinSession, TokenError> {
        let pin = self.with_last_try(pin);
        match self.lease {
            Some(lease) => lease.unlock(pin),
            None => self.token.unlock(pin),
        }
    }

    /// Logs in with one try; the session stays active after the operation.
    pub fn open_session(self, pin: Pin) -> Result<PinSession, TokenError> {
        let pin = self.with_last_try(pin);
        let Some(lease) = self.lease else { return self.token.unlock(pin) };
        let result = lease.open_session(pin);
        if let (Ok(_), Some(token_cache)) = (&result, &self.token_cache) {
            token_cache.keep(self.token.info(), &self.token);
        }
        result
    }

    /// Verifies the PIN with one try and logs out again; the lease continues. Returns the correct
    /// PIN.
    pub fn verify(&self, pin: Pin) -> Result<Pin, TokenError> {
        let pin = self.with_last_try(pin);
        self.token.verify_pin(&pin)?;
        Ok(pin)
    }

    /// Changes the PIN; costs one try of the old one.
    pub fn change_pin(self, old: Pin, new: &Pin) -> Result<(), TokenError> {
        let old = self.with_last_try(old);
        self.token.change_pin(&old, new)
    }
}
