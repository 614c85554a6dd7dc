//! A token's description of itself.

use std::path::PathBuf;

use cryptoki::slot::TokenInfo as CkTokenInfo;
use serde::{Deserialize, Serialize};

use crate::token::{PinState, TokenId, TokenName};

/// A token's description of itself (`C_GetTokenInfo`); needs no login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenInfo {
    /// label, without padding
    pub label: String,
    /// serial number, without padding; it may be empty, or equal to that of another model
    pub serial: String,
    pub manufacturer: String,
    pub model: String,
    /// the module through which it was found
    pub module: PathBuf,
    /// state of the user PIN
    pub pin_state: PinState,
    /// whether it is write-protected
    pub write_protected: bool,
    /// the names (label, serial number, manufacturer, model) that are not UTF-8; the fields above
    /// have U+FFFD for each invalid sequence of bytes
    #[serde(rename = "not_text", default, skip_serializing_if = "Vec::is_empty")]
    pub non_utf8_names: Vec<NonUtf8Name>,
}

/// A name of a token that is not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NonUtf8Name {
    /// the attribute of a PKCS#11 URI: `token`, `serial`, `manufacturer`, `model`
    pub attribute: String,
    pub bytes: Vec<u8>,
}

impl TokenInfo {
    /// The identity, which decides whether another description is one of the same token.
    pub fn id(&self) -> TokenId {
        TokenId::of(self)
    }

    /// Label and serial number, for messages.
    pub fn name(&self) -> TokenName {
        TokenName { label: self.label.clone(), serial: self.serial.clone() }
    }
}

/// The PIN lengths in bytes that a token accepts. A maximum of 0, or above
/// [`Pin::MAX_BYTES`](crate::token::Pin::MAX_BYTES), becomes `Pin::MAX_BYTES`.
pub(super) fn pin_length_range(info: &CkTokenInfo) -> std::ops::RangeInclusive<usize> {
    let longest = crate::token::Pin::MAX_BYTES;
    let max = match info.max_pin_length() {
        0 => longest,
        max => max.min(longest),
    };
    info.min_pin_length()..=max
}
