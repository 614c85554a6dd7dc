//! How this process accesses tokens: for one operation, or for many at the same time.
//!
//! A command runs one operation: it opens a token, asks for the PIN, logs out and exits. The agent
//! runs many at once. It keeps tokens open, with the content of their public indexes, keeps
//! sessions active, and must not let one module delay the others. [`TokenAccess`] is the only type
//! that knows which of the two this process does; other code asks it.
//!
//! It holds no PIN. An active session belongs to the open token itself.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::token::{PinState, Token, TokenError, TokenFlags, TokenId, TokenInfo, TokenSource, UnreadTokens};

use super::{FoundKeyset, KeysetError, wrong_pin_limit};

/// One-shot: keeps nothing, and each operation ends its login. Cached: keeps tokens open, with
/// their keysets and sessions.
#[derive(Debug)]
pub(super) struct TokenAccess {
    is_cached: bool,
    // Empty if one-shot.
    tokens: Mutex<HashMap<TokenId, CachedToken>>,
    // Tokens that another process owned at the last attempt: the next listing does not wait for
    // them. Empty if one-shot.
    owned_elsewhere: Mutex<HashSet<TokenId>>,
}

#[derive(Debug, Default)]
struct CachedToken {
    // `None` for an authority's token: it is opened once for inspection, and never kept open.
    open: Option<Token>,
    keysets: Option<Vec<FoundKeyset>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The decisions in which the two differ.
impl TokenAccess {
    /// For one operation.
    pub fn one_shot() -> Self {
        Self { is_cached: false, tokens: Mutex::default(), owned_elsewhere: Mutex::default() }
    }

    /// For many concurrent operations.
    pub fn cached() -> Self {
        Self { is_cached: true, ..Self::one_shot() }
    }

    /// Returns whether a login at level Medium or Low starts a session that outlives its operation.
    pub fn keeps_sessions(&self) -> bool {
        self.is_cached
    }

    /// Returns whether a listing of all tokens continues after a source has failed.
    pub fn skips_failed_sources(&self) -> bool {
        self.is_cached
    }

    /// Calls a source. If cached, the call has a time limit, because other operations must not wait
    /// for one source.
    pub fn call<T: Send + 'static, E: From<TokenError> + Send + 'static>(
        &self,
        source: &TokenSource,
        call: impl FnOnce(&TokenSource) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        if !self.is_cached {
            return call(source);
        }
        let of_thread = source.clone();
        source.ask(move || call(&of_thread))?
    }

    /// Opens a token of this source, or returns the open one. Waits no longer than `timeout` for
    /// another process to release it: a program such as an authority may own its token permanently.
    ///
    /// # Errors
    /// Also for an authority's token.
    pub fn open(
        &self,
        source: &TokenSource,
        info: &TokenInfo,
        timeout: Option<Duration>,
    ) -> Result<Token, KeysetError> {
        self.refuse_known_authority_token(info)?;
        if self.is_cached {
            source.check_responsive()?;
        }
        if let Some(token) = self.cached_token(info) {
            return Ok(token);
        }
        if source.is_used_by_authority(info) {
            return Err(authority_token_error(info));
        }
        let token = match timeout {
            Some(timeout) => self.open_within(source, info, timeout)?,
            None => source.open(info)?,
        };
        if token.is_authority_token()? {
            self.insert(info, CachedToken::default());
            return Err(authority_token_error(info));
        }
        Ok(token)
    }

    /// Updates the PIN flags of tokens of this source, as [`TokenSource::refresh_flags`] does. Only
    /// if cached: the module may still report the flags of its initialization, which is just past
    /// in a command.
    pub fn refresh_flags<'a>(
        &self,
        source: &TokenSource,
        tokens: impl Iterator<Item = (&'a mut TokenInfo, Option<&'a mut TokenFlags>)>,
    ) -> UnreadTokens {
        if self.is_cached { source.refresh_flags(tokens) } else { Vec::new() }
    }

