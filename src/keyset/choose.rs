//! Which keyset is meant, and which token: chosen before any log-in; what is ambiguous is refused with the list.

use std::str::FromStr;

use crate::token::{KeysetName, TokenInfo, TokenUri, TokenUriError};

use super::{FoundKeyset, KeysetError, Tokens};

/// How a person names a token: PKCS#11 URI, serial number, or label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSelector {
    /// `pkcs11:…` (RFC 7512)
    Uri(TokenUri),
    /// a serial number or a label, exactly
    SerialOrLabel(String),
}

impl FromStr for TokenSelector {
    type Err = TokenUriError;

    fn from_str(text: &str) -> Result<Self, TokenUriError> {
        if text.starts_with("pkcs11:") { text.parse().map(Self::Uri) } else { Ok(Self::SerialOrLabel(text.to_owned())) }
    }
}

/// What was said about which keyset is meant.
#[derive(Clone, Debug, Default)]
pub struct KeysetChoice {
    /// `--keyset`
    pub name: Option<KeysetName>,
    /// `--token`
    pub token: Option<TokenSelector>,
    /// `$TOKENKEEP_KEYSET`, else the one in agent.toml: taken when there are several and no name was given
    pub default: Option<KeysetName>,
}

impl Tokens {
    /// The one keyset that is meant: by name; else the only one there is; else the default; else refused with the list.
    pub fn choose(&self, choice: &KeysetChoice) -> Result<FoundKeyset, KeysetError> {
        todo!()
    }

    /// The one token that is meant.
    pub fn token(&self, selector: &TokenSelector) -> Result<TokenInfo, KeysetError> {
        todo!()
    }
}
