//! Discovers tokens and keysets without a PIN: sources → tokens → public indexes.

use std::sync::Arc;
use std::time::Duration;

use crate::token::{KeysetName, Token, TokenError, TokenInfo, TokenSource};

use super::index;
use super::token_cache::TokenCache;
use super::unusable_sources::UnusableSources;
use super::{FoundKeyset, KeysetError, UnreadableToken};

/// Time limit of a listing of all tokens for a token that another program uses.
const BUSY_TOKEN_TIMEOUT: Duration = Duration::from_millis(300);

/// The PKCS#11 sources that are searched.
#[derive(Clone, Debug)]
pub struct Tokens {
    sources: Vec<TokenSource>,
    /// Configured sources that cannot be used.
    pub(super) unusable_sources: UnusableSources,
    /// State kept between operations; only the agent has it.
    pub(super) token_cache: Option<Arc<TokenCache>>,
    /// Tests that share a source see only the tokens with this label prefix.
    #[cfg(test)]
    prefix: String,
}

impl Tokens {
    /// Searches these sources.
    pub fn new(sources: Vec<TokenSource>) -> Self {
        Self {
            sources,
            unusable_sources: UnusableSources::default(),
            token_cache: None,
            #[cfg(test)]
            prefix: String::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn seeing_only(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// The sources.
    pub fn sources(&self) -> &[TokenSource] {
        &self.sources
    }

    /// Lists all initialized tokens present, in the order of the sources. A token shown by two
    /// sources is listed once.
    pub fn list(&self) -> Result<Vec<TokenInfo>, KeysetError> {
        self.list_by(TokenSource::tokens)
    }

    /// Like [`Tokens::list`], but without a request to any card: the token information dates from
    /// the insertion or the last listing.
    pub fn poll_tokens(&self) -> Result<Vec<TokenInfo>, KeysetError> {
        self.list_by(TokenSource::poll_tokens)
    }

    fn list_by(&self, look: TokenLister) -> Result<Vec<TokenInfo>, KeysetError> {
        let (tokens, unreadable_tokens) = self.list_each(look);
        match unreadable_tokens.into_iter().next() {
            // The agent continues with the sources that work.
            Some(unreadable_tokens) if self.token_cache.is_none() || tokens.is_empty() => Err(unreadable_tokens.error),
            _ => Ok(tokens),
        }
    }

    /// Lists the tokens of each source, and the sources that failed.
    pub(super) fn list_each(&self, look: TokenLister) -> Listing<TokenInfo> {
        let mut tokens: Vec<TokenInfo> = Vec::new();
        let mut unreadable_tokens = Vec::new();
        for source in &self.sources {
            let listed = self.query(source, look).unwrap_or_else(|error| {
                let place = source.path().display().to_string();
                unreadable_tokens.push(UnreadableToken { place, error: error.into() });
                // A source that only does not respond still has its tokens.
                if source.unresponsive_for().is_some() { source.last_seen() } else { Vec::new() }
            });
            for token in listed {
                #[cfg(test)]
                if !token.label.starts_with(&self.prefix) {
                    continue;
                }
                if !tokens.iter().any(|listed| listed.id() == token.id()) {
                    tokens.push(token);
                }
            }
        }
        (tokens, unreadable_tokens)
    }

    /// Queries a source. In the agent the query has a time limit, because other requests must not
    /// wait for one source.
    pub(super) fn query<T: Send + 'static>(
        &self,
        source: &TokenSource,
        ask: impl FnOnce(&TokenSource) -> Result<T, TokenError> + Send + 'static,
    ) -> Result<T, TokenError> {
        if self.token_cache.is_none() {
            return ask(source);
        }
        let of_thread = source.clone();
        source.ask(move || ask(&of_thread))?
    }

    /// Reads all keysets on all tokens. Returns also the tokens that could not be read, among them
    /// those in use by another program.
    pub fn keysets(&self) -> Result<(Vec<FoundKeyset>, Vec<UnreadableToken>), KeysetError> {
        self.keysets_and(None)
    }

    /// Like [`Tokens::keysets`], but a token whose label is `name` gets the full waiting time when
    /// another program uses it.
    pub(super) fn keysets_and(
        &self,
        name: Option<&KeysetName>,
    ) -> Result<(Vec<FoundKeyset>, Vec<UnreadableToken>), KeysetError> {
        let mut found = Vec::new();
        let (tokens, mut unreadable_tokens) = self.list_each(TokenSource::tokens);
        if self.token_cache.is_none() && !unreadable_tokens.is_empty() {
            return Err(unreadable_tokens.swap_remove(0).error);
        }
        let taken = self
            .sources
            .iter()
            .filter_map(|source| Some((source.path().display().to_string(), source.blocked_card()?)));
        unreadable_tokens.extend(taken.map(|(place, error)| UnreadableToken { place, error: error.into() }));
        unreadable_tokens.extend(self.unusable_source_errors());
        for token in tokens {
            let wanted = name.is_some_and(|name| token.label == name.as_str());
            let looked = if wanted { self.read_keysets_on(&token, None) } else { self.read_keysets_briefly(&token) };
            match looked {
                Err(KeysetError::AuthorityToken { .. }) => {}
                Ok((keysets, unreadable)) => {
                    found.extend(keysets);
                    unreadable_tokens.extend(unreadable);
                }
                // This error concerns every token.
                Err(error @ KeysetError::Token(TokenError::LockDirectory { .. })) => return Err(error),
                Err(error) => {
                    // Report an unresponsive source once, not for each of its tokens.
                    let text = error.to_string();
                    if !unreadable_tokens.iter().any(|unreadable_tokens| unreadable_tokens.error.to_string() == text) {
                        unreadable_tokens.push(UnreadableToken { place: token.name().to_string(), error });
                    }
                }
            }
        }
        Ok((found, unreadable_tokens))
    }

    /// Reads the keysets on one token. Returns also the keysets whose index is unreadable.
    pub(super) fn keysets_on(&self, info: &TokenInfo) -> Result<(Vec<FoundKeyset>, Vec<UnreadableToken>), KeysetError> {
        self.read_keysets_on(info, None)
    }

    /// Opens a token that was found.
    pub(super) fn open(&self, info: &TokenInfo) -> Result<Token, KeysetError> {
        self.open_within(info, None)
    }

    /// Opens a token, waiting no longer than `timeout` for another program to release it. A
    /// program such as an authority may own its token permanently.
    fn open_within(&self, info: &TokenInfo, timeout: Option<Duration>) -> Result<Token, KeysetError> {
        if let Some(token_cache) = &self.token_cache {
            if token_cache.is_authority_token(info) {
                return Err(authority_token_error(info));
            }
            self.source_of(info)?.check_responsive()?;
            if let Some(token) = token_cache.open(info) {
                return Ok(token);
            }
        }
        let source = self.source_of(info)?;
        if source.is_used_by_authority(info) {
            return Err(authority_token_error(info));
        }
        let opened = match (timeout, &self.token_cache) {
            (Some(timeout), Some(token_cache)) => {
                let opened = source.open_within(info, token_cache.timeout(info, timeout));
                token_cache.note_held(info, &opened);
                opened
            }
            (Some(timeout), None) => source.open_within(info, timeout),
            (None, _) => source.open(info),
        };
        let token = opened?;
        if !token.is_authority_token()? {
            return Ok(token);
        }
        if let Some(token_cache) = &self.token_cache {
            token_cache.note_authority_token(info);
        }
        Err(authority_token_error(info))
    }

    /// Reads the keysets of one token among many, with the short waiting time
    /// [`BUSY_TOKEN_TIMEOUT`].
    fn read_keysets_briefly(&self, info: &TokenInfo) -> Result<Listing<FoundKeyset>, KeysetError> {
        let Some(token_cache) = &self.token_cache else { return self.read_keysets_on(info, Some(BUSY_TOKEN_TIMEOUT)) };
        if let Some(keysets) = token_cache.keysets(info) {
            return Ok((keysets, Vec::new()));
        }
        let (tokens, of_thread) = (self.clone(), info.clone());
        self.source_of(info)?.ask(move || tokens.read_keysets_on(&of_thread, Some(BUSY_TOKEN_TIMEOUT)))?
    }

    /// Returns a token's keysets from the cache, or reads its public indexes.
    fn read_keysets_on(
        &self,
        info: &TokenInfo,
        timeout: Option<Duration>,
    ) -> Result<Listing<FoundKeyset>, KeysetError> {
        let Some(token_cache) = &self.token_cache else {
            return keysets_of(&self.open_within(info, timeout)?, info);
        };
        if token_cache.is_authority_token(info) {
            return Err(authority_token_error(info));
        }
        if let Some(keysets) = token_cache.keysets(info) {
            return Ok((keysets, Vec::new()));
        }
        let token = self.open_within(info, timeout)?;
        let (keysets, unreadable_tokens) = keysets_of(&token, info)?;
        // Incomplete results are not cached, so that the next call reads again.
        if unreadable_tokens.is_empty() {
            token_cache.keep_keysets(info, &token, &keysets);
        }
        Ok((keysets, unreadable_tokens))
    }

    /// The source through which the token was found.
    pub fn source_of(&self, info: &TokenInfo) -> Result<&TokenSource, KeysetError> {
        self.sources.iter().find(|source| source.has(info)).ok_or_else(|| KeysetError::NoSuchToken {
            selector: info.name().to_string(),
            found: format!("its module {} is not loaded", info.source.display()),
        })
    }
}

/// Lists the tokens of a source.
pub(super) type TokenLister = fn(&TokenSource) -> Result<Vec<TokenInfo>, TokenError>;

/// The items found, and the tokens that could not be read.
pub(super) type Listing<T> = (Vec<T>, Vec<UnreadableToken>);

/// The error for a token that belongs to an authority.
fn authority_token_error(info: &TokenInfo) -> KeysetError {
    KeysetError::AuthorityToken { token: info.name().to_string() }
}

pub(super) fn keysets_of(token: &Token, info: &TokenInfo) -> Result<Listing<FoundKeyset>, KeysetError> {
    let (indexes, unreadable) = index::public_indexes(token)?;
    let certificates = if indexes.is_empty() { Vec::new() } else { token.certificates()? };
    let place = info.name().to_string();
    let unreadable_tokens = unreadable
        .into_iter()
        .map(|unreadable| UnreadableToken { place: place.clone(), error: unreadable.into_error(&place) });
    let found = indexes.into_iter().map(|index| FoundKeyset::from_index(index, info, &certificates));
    Ok((found.collect(), unreadable_tokens.collect()))
}
