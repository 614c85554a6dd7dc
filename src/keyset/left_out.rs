//! Modules that were named and cannot be used: the others are, and these are told of wherever keysets are listed.

use std::path::PathBuf;

use super::{TokenTrouble, Tokens};
use crate::token::{TokenError, check};

/// A module that is not looked through.
#[derive(Clone, Debug)]
pub(super) struct LeftOut {
    module: PathBuf,
    error: TokenError,
    /// Is it refused: did it end the process that loaded it, or was it not loaded in time? Else it only failed.
    is_refused: bool,
}

impl Tokens {
    /// Without these modules, each of which has said why it cannot be loaded.
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

    /// What is wrong with them. The agent alone says it with each list; a command has said it when it loaded them.
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

    /// Those that ended the process that loaded them, or were not loaded in time: to be tried again.
    pub fn refused_modules(&self) -> Vec<PathBuf> {
        self.left_out.iter().filter(|left_out| left_out.is_refused).map(|left_out| left_out.module.clone()).collect()
    }
}
