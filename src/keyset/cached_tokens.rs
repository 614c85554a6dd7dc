//! What the agent does with the tokens that it keeps open: sessions, listings with fresh states,
//! and the search for tokens that other programs made or changed.

use std::path::PathBuf;
use std::sync::Arc;

use crate::token::{Token, TokenError, TokenInfo};

use super::find::keysets_of;
use super::unusable_sources::UnusableSources;
use super::{KeysetError, Tokens, UnreadableToken};

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

    /// Excludes the sources of these load errors.
    #[must_use]
    pub fn with_unusable_sources(mut self, errors: Vec<TokenError>) -> Self {
        self.unusable_sources = UnusableSources::of(errors);
        self
    }

    /// Excludes sources that crashed earlier workers of the agent.
    #[must_use]
    pub fn without_crashed_sources(mut self, sources: &[PathBuf]) -> Self {
        self.unusable_sources.add_crashed(sources);
        self
    }

    /// Treats every unusable source as lost: it was usable when the agent started.
    #[must_use]
    pub fn with_lost_sources(mut self) -> Self {
        self.unusable_sources.mark_lost();
        self
    }

    /// Refuses an operation without a selector while a source is lost: it may hold the intended
    /// token, and the remaining ones must not be taken for it.
    ///
    /// # Errors
    /// The reason why the source is lost.
    pub fn require_all_sources(&self) -> Result<(), KeysetError> {
        self.unusable_sources.require_none_lost()
    }

    /// The reasons why sources cannot be used, for the agent's listings only: a command reports
    /// them once, when it loads the sources.
    pub(super) fn unusable_source_errors(&self) -> Vec<UnreadableToken> {
        if self.has_persistent_sessions() { self.unusable_sources.errors() } else { Vec::new() }
    }

    /// The sources whose loading crashed the process or timed out, to be retried.
    pub fn refused_sources(&self) -> Vec<PathBuf> {
        self.unusable_sources.refused()
    }
}
