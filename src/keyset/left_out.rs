//! Configured modules that cannot be used. Other modules work; listings of keysets report these
//! ones.

use std::path::PathBuf;

use super::{TokenTrouble, Tokens};
use crate::token::{TokenError, check};

/// A module that is not searched.
#[derive(Clone, Debug)]
pub(super) struct LeftOut {
    module: PathBuf,
    error: TokenError,
    /// Did loading crash the process or time out? Otherwise loading only failed.
    is_refused: bool,
}

impl Tokens {
    /// Excludes the modules of these load errors.
    #[must_use]
    pub fn leaving_out(mut self, errors: Vec<TokenError>) -> Self {
        let left_out = |error: TokenError| {
            let TokenError::Module { path, .. } = &error else { return None };
            let module = path.clone();
            let is_refused = check::is_refused(&module);
            Some(LeftOut { module, error, is_refused })
        };
        self.left_out = errors.into_iter().filter_map(left_out).collect();
        self
    }

    /// The reasons, for the agent's listings only: a command reports them once, when it loads the
    /// modules.
    pub(super) fn modules_left_out(&self) -> Vec<TokenTrouble> {
        if !self.keeps_log_ins() {
            return Vec::new();
        }
        let trouble = |left_out: &LeftOut| TokenTrouble {
            place: left_out.module.display().to_string(),
            error: left_out.error.clone().into(),
        };
        self.left_out.iter().map(trouble).collect()
    }

    /// The modules whose loading crashed the process or timed out, to be retried.
    pub fn refused_modules(&self) -> Vec<PathBuf> {
        self.left_out.iter().filter(|left_out| left_out.is_refused).map(|left_out| left_out.module.clone()).collect()
    }
}
