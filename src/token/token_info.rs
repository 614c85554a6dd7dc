//! A token's description of itself, and the counts of a module's slots.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{NonUtf8Name, PinState, TokenError, TokenId, TokenName};

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
    /// the name of the source where it was found ([`super::TokenSource`])
    #[serde(rename = "module")]
    pub source: PathBuf,
    /// state of the user PIN
    pub pin_state: PinState,
    /// whether it is write-protected
    pub write_protected: bool,
    /// the names (label, serial number, manufacturer, model) that are not UTF-8; the fields above
    /// have U+FFFD for each invalid sequence of bytes
    #[serde(rename = "not_text", default, skip_serializing_if = "Vec::is_empty")]
    pub non_utf8_names: Vec<NonUtf8Name>,
}

impl TokenInfo {
    /// The identity, which decides whether another description is one of the same token.
    pub fn id(&self) -> TokenId {
        TokenId::new(
            [&self.label, &self.serial, &self.manufacturer, &self.model].map(String::clone),
            self.non_utf8_names.clone(),
        )
    }

    /// Label and serial number, for messages.
    pub fn name(&self) -> TokenName {
        TokenName { label: self.label.clone(), serial: self.serial.clone() }
    }
}

/// Further information of a token besides [`TokenInfo`], for diagnosis. Needs no login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "independent PKCS#11 flags")]
pub struct TokenFlags {
    /// state of the SO PIN
    pub so_pin_state: PinState,
    /// a PIN must be changed before the token can be used (`CKF_*_PIN_TO_BE_CHANGED`)
    pub pin_to_be_changed: bool,
    /// the PIN is typed at the reader (`CKF_PROTECTED_AUTHENTICATION_PATH`)
    pub pin_at_the_reader: bool,
    /// private objects need a login, as they should (`CKF_LOGIN_REQUIRED`)
    pub login_required: bool,
    /// the token failed its self-test (`CKF_ERROR_STATE`)
    pub broken: bool,
}

/// Slot counts of a module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotCount {
    pub slots: usize,
    /// slots with a token
    pub with_token: usize,
    /// slots whose token is not initialized: a new token can be made there
    pub free: usize,
}

/// Tokens that could not be read, and the error of each.
pub type UnreadTokens = Vec<(TokenId, TokenError)>;
