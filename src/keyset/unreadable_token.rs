//! What a listing could not read.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::KeysetError;

/// A token or source that could not be read.
#[derive(Debug, Serialize, Deserialize)]
pub struct UnreadableToken {
    /// label and serial number of the token, or the path of the source
    pub name: String,
    /// the reason
    pub error: KeysetError,
}

impl UnreadableToken {
    pub(super) fn new(name: impl fmt::Display, error: impl Into<KeysetError>) -> Self {
        Self { name: name.to_string(), error: error.into() }
    }
}
