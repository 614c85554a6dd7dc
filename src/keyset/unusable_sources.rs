//! Configured sources that cannot be used. Other sources work; listings of keysets report these
//! ones.

use std::path::PathBuf;

use super::{ErrorKind, KeysetError, Tokens, UnreadableToken};
use crate::token::{TokenError, check};

/// A source that is not searched.
#[derive(Clone, Debug)]
pub(super) struct UnusableSource {
    source: PathBuf,
    error: TokenError,
    /// Did loading crash the process or time out? Otherwise loading only failed.
    is_refused: bool,
    /// May it hold the token that a request without a selector means?
    is_lost: bool,
}

impl Tokens {
    /// Excludes the sources of these load errors.
    #[must_use]
    pub fn with_unusable_sources(mut self, errors: Vec<TokenError>) -> Self {
        let unusable = |error: TokenError| {
            let TokenError::Source { path, .. } = &error else { return None };
            let source = path.clone();
            let is_refused = check::is_refused(&source);
            Some(UnusableSource { source, error, is_refused, is_lost: false })
        };
        self.unusable_sources = errors.into_iter().filter_map(unusable).collect();
        self
    }

    /// Excludes sources that crashed earlier workers of the agent.
    #[must_use]
    pub fn without_crashed_sources(mut self, sources: &[PathBuf]) -> Self {
        let crashed = |source: &PathBuf| UnusableSource {
            source: source.clone(),
            error: TokenError::Source {
                path: source.clone(),
                reason: "it crashed the agent's worker three times, so it is left out until the agent restarts"
                    .to_owned(),
                remedy:
                    "check it with `tokenkeep doctor`, or leave it out (list the others as `modules` in agent.toml)"
                        .to_owned(),
            },
            is_refused: false,
            is_lost: true,
        };
        self.unusable_sources.extend(sources.iter().map(crashed));
        self
    }

    /// Treats every unusable source as lost: it was usable when the agent started.
    #[must_use]
    pub fn with_lost_sources(mut self) -> Self {
        for source in &mut self.unusable_sources {
            source.is_lost = true;
        }
        self
    }

    /// Refuses an operation without a selector while a source is lost: it may hold the intended
    /// token, and the remaining ones must not be taken for it.
    ///
    /// # Errors
    /// The reason why the source is lost.
    pub fn require_all_sources(&self) -> Result<(), KeysetError> {
        match self.unusable_sources.iter().find(|source| source.is_lost) {
            None => Ok(()),
            Some(UnusableSource { error, .. }) => Err(KeysetError::Remote {
                kind: ErrorKind::Absent,
                message: format!("{error}; or name the keyset, token or module that is meant"),
            }),
        }
    }

    /// The reasons, for the agent's listings only: a command reports them once, when it loads the
    /// sources.
    pub(super) fn unusable_source_errors(&self) -> Vec<UnreadableToken> {
        if !self.has_persistent_sessions() {
            return Vec::new();
        }
        let unreadable = |source: &UnusableSource| UnreadableToken {
            place: source.source.display().to_string(),
            error: source.error.clone().into(),
        };
        self.unusable_sources.iter().map(unreadable).collect()
    }

    /// The sources whose loading crashed the process or timed out, to be retried.
    pub fn refused_sources(&self) -> Vec<PathBuf> {
        self.unusable_sources.iter().filter(|source| source.is_refused).map(|source| source.source.clone()).collect()
    }
}
