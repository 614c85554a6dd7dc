//! The objects besides keys that a token stores for tokenkeep.

use serde::{Deserialize, Serialize};

use super::KeyId;

/// A data object (`CKO_DATA`).
#[derive(Clone, PartialEq, Eq)]
pub struct DataObject {
    pub label: String,
    pub value: Vec<u8>,
}

impl std::fmt::Debug for DataObject {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "DataObject({:?}, {} bytes)", self.label, self.value.len())
    }
}

/// A certificate object (`CKO_CERTIFICATE`, X.509).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCertificate {
    /// the `CKA_ID` of its key
    pub id: KeyId,
    pub label: String,
    /// the certificate
    #[serde(with = "crate::base64_bytes")]
    pub der: Vec<u8>,
}

/// `CKA_APPLICATION` of the public data object that marks the token of an authority. Users'
/// commands never choose such a token.
pub const AUTHORITY_MARK: &str = "tokenkeep-authority";