    /// Limits wrong PINs if cached, because then a program may ask on behalf of others, any number
    /// of times. Costs no try.
    pub fn limit_wrong_pins(&self, token: &Token, operation: &'static str) -> Result<(), KeysetError> {
        if self.is_cached { wrong_pin_limit::enforce(token, operation) } else { Ok(()) }
    }

    fn insert(&self, info: &TokenInfo, cached: CachedToken) {
        if self.is_cached {
            lock(&self.tokens).insert(info.id(), cached);
        }
    }

    fn open_within(&self, source: &TokenSource, info: &TokenInfo, timeout: Duration) -> Result<Token, TokenError> {
        let is_owned = lock(&self.owned_elsewhere).contains(&info.id());
        let opened = source.open_within(info, if is_owned { Duration::ZERO } else { timeout });
        if self.is_cached {
            let mut owned = lock(&self.owned_elsewhere);
            match &opened {
                Err(TokenError::Owned { .. }) => owned.insert(info.id()),
                _ => owned.remove(&info.id()),
            };
        }
        opened
    }
}

/// The cache.
impl TokenAccess {
    /// The keysets found when the public indexes of this token were last read; `None` if they must
    /// be read.
    ///
    /// # Errors
    /// The token is known to belong to an authority.
    pub fn keysets(&self, info: &TokenInfo) -> Result<Option<Vec<FoundKeyset>>, KeysetError> {
        self.refuse_known_authority_token(info)?;
        Ok(lock(&self.tokens).get(&info.id()).and_then(|cached| cached.keysets.clone()))
    }

    /// Keeps a token open on which a session is active.
    pub fn keep(&self, token: &Token) {
        if self.is_cached {
            lock(&self.tokens).entry(token.info().id()).or_default().open = Some(token.clone());
        }
    }

    /// Keeps a token open on which keysets were found. A token without keysets is released, so that
    /// other programs can enroll on it; so is a token with a locked PIN, so that `pin unblock` can
    /// open it.
    pub fn keep_keysets(&self, info: &TokenInfo, token: &Token, keysets: &[FoundKeyset]) {
        let is_useless = keysets.is_empty() || matches!(info.pin_state, PinState::Locked | PinState::NotSet);
        if is_useless && !token.has_active_session() {
            return self.forget(info);
        }
        self.insert(info, CachedToken { open: Some(token.clone()), keysets: Some(keysets.to_vec()) });
    }

    /// Discards the cached keysets; the token stays open.
    pub fn forget_keysets(&self, info: &TokenInfo) {
        if let Some(cached) = lock(&self.tokens).get_mut(&info.id()) {
            cached.keysets = None;
        }
    }

    pub fn forget(&self, info: &TokenInfo) {
        // Dropped outside the lock: closing a token calls its source.
        let cached = lock(&self.tokens).remove(&info.id());
        drop(cached);
    }

    /// The open tokens.
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
        // Authority tokens stay recorded, so that they are not opened again for inspection.
        let is_idle = |token: &Token| source.has(token.info()) && !token.has_active_session();
        let idle: Vec<_> =
            lock(&self.tokens).extract_if(|_, cached| cached.open.as_ref().is_some_and(is_idle)).collect();
        // Dropped outside the lock: closing a token calls its source.
        drop(idle);
    }

    /// Returns the token if it is open and still present.
    fn cached_token(&self, info: &TokenInfo) -> Option<Token> {
        let token = lock(&self.tokens).get(&info.id())?.open.clone()?;
        if token.is_present() {
            return Some(token);
        }
        self.forget(info);
        None
    }

    fn refuse_known_authority_token(&self, info: &TokenInfo) -> Result<(), KeysetError> {
        match lock(&self.tokens).get(&info.id()) {
            Some(CachedToken { open: None, .. }) => Err(authority_token_error(info)),
            _ => Ok(()),
        }
    }
}

fn authority_token_error(info: &TokenInfo) -> KeysetError {
    KeysetError::AuthorityToken { token: info.name().to_string() }
}
