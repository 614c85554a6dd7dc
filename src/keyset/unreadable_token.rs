//! What a listing could not read.

use serde::{Deserialize, Serialize};

use super::KeysetError;

/// A token or source that could not be read.
#[derive(Debug, Serialize, Deserialize)]
pub struct UnreadableToken {
    /// label and serial number of the token, or the path of the source
    pub place: String,
    /// the reason
    pub error: KeysetError,
}
