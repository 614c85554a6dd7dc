//! Modules that were named and cannot be used: the others are, and these are told of wherever keysets are listed.

use std::path::PathBuf;

use super::{TokenTrouble, Tokens};
use crate::token::{TokenError, check};

/// A module that is not looked through.
#[derive(Clone, Debug)]
pub(super) struct LeftOut {
    module: PathBuf,
    error: TokenError,
    /// Does it end the process that loads it, and not only fail?
    ends_its_process: bool,
}

impl Tokens {
    /// Without these modules, each of which has said why it cannot be loaded.
    #[must_use]
    pub fn leaving_out(mut self, errors: Vec<TokenError>) -> Self {
        let left_out = |error: TokenError| {
            let TokenError::Module { path, .. } = &error else { return None };
            let module = path.clone();
            let ends_its_process = check::is_refused(&module);
            Some(LeftOut { module, error, ends_its_process })
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

    /// One that ended each process that loaded it, and does not any more: it, or its configuration, was mended.
    pub fn module_that_is_well_again(&self) -> Option<&PathBuf> {
        let well = |left_out: &&LeftOut| left_out.ends_its_process && !check::is_refused(&left_out.module);
        self.left_out.iter().find(well).map(|left_out| &left_out.module)
    }
}
