//! Discovers tokens and keysets without a PIN: sources → tokens → public indexes.

use std::sync::Arc;
use std::time::Duration;

use crate::token::{KeysetName, Token, TokenError, TokenInfo, TokenSource};

use super::index;
use super::token_access::TokenAccess;
use super::unusable_sources::UnusableSources;
use super::{FoundKeyset, KeysetError, UnreadableToken};

/// Time limit of a listing of all tokens for a token that another program uses.
const BUSY_TOKEN_TIMEOUT: Duration = Duration::from_millis(300);

/// The PKCS#11 sources that are searched.
#[derive(Clone, Debug)]
pub struct Tokens {
    sources: Vec<TokenSource>,
    unusable_sources: UnusableSources,
    pub(super) access: Arc<TokenAccess>,
    /// Tests that share a source see only the tokens with this label prefix.
    #[cfg(test)]
    prefix: String,
}

impl Tokens {
    /// Searches these sources, for one operation.
    pub fn new(sources: Vec<TokenSource>) -> Self {
        Self {
            sources,
            unusable_sources: UnusableSources::default(),
            access: Arc::new(TokenAccess::one_shot()),
            #[cfg(test)]
            prefix: String::new(),
        }
    }

    /// Keeps tokens open and sessions of levels Medium and Low active between operations, as the
    /// agent does. Without this, every operation asks for the PIN and ends its login.
    #[must_use]
    pub fn with_persistent_sessions(mut self) -> Self {
        self.access = Arc::new(TokenAccess::cached());
        self
    }

    /// For the agent: listings report these sources, and while one is lost, an operation that names
    /// no keyset or token is refused.
    #[must_use]
    pub fn with_unusable_sources(mut self, sources: UnusableSources) -> Self {
        self.unusable_sources = sources;
        self
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

    /// Configured sources that cannot be used.
    pub fn unusable_sources(&self) -> &UnusableSources {
        &self.unusable_sources
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

    /// Like [`Tokens::list`], with the present PIN states. If a state cannot be read, that of the
    /// last listing is returned and a warning is logged.
    pub fn list_with_pin_states(&self) -> Result<Vec<TokenInfo>, KeysetError> {
        let mut tokens = self.list()?;
        for source in self.sources.iter().filter(|source| source.unresponsive_for().is_none()) {
            let own = tokens.iter_mut().filter(|token| source.has(token));
            for (_, error) in self.access.refresh_flags(source, own.map(|token| (token, None))) {
                tracing::warn!("{error}");
            }
        }
        Ok(tokens)
    }

    fn list_by(&self, list: TokenLister) -> Result<Vec<TokenInfo>, KeysetError> {
        let (tokens, unreadable_tokens) = self.list_each(list)?;
        match unreadable_tokens.into_iter().next() {
            Some(unreadable) if tokens.is_empty() => Err(unreadable.error),
            _ => Ok(tokens),
        }
    }

    /// Lists the tokens of each source, and the sources that failed.
    pub(super) fn list_each(&self, list: TokenLister) -> Result<Listing<TokenInfo>, KeysetError> {
        let mut tokens: Vec<TokenInfo> = Vec::new();
        let mut unreadable_tokens = Vec::new();
        for source in &self.sources {
            let listed = match self.access.call(source, list) {
                Ok(listed) => listed,
                Err(error) if !self.access.skips_failed_sources() => return Err(error.into()),
                Err(error) => {
                    unreadable_tokens.push(UnreadableToken::new(source, error));
                    // A source that only does not respond still has its tokens.
                    if source.unresponsive_for().is_some() { source.last_seen() } else { Vec::new() }
                }
            };
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
        Ok((tokens, unreadable_tokens))
    }

    /// Reads all keysets on all tokens. Returns also the tokens that could not be read, among them
    /// those in use by another program.
    pub fn keysets(&self) -> Result<Listing<FoundKeyset>, KeysetError> {
        self.keysets_and(None)
    }

    /// Like [`Tokens::keysets`], but a token whose label is `name` gets the full waiting time when
    /// another program uses it.
    pub(super) fn keysets_and(&self, name: Option<&KeysetName>) -> Result<Listing<FoundKeyset>, KeysetError> {
        let mut found = Vec::new();
        let (tokens, mut unreadable_tokens) = self.list_each(TokenSource::tokens)?;
        let blocked = self.sources.iter().filter_map(|source| Some((source, source.blocked_card()?)));
        unreadable_tokens.extend(blocked.map(|(source, error)| UnreadableToken::new(source, error)));
        unreadable_tokens.extend(self.unusable_sources.errors());
        for token in tokens {
            let wanted = name.is_some_and(|name| token.label == name.as_str());
            let looked = if wanted { self.keysets_on(&token) } else { self.keysets_briefly_on(&token) };
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
                    if !unreadable_tokens.iter().any(|unreadable| unreadable.error.to_string() == text) {
                        unreadable_tokens.push(UnreadableToken::new(token.name(), error));
                    }
                }
            }
        }
        Ok((found, unreadable_tokens))
    }

    /// Reads the keysets on one token. Returns also the keysets whose index is unreadable.
    pub(super) fn keysets_on(&self, info: &TokenInfo) -> Result<Listing<FoundKeyset>, KeysetError> {
        match self.access.keysets(info)? {
            Some(keysets) => Ok((keysets, Vec::new())),
            None => self.read_keysets(info, None),
        }
    }

    /// Like [`Tokens::keysets_on`], for one token among many: with the short waiting time
    /// [`BUSY_TOKEN_TIMEOUT`].
    fn keysets_briefly_on(&self, info: &TokenInfo) -> Result<Listing<FoundKeyset>, KeysetError> {
        if let Some(keysets) = self.access.keysets(info)? {
            return Ok((keysets, Vec::new()));
        }
        let (tokens, info) = (self.clone(), info.clone());
        let source = self.source_of(&info)?;
        self.access.call(source, move |_| tokens.read_keysets(&info, Some(BUSY_TOKEN_TIMEOUT)))
    }

    /// Reads the public indexes of a token.
    fn read_keysets(&self, info: &TokenInfo, timeout: Option<Duration>) -> Result<Listing<FoundKeyset>, KeysetError> {
        let token = self.access.open(self.source_of(info)?, info, timeout)?;
        let (keysets, unreadable_tokens) = keysets_of(&token, info)?;
        // Incomplete results are not kept, so that the next call reads again.
        if unreadable_tokens.is_empty() {
            self.access.keep_keysets(info, &token, &keysets);
        }
        Ok((keysets, unreadable_tokens))
    }

    /// Opens a token that was found.
    pub(super) fn open(&self, info: &TokenInfo) -> Result<Token, KeysetError> {
        self.access.open(self.source_of(info)?, info, None)
    }

    /// Discards the keysets of this token that are kept; the next listing reads its public indexes.
    pub fn forget_keysets(&self, info: &TokenInfo) {
        self.access.forget_keysets(info);
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
pub type Listing<T> = (Vec<T>, Vec<UnreadableToken>);

pub(super) fn keysets_of(token: &Token, info: &TokenInfo) -> Result<Listing<FoundKeyset>, KeysetError> {
    let (indexes, unreadable) = index::public_indexes(token)?;
    let certificates = if indexes.is_empty() { Vec::new() } else { token.certificates()? };
    let name = info.name().to_string();
    let unreadable_tokens =
        unreadable.into_iter().map(|unreadable| UnreadableToken::new(&name, unreadable.into_error(&name)));
    let found = indexes.into_iter().map(|index| FoundKeyset::from_index(index, info, &certificates));
    Ok((found.collect(), unreadable_tokens.collect()))
}
