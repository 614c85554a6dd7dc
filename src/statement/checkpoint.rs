//! How far the audit log has got: what a response tells of it, what the audit key signs, and what a statement says that
//! its signer knows of it.

use der::asn1::OctetString;
use der::{Encode, Sequence};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::StatementError;
use super::members::{hexadecimal, instant};
use crate::pki::public_key::PublicKey;
use crate::pki::{Fingerprint, signature};

/// A place in the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPosition {
    /// The number of an entry; the first is 1.
    pub sequence: u64,
    /// The hash of this entry (SHA-256), which covers all before it.
    #[serde(with = "hexadecimal")]
    pub head: [u8; 32],
}

/// How far the audit log has got. Who keeps the latest notices a log that is cut off at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// How many entries the log has.
    pub sequence: u64,
    /// The hash of the last entry, which covers all before it.
    #[serde(with = "hexadecimal")]
    pub head: [u8; 32],
    /// When it was signed, in whole seconds.
    #[serde(with = "instant")]
    pub at: Timestamp,
    /// The audit key: DER of its `SubjectPublicKeyInfo`.
    #[serde(with = "hexadecimal")]
    pub key: Vec<u8>,
    /// The audit key's signature over [`Checkpoint::content`].
    #[serde(with = "hexadecimal")]
    pub signature: Vec<u8>,
}

/// What the authority's log says to the place that a statement knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogVerdict {
    /// It has this entry with this hash, and each entry after it is chained to the one before.
    Continued,
    /// It has not: it was cut off, changed, or is an older one that was put back.
    Contradicted,
}

/// What the audit key signs.
#[derive(Sequence)]
struct Content {
    kind: String,
    authority: OctetString,
    sequence: u64,
    head: OctetString,
    at: u64,
}

impl Checkpoint {
    /// What the audit key signs, as DER: the text `tokenkeep audit checkpoint 1`, the authority (SHA-256 of its CA
    /// certificate), the number and hash of the newest entry, and the time in seconds since 1970.
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

    /// Where the log ends.
    pub fn position(&self) -> LogPosition {
        LogPosition { sequence: self.sequence, head: self.head }
    }

    /// Verifies that the audit key which it names has signed it for this authority. Whose key that is, is for the caller
    /// to know.
    ///
    /// # Errors
    /// [`StatementError::Form`] if it names no usable key, [`StatementError::Signature`] if the signature is not that key's.
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
