//! Tokens that another process of the agent has: they are listed, and chosen from, among those that are here; an act with
//! one of them is done there.

use std::fmt;
use std::path::Path;

use super::{FoundKeyset, KeysetError, TokenTrouble};
use crate::token::TokenInfo;

/// The tokens of one module that another process has loaded. What it answers is what that process has told last: nobody
/// waits for it.
pub trait Elsewhere: fmt::Debug + Send + Sync {
    /// The module.
    fn module(&self) -> &Path;

    /// The tokens that are there.
    ///
    /// # Errors
    /// The other process does not run.
    fn tokens(&self) -> Result<Vec<TokenInfo>, KeysetError>;

    /// The keysets on them, and what could not be looked at.
    fn keysets(&self) -> (Vec<FoundKeyset>, Vec<TokenTrouble>);
}
