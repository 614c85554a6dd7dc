//! The identifier (`CKA_ID`) that links a private key, its public key and its certificate on a
//! token.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::TokenError;

/// A `CKA_ID`: opaque bytes, displayed in hexadecimal, which is also its form in JSON.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(Vec<u8>);

impl KeyId {
    /// Length in bytes of an identifier made by [`KeyId::random`].
    pub const RANDOM_LENGTH: usize = 20;

    /// A fresh identifier of 20 random bytes. That is the length of the usual SHA-1 of a public
    /// key, but this identifier exists before the key.
    pub fn random() -> Result<Self, TokenError> {
        let mut bytes = vec![0; Self::RANDOM_LENGTH];
        getrandom::fill(&mut bytes).map_err(|error| TokenError::NoRandom(error.to_string()))?;
        Ok(Self(bytes))
    }

    /// The identifier's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for KeyId {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl TryFrom<String> for KeyId {
    type Error = hex::FromHexError;

    fn try_from(hexadecimal: String) -> Result<Self, Self::Error> {
        hex::decode(hexadecimal).map(Self)
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyId({self})")
    }
}
