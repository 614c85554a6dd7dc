//! The agent's cache between operations: open tokens and the content of their public indexes.
//!
//! It holds no PIN. An active session belongs to the open token itself.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::token::{PinState, Token, TokenError, TokenId, TokenInfo, TokenSource};

use super::FoundKeyset;

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
    pub fn read_tokens(&self, source: &TokenSource) -> Vec<(Token, Vec<FoundKeyset>)> {
        let tokens = lock(&self.tokens);
        let read = tokens.values().filter_map(|cached| Some((cached.open.clone()?, cached.keysets.clone()?)));
        read.filter(|(token, _)| source.has(token.info())).collect()
    }

    /// Releases every token of this source that has no active session.
    pub fn release_idle_tokens(&self, source: &TokenSource) {
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
}
