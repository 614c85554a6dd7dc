//! Configured modules that cannot be used. Other modules work; listings of keysets report these
//! ones.

use std::path::PathBuf;

use super::{ErrorKind, KeysetError, Tokens, UnreadableToken};
use crate::token::{TokenError, check};

/// A module that is not searched.
#[derive(Clone, Debug)]
pub(super) struct UnusableModule {
    module: PathBuf,
    error: TokenError,
    /// Did loading crash the process or time out? Otherwise loading only failed.
    is_refused: bool,
    /// Did it crash earlier workers of the agent?
    has_crashed: bool,
}

impl Tokens {
    /// Excludes the modules of these load errors.
    #[must_use]
    pub fn with_unusable_modules(mut self, errors: Vec<TokenError>) -> Self {
        let unusable_modules = |error: TokenError| {
            let TokenError::Module { path, .. } = &error else { return None };
            let module = path.clone();
            let is_refused = check::is_refused(&module);
            Some(UnusableModule { module, error, is_refused, has_crashed: false })
        };
        self.unusable_modules = errors.into_iter().filter_map(unusable_modules).collect();
        self
    }

    /// Excludes modules that crashed earlier workers of the agent.
    #[must_use]
    pub fn without_crashed_modules(mut self, modules: &[PathBuf]) -> Self {
        let crashed = |module: &PathBuf| UnusableModule {
            module: module.clone(),
            error: TokenError::Module {
                path: module.clone(),
                reason: "it crashed the agent's worker three times, so it is left out until the agent restarts"
                    .to_owned(),
                remedy:
                    "check it with `tokenkeep doctor`, or leave it out (list the others as `modules` in agent.toml)"
                        .to_owned(),
            },
            is_refused: false,
            has_crashed: true,
        };
        self.unusable_modules.extend(modules.iter().map(crashed));
        self
    }

    /// Refuses an operation without a selector after a module has crashed: it may hold the intended
    /// token, and the remaining ones must not be taken for it.
    pub(super) fn require_all_modules(&self) -> Result<(), KeysetError> {
        match self.unusable_modules.iter().find(|module| module.has_crashed) {
            None => Ok(()),
            Some(UnusableModule { error, .. }) => Err(KeysetError::Remote {
                kind: ErrorKind::Absent,
                message: format!("{error}; or name the keyset or token that is meant"),
            }),
        }
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
