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

    /// Whether the log has this very entry, and each entry from it on fits what it says and the entry before it. Walks
    /// only the entries after `known`. Of an empty log: every log continues it.
    pub fn audit_continues(&self, known: AuditHead) -> Result<bool, StoreError> {
        // No log has so many entries.
        let Ok(first) = i64::try_from(known.number) else { return Ok(false) };
        self.thread.transaction(move |database| {
            let rows = database.links(first)?;
            let mut head = match rows.first() {
                Some(row) if known.number > 0 => AuditHead { number: known.number - 1, hash: row.previous_hash },
                _ => AuditHead { number: 0, hash: [0; 32] },
            };
            let has_it = (known.number == 0 && known.hash == [0; 32])
                || rows.first().is_some_and(|row| row.number == first && row.hash == known.hash);
            for row in &rows {
                match row.follows(head) {
                    Some(next) => head = next,
                    None => return Ok(false),
                }
            }
            Ok(has_it)
        })
    }

    /// Walks the chain from its beginning.
    pub fn check_audit(&self) -> Result<AuditCheck, StoreError> {
        self.thread.transaction(|database| {
            let mut head = AuditHead { number: 0, hash: [0; 32] };
            for row in database.links(0)? {
                match row.follows(head) {
                    Some(next) => head = next,
                    None => return Ok(AuditCheck::BrokenAt(head.number + 1)),
                }
            }
            Ok(AuditCheck::Whole(head))
        })
    }
}

/// A row, as it is in the database.
struct Link {
    number: i64,
    at: Timestamp,
    event: String,
    detail: String,
    previous_hash: [u8; 32],
    hash: [u8; 32],
}

impl Link {
    /// The head of the log with this row in it; none if it is not what comes after `head`.
    fn follows(&self, head: AuditHead) -> Option<AuditHead> {
        let number = head.number + 1;
        let hash = chain_hash(number, self.at, &self.event, &self.detail, &head.hash);
        let fits = u64::try_from(self.number) == Ok(number) && self.previous_hash == head.hash && self.hash == hash;
        fits.then_some(AuditHead { number, hash })
    }
}

impl Database {
    /// The rows from this number on, in their order.
    fn links(&mut self, first: i64) -> Result<Vec<Link>, StoreError> {
        self.all(sqlx::query("SELECT * FROM audit WHERE number >= $1 ORDER BY number").bind(first), |row| {
            Ok(Link {
                number: row.get("number")?,
                at: row.time("at")?,
                event: row.get("event")?,
                detail: row.get("detail")?,
                previous_hash: row.digest("previous_hash")?,
                hash: row.digest("hash")?,
            })
        })
    }

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
