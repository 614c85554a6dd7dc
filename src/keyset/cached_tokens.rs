//! What the agent does with the tokens that it keeps open: it lists their sessions, releases them,
//! and searches for tokens that other programs made or changed. A command needs none of this.

use crate::token::{Token, TokenInfo};

use super::find::keysets_of;
use super::{KeysetError, Tokens};

impl Tokens {
    /// The open tokens with an active session.
    pub fn active_sessions(&self) -> Vec<Token> {
        self.access.tokens().into_iter().filter(Token::has_active_session_settled).collect()
    }

    /// Discards all cached keysets; the next listing reads the public indexes again.
    pub fn forget_all_keysets(&self) {
        for token in self.access.tokens() {
            self.forget_keysets(token.info());
        }
    }

    /// Removes a token that is absent or has been replaced. Its session ends.
    pub fn forget(&self, info: &TokenInfo) {
        self.access.forget(info);
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
            self.access.release_idle_tokens(source);
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
        for source in self.sources().iter().filter(|source| source.unresponsive_for().is_none()) {
            if source.has_readers().unwrap_or(true) {
                continue;
            }
            for (token, before) in self.access.read_tokens(source) {
                let info = token.info().clone();
                let now = self.access.call(source, move |_| keysets_of(&token, token.info()));
                // Other code reports unreadable tokens.
                if let Ok((now, unreadable_tokens)) = now
                    && (now != before || !unreadable_tokens.is_empty())
                {
                    changed.push(info);
                }
            }
        }
        changed
    }
}
