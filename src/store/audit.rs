//! The log: hash-chained rows, written in the same transaction as the change they tell of.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::thread::Database;
use super::{Store, StoreError};

/// What is about to be written into the log.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// What happened, as one dotted word: `letter.issued`.
    pub event: &'static str,
    /// The rest, as JSON. Never a secret.
    pub detail: String,
}

/// The newest entry's number and hash: whoever keeps it notices later that the log was cut or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// Counted from 1; 0 for an empty log.
    pub number: u64,
    /// SHA-256 over the entry and the hash before it; zeros for an empty log.
    pub hash: [u8; 32],
}

/// What walking the whole chain finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditCheck {
    /// Every entry's hash fits.
    Whole(AuditHead),
    /// The first entry that does not fit.
    BrokenAt(u64),
}

impl Store {
    /// Writes one entry that accompanies no other change.
    pub fn record(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.thread.transaction(move |database| database.log(&entry))
    }

    /// The newest entry.
    pub fn audit_head(&self) -> Result<AuditHead, StoreError> {
        self.thread.transaction(Database::audit_head)
    }

    /// Walks the chain from its beginning.
    pub fn check_audit(&self) -> Result<AuditCheck, StoreError> {
        self.thread.transaction(|database| {
            let rows = database.all(sqlx::query("SELECT * FROM audit ORDER BY number"), |row| {
                let number: i64 = row.get("number")?;
                let event: String = row.get("event")?;
                let detail: String = row.get("detail")?;
                let at = row.time("at")?;
                Ok((number, at, event, detail, row.digest("previous_hash")?, row.digest("hash")?))
            })?;
            let mut head = AuditHead { number: 0, hash: [0; 32] };
            for (number, at, event, detail, previous, hash) in rows {
                let expected = head.number + 1;
                let computed = chain_hash(expected, at, &event, &detail, &head.hash);
                if u64::try_from(number) != Ok(expected) || previous != head.hash || hash != computed {
                    return Ok(AuditCheck::BrokenAt(expected));
                }
                head = AuditHead { number: expected, hash };
            }
            Ok(AuditCheck::Whole(head))
        })
    }
}

impl Database {
    pub(super) fn audit_head(&mut self) -> Result<AuditHead, StoreError> {
        let newest = self.one(sqlx::query("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1"), |row| {
            let number: i64 = row.get("number")?;
            Ok(AuditHead { number: number.unsigned_abs(), hash: row.digest("hash")? })
        })?;
        Ok(newest.unwrap_or(AuditHead { number: 0, hash: [0; 32] }))
    }

    /// Appends to the log, within the transaction that is open.
    pub(super) fn log(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let head = self.audit_head()?;
        let number = head.number + 1;
        let hash = chain_hash(number, entry.at, entry.event, &entry.detail, &head.hash);
        self.run(
            sqlx::query(
                "INSERT INTO audit (number, at, event, detail, previous_hash, hash) VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(number.cast_signed())
            .bind(entry.at.as_second())
            .bind(entry.event.to_owned())
            .bind(entry.detail.clone())
            .bind(head.hash.to_vec())
            .bind(hash.to_vec()),
        )?;
        Ok(())
    }
}

/// SHA-256 over the entry, each variable part with its length before it, and the hash of the entry before.
fn chain_hash(number: u64, at: Timestamp, event: &str, detail: &str, previous: &[u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"tokenkeep audit 1");
    hash.update(number.to_be_bytes());
    hash.update(at.as_second().to_be_bytes());
    for part in [event.as_bytes(), detail.as_bytes()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(previous);
    hash.finalize().into()
}
