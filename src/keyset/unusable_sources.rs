//! Configured sources that cannot be used. Other sources work; the agent's listings of keysets
//! report these ones. A command reports them once, when it loads the sources.

use std::path::PathBuf;

use super::{ErrorKind, KeysetError, UnreadableToken};
use crate::token::{TokenError, check};

/// The sources that are not searched.
#[derive(Clone, Debug, Default)]
pub struct UnusableSources(Vec<UnusableSource>);

#[derive(Clone, Debug)]
struct UnusableSource {
    source: PathBuf,
    error: TokenError,
    /// Did loading crash the process or time out? Otherwise loading only failed.
    is_refused: bool,
    /// May it hold the token that a request without a selector means?
    is_lost: bool,
}

impl UnusableSources {
    /// The sources of these load errors.
    pub fn of(errors: Vec<TokenError>) -> Self {
        let unusable = |error: TokenError| {
            let TokenError::Source { path, .. } = &error else { return None };
            let source = path.clone();
            let is_refused = check::is_refused(&source);
            Some(UnusableSource { source, error, is_refused, is_lost: false })
        };
        Self(errors.into_iter().filter_map(unusable).collect())
    }

    /// Treats every source as lost: it was usable when the agent started.
    #[must_use]
    pub fn all_lost(mut self) -> Self {
        for source in &mut self.0 {
            source.is_lost = true;
        }
        self
    }

    /// Adds sources that crashed earlier workers of the agent.
    #[must_use]
    pub fn with_crashed(mut self, sources: &[PathBuf]) -> Self {
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
        self.0.extend(sources.iter().map(crashed));
        self
    }

    /// Refuses an operation without a selector while a source is lost: it may hold the intended
    /// token, and the remaining ones must not be taken for it.
    ///
    /// # Errors
    /// The reason why the source is lost.
    pub fn require_none_lost(&self) -> Result<(), KeysetError> {
        match self.0.iter().find(|source| source.is_lost) {
            None => Ok(()),
            Some(UnusableSource { error, .. }) => Err(KeysetError::Other {
                kind: ErrorKind::Absent,
                message: format!("{error}; or name the keyset, token or module that is meant"),
            }),
        }
    }

    /// The sources whose loading crashed the process or timed out, to be retried.
    pub fn refused(&self) -> Vec<PathBuf> {
        self.0.iter().filter(|source| source.is_refused).map(|source| source.source.clone()).collect()
    }

    /// The reasons.
    pub(super) fn errors(&self) -> impl Iterator<Item = UnreadableToken> {
        self.0.iter().map(|source| UnreadableToken::new(source.source.display(), source.error.clone()))
    }
}
