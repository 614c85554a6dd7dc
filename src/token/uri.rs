//! PKCS#11 URIs (RFC 7512): how a person or a program names a token and an object on it.

use std::fmt;
use std::str::FromStr;

use super::{KeyId, TokenInfo};

/// A parsed `pkcs11:` URI. Attributes that are absent match everything (RFC 7512 §2.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenUri {
    /// `token`: the label
    pub token: Option<String>,
    /// `manufacturer`
    pub manufacturer: Option<String>,
    /// `model`
    pub model: Option<String>,
    /// `serial`
    pub serial: Option<String>,
    /// `object`: the label of an object
    pub object: Option<String>,
    /// `id`: the `CKA_ID` of an object
    pub id: Option<KeyId>,
    /// `type`: `cert`, `data`, `private`, `public`, `secret-key`
    pub object_type: Option<String>,
    /// `module-path`
    pub module_path: Option<String>,
    /// `module-name`
    pub module_name: Option<String>,
    /// `pin-source`
    pub pin_source: Option<String>,
}

impl TokenUri {
    /// Does it name this token? Only what the URI gives is compared, exactly.
    pub fn matches(&self, info: &TokenInfo) -> bool {
        todo!()
    }

    /// The URI that names this token and no other.
    pub fn of(info: &TokenInfo) -> Self {
        todo!()
    }
}

impl FromStr for TokenUri {
    type Err = TokenUriError;

    fn from_str(text: &str) -> Result<Self, TokenUriError> {
        todo!()
    }
}

impl fmt::Display for TokenUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

/// Why a text is no PKCS#11 URI, or one that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenUriError {
    /// It does not begin with `pkcs11:`.
    #[error("a PKCS#11 URI begins with `pkcs11:`")]
    Scheme,
    /// A `%` is not followed by two hexadecimal digits.
    #[error("a PKCS#11 URI has a bad percent-encoding in its attribute {attribute:?}")]
    PercentEncoding {
        /// the attribute's name
        attribute: String,
    },
    /// An attribute that must be text is not UTF-8.
    #[error("the attribute {attribute:?} of a PKCS#11 URI is not UTF-8")]
    NotText {
        /// the attribute's name
        attribute: String,
    },
    /// An attribute stands twice.
    #[error("the attribute {attribute:?} stands twice in a PKCS#11 URI")]
    Twice {
        /// the attribute's name
        attribute: String,
    },
    /// An attribute has no `=` or no name, or has a character that must be percent-encoded.
    #[error("the part {part:?} of a PKCS#11 URI is not `name=value`")]
    Malformed {
        /// the part
        part: String,
    },
    /// A standard attribute that names something more narrowly than we can tell.
    #[error("the attribute {attribute:?} of a PKCS#11 URI is not supported")]
    Unsupported {
        /// the attribute's name
        attribute: String,
    },
    /// `pin-value`: a PIN in a command line can be read by every process.
    #[error("a PKCS#11 URI with pin-value is refused: other programs can read it; use --pin-source")]
    PinValue,
}
