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
    /// May it hold the token that a request without a selector means?
    is_lost: bool,
}

impl Tokens {
    /// Excludes the modules of these load errors.
    #[must_use]
    pub fn with_unusable_modules(mut self, errors: Vec<TokenError>) -> Self {
        let unusable = |error: TokenError| {
            let TokenError::Module { path, .. } = &error else { return None };
            let module = path.clone();
            let is_refused = check::is_refused(&module);
            Some(UnusableModule { module, error, is_refused, is_lost: false })
        };
        self.unusable_modules = errors.into_iter().filter_map(unusable).collect();
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
            is_lost: true,
        };
        self.unusable_modules.extend(modules.iter().map(crashed));
        self
    }

    /// Treats every unusable module as lost: it was usable when the agent started.
    #[must_use]
    pub fn with_lost_modules(mut self) -> Self {
        for module in &mut self.unusable_modules {
            module.is_lost = true;
        }
        self
    }

    /// Refuses an operation without a selector while a module is lost: it may hold the intended
    /// token, and the remaining ones must not be taken for it.
    ///
    /// # Errors
    /// The reason why the module is lost.
    pub fn require_all_modules(&self) -> Result<(), KeysetError> {
        match self.unusable_modules.iter().find(|module| module.is_lost) {
            None => Ok(()),
            Some(UnusableModule { error, .. }) => Err(KeysetError::Remote {
                kind: ErrorKind::Absent,
                message: format!("{error}; or name the keyset, token or module that is meant"),
            }),
        }
    }

    /// The reasons, for the agent's listings only: a command reports them once, when it loads the
    /// modules.
    pub(super) fn unusable_module_errors(&self) -> Vec<UnreadableToken> {
        if !self.has_persistent_sessions() {
            return Vec::new();
        }
        let unreadable = |module: &UnusableModule| UnreadableToken {
            place: module.module.display().to_string(),
            error: module.error.clone().into(),
        };
        self.unusable_modules.iter().map(unreadable).collect()
    }

    /// The modules whose loading crashed the process or timed out, to be retried.
    pub fn refused_modules(&self) -> Vec<PathBuf> {
        self.unusable_modules.iter().filter(|module| module.is_refused).map(|module| module.module.clone()).collect()
    }
}
