//! Tokens held by another process of the agent. They are listed and selected together with local
//! ones; operations on them run in that process.

use std::fmt;
use std::path::Path;

use super::{FoundKeyset, KeysetError, UnreadableToken};
use crate::token::TokenInfo;

/// The tokens of one module that another process has loaded. Returns the last state which that
/// process reported, without waiting for it.
pub trait RemoteTokens: fmt::Debug + Send + Sync {
    /// The path of the module.
    fn module(&self) -> &Path;

    /// The tokens present in that process.
    ///
    /// # Errors
    /// The other process does not run.
    fn tokens(&self) -> Result<Vec<TokenInfo>, KeysetError>;

    /// The keysets on these tokens, and the tokens that could not be read.
    fn keysets(&self) -> (Vec<FoundKeyset>, Vec<UnreadableToken>);
}
