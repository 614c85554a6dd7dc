//! The audit log: builds its entries, and the checkpoints that anyone with the audit key's public
//! half can verify.

use std::error::Error;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::AuthorityError;
use super::addition_notices::AdditionNotices;
use super::audit_state::AuditState;
use super::seal::Sealer;
use super::token_keys::TokenKeys;
use crate::pki::Fingerprint;
use crate::statement::{Checkpoint, LogPosition};
use crate::store::{AuditEntry, AuditHead, AuditRow, LogSealer};

/// Builds one entry.
pub(super) fn entry(at: Timestamp, event: &'static str, detail: &Value) -> AuditEntry {
    AuditEntry { at, event, detail: detail.to_string() }
}

/// Seals new entries of the audit log with the token's key, and updates the state in memory that
/// derives from them.
pub(super) struct TokenLogSealer {
    keys: TokenKeys,
    audit_state: Arc<AuditState>,
    additions: Arc<AdditionNotices>,
}

impl TokenLogSealer {
    pub(super) fn new(keys: &TokenKeys, audit_state: &Arc<AuditState>, additions: &Arc<AdditionNotices>) -> Box<Self> {
        Box::new(Self { keys: keys.clone(), audit_state: Arc::clone(audit_state), additions: Arc::clone(additions) })
    }
}

impl LogSealer for TokenLogSealer {
    fn seal(&self, row: &AuditRow) -> Result<[u8; 32], Box<dyn Error + Send + Sync>> {
        Ok(Sealer::seal_log_entry(&self.keys, row)?)
    }

    fn committed(&self, row: &AuditRow) {
        let audit_state = self.audit_state.apply(row).map_err(|error| error.to_string());
        let additions = self.additions.apply(row).map_err(|error| error.to_string());
        for error in [audit_state, additions].into_iter().filter_map(Result::err) {
            tracing::error!(
                number = row.number,
                error,
                "a new entry of the audit log cannot be applied: please report this bug"
            );
        }
    }
}

/// Signs a checkpoint of the log's head.
pub(super) fn checkpoint(
    keys: &TokenKeys,
    authority: Fingerprint,
    head: AuditHead,
    now: Timestamp,
) -> Result<Checkpoint, AuthorityError> {
    let at = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let newest = LogPosition { sequence: head.number, head: head.hash };
    let content = Checkpoint::content(authority, newest, at)?;
    let signature = keys.audit.sign(&content)?.as_bytes().to_vec();
    let key = keys.audit.public_key_der().to_vec();
    Ok(Checkpoint { sequence: newest.sequence, head: newest.head, at, key, signature })
}
