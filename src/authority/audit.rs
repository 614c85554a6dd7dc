//! The log: what is written into it, and checkpoints that anyone who has the audit key's public half can verify.

use jiff::Timestamp;
use serde_json::Value;

use super::AuthorityError;
use super::token_keys::TokenKeys;
use crate::pki::Fingerprint;
use crate::statement::{Checkpoint, LogPosition};
use crate::store::{AuditEntry, AuditHead};

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
    let newest = LogPosition { sequence: head.number, head: head.hash };
    let content = Checkpoint::content(Fingerprint::from_bytes(*authority), newest, at)?;
    let signature = keys.audit.sign(&content)?.as_bytes().to_vec();
    let key = keys.audit.public_key_der().to_vec();
    Ok(Checkpoint { sequence: newest.sequence, head: newest.head, at, key, signature })
}
