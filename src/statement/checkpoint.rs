//! Positions in the audit log: the checkpoint in a response, the content that the audit key signs,
//! and the position that a statement's signer knows.

use der::asn1::OctetString;
use der::{Encode, Sequence};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::StatementError;
use super::serde_formats::{hexadecimal, instant};
use crate::pki::public_key::PublicKey;
use crate::pki::{Fingerprint, signature};

/// A position in the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPosition {
    /// The number of an entry; the first one is 1.
    pub sequence: u64,
    /// SHA-256 of this entry, which covers all entries before it.
    #[serde(with = "hexadecimal")]
    pub head: [u8; 32],
}

/// The end of the audit log, signed. A reader who keeps the newest checkpoint detects a log that
/// was truncated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The number of entries in the log.
    pub sequence: u64,
    /// The hash of the last entry, which covers all entries before it.
    #[serde(with = "hexadecimal")]
    pub head: [u8; 32],
    /// The time of the signature, in whole seconds.
    #[serde(with = "instant")]
    pub at: Timestamp,
    /// The audit key, as DER of its `SubjectPublicKeyInfo`.
    #[serde(with = "hexadecimal")]
    pub key: Vec<u8>,
    /// The audit key's signature over [`Checkpoint::content`].
    #[serde(with = "hexadecimal")]
    pub signature: Vec<u8>,
}

/// The result of comparing the authority's log with the position that a statement names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogVerdict {
    /// The log has this entry with this hash, and every later entry is chained to the one before
    /// it.
    Continued,
    /// It does not: the log was truncated or changed, or an older one was restored.
    Contradicted,
}

/// The content that the audit key signs.
#[derive(Sequence)]
struct Content {
    kind: String,
    authority: OctetString,
    sequence: u64,
    head: OctetString,
    at: u64,
}

impl Checkpoint {
    /// The content that the audit key signs, as DER: the text `tokenkeep audit checkpoint 1`, the
    /// authority (SHA-256 of its CA certificate), the number and hash of the newest entry, and the
    /// time in seconds since 1970.
    ///
    /// # Errors
    /// [`StatementError::Form`], if it cannot be encoded.
    pub fn content(authority: Fingerprint, newest: LogPosition, at: Timestamp) -> Result<Vec<u8>, StatementError> {
        let octets = |bytes: &[u8; 32]| OctetString::new(bytes.to_vec()).map_err(wrong);
        Content {
            kind: "tokenkeep audit checkpoint 1".into(),
            authority: octets(authority.as_bytes())?,
            sequence: newest.sequence,
            head: octets(&newest.head)?,
            at: u64::try_from(at.as_second()).unwrap_or_default(),
        }
        .to_der()
        .map_err(wrong)
    }

    /// The position of the last entry.
    pub fn position(&self) -> LogPosition {
        LogPosition { sequence: self.sequence, head: self.head }
    }

    /// Verifies that the audit key in the checkpoint signed it for this authority. The caller must
    /// know whose key that is.
    ///
    /// # Errors
    /// [`StatementError::Form`], if the key is unusable; [`StatementError::Signature`], if the
    /// signature does not verify with the key.
    pub fn verify(&self, authority: Fingerprint) -> Result<(), StatementError> {
        let content = Self::content(authority, self.position(), self.at)?;
        let algorithm = PublicKey::from_spki_der(&self.key).map_err(wrong)?.signature_algorithm();
        signature::verify("an audit checkpoint", &self.key, &algorithm, &content, &self.signature)
            .map_err(|error| StatementError::Signature { what: "checkpoint", reason: error.to_string() })
    }
}

fn wrong(reason: impl std::fmt::Display) -> StatementError {
    StatementError::Form { what: "checkpoint", reason: reason.to_string() }
}

#[cfg(test)]
pub(super) mod tests;
