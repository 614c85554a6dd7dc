//! Configured modules that cannot be used. Other modules work; listings of keysets report these
//! ones.

use std::path::PathBuf;

use super::{Tokens, UnreadableToken};
use crate::token::{TokenError, check};

/// A module that is not searched.
#[derive(Clone, Debug)]
pub(super) struct UnusableModule {
    module: PathBuf,
    error: TokenError,
    /// Did loading crash the process or time out? Otherwise loading only failed.
    is_refused: bool,
}

impl Tokens {
    /// Excludes the modules of these load errors.
    #[must_use]
    pub fn with_unusable_modules(mut self, errors: Vec<TokenError>) -> Self {
        let unusable_modules = |error: TokenError| {
            let TokenError::Module { path, .. } = &error else { return None };
            let module = path.clone();
            let is_refused = check::is_refused(&module);
            Some(UnusableModule { module, error, is_refused })
        };
        self.unusable_modules = errors.into_iter().filter_map(unusable_modules).collect();
        self
    }

    /// The reasons, for the agent's listings only: a command reports them once, when it loads the
    /// modules.
    pub(super) fn unusable_module_errors(&self) -> Vec<UnreadableToken> {
        if !self.has_persistent_sessions() {
            return Vec::new();
        }
        let unreadable_tokens = |unusable_modules: &UnusableModule| UnreadableToken {
            place: unusable_modules.module.display().to_string(),
            error: unusable_modules.error.clone().into(),
        };
        self.unusable_modules.iter().map(unreadable_tokens).collect()
    }

    /// The modules whose loading crashed the process or timed out, to be retried.
    pub fn refused_modules(&self) -> Vec<PathBuf> {
        self.unusable_modules
            .iter()
            .filter(|unusable_modules| unusable_modules.is_refused)
            .map(|unusable_modules| unusable_modules.module.clone())
            .collect()
    }
}
