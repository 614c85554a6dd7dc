//! The log: what is written into it, and checkpoints that anyone who has the audit key's public half can verify.

use der::asn1::OctetString;
use der::{Encode, Sequence};
use jiff::Timestamp;
use serde_json::Value;

use super::AuthorityError;
use super::token_keys::TokenKeys;
use crate::statement::Checkpoint;
use crate::store::{AuditEntry, AuditHead};

/// What the audit key signs (DER): the text `tokenkeep audit checkpoint 1`, the authority (SHA-256 of its CA
/// certificate), the number and hash of the newest entry, and the time in seconds since 1970.
#[derive(Sequence)]
struct CheckpointContent {
    kind: String,
    authority: OctetString,
    sequence: u64,
    head: OctetString,
    at: u64,
}

/// One entry.
pub(super) fn entry(at: Timestamp, event: &'static str, detail: &Value) -> AuditEntry {
    AuditEntry { at, event, detail: detail.to_string() }
}

/// Signs how far the log has got.
pub(super) fn checkpoint(
    keys: &TokenKeys,
    authority: &[u8; 32],
    head: AuditHead,
    now: Timestamp,
) -> Result<Checkpoint, AuthorityError> {
    let at = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let content = checkpoint_content(authority, head, at)
        .map_err(|error| AuthorityError::Encode { what: "a checkpoint", reason: error.to_string() })?;
    let signature = keys.audit.sign(&content)?;
    Ok(Checkpoint { sequence: head.number, head: head.hash, at, signature: signature.as_bytes().to_vec() })
}

pub(super) fn checkpoint_content(authority: &[u8; 32], head: AuditHead, at: Timestamp) -> der::Result<Vec<u8>> {
    CheckpointContent {
        kind: "tokenkeep audit checkpoint 1".into(),
        authority: OctetString::new(authority.to_vec())?,
        sequence: head.number,
        head: OctetString::new(head.hash.to_vec())?,
        at: u64::try_from(at.as_second()).unwrap_or_default(),
    }
    .to_der()
}
