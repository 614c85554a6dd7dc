//! The log: hash-chained and sealed rows, written in the same transaction as the change they tell of.
//!
//! The store chains the entries; it cannot seal them, for the key is on the authority's token. Whoever opened the store
//! gives it a [`LogKeeper`], which seals each entry as it is written and hears of it once it lasts.

use std::error::Error;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::thread::{Database, Row};
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

impl AuditHead {
    /// The head of an empty log.
    pub const EMPTY: Self = Self { number: 0, hash: [0; 32] };
}

/// One row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Counted from 1, without gaps.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub event: String,
    /// The rest, as JSON.
    pub detail: String,
    /// The hash of the entry before.
    pub previous_hash: [u8; 32],
    /// SHA-256 over all of the above.
    pub hash: [u8; 32],
    /// MAC over all of the above; `None` in an entry that was written before entries were sealed.
    pub mac: Option<[u8; 32]>,
}

/// Seals the entries of the log, and follows them. Called on the store's own thread: it must not call the store.
pub trait LogKeeper: Send {
    /// The MAC of a row that is about to be written (its `mac` is `None`).
    ///
    /// # Errors
    /// Why it cannot be made: nothing is written then.
    fn seal(&self, row: &AuditRow) -> Result<[u8; 32], Box<dyn Error + Send + Sync>>;

    /// A row that lasts now. Called before the call that wrote it returns, in the order of the log.
    fn committed(&self, row: &AuditRow);
}

/// The keeper, and what the open transaction has appended.
#[derive(Default)]
pub(super) struct Keeping {
    keeper: Option<Box<dyn LogKeeper>>,
    /// The newest entry that this process has written or verified. `None` before it has done either.
    head: Option<AuditHead>,
    appended: Vec<AuditRow>,
}

impl Store {
    /// From here on `keeper` seals what is written into the log, and the log's newest entry must be the one that was
    /// written last: a running process goes by its memory. Without a keeper nothing can be written.
    pub fn keep_log(&self, keeper: Box<dyn LogKeeper>) -> Result<(), StoreError> {
        self.thread.transaction(move |database| {
            let head = database.audit_head()?;
            database.keeping = Keeping { keeper: Some(keeper), head: Some(head), appended: Vec::new() };
            Ok(())
        })
    }

    /// Writes one entry that accompanies no other change.
    pub fn record(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.thread.transaction(move |database| database.log(&entry))
    }

    /// The newest entry.
    pub fn audit_head(&self) -> Result<AuditHead, StoreError> {
        self.thread.transaction(Database::audit_head)
    }

    /// The entries after `number`, at most `limit`, in their order: to walk the log without holding it.
    pub fn log_after(&self, number: u64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let Ok(number) = i64::try_from(number) else { return Ok(Vec::new()) };
        self.thread.transaction(move |database| {
            database.all(
                sqlx::query("SELECT * FROM audit WHERE number > $1 ORDER BY number LIMIT $2").bind(number).bind(limit),
                AuditRow::read,
            )
        })
    }

    /// Seals the first entries that have no MAC, at most `limit`, as older versions left them. Says how many.
    pub fn seal_older_entries(&self, limit: u32) -> Result<usize, StoreError> {
        self.thread.transaction(move |database| {
            let rows = database.all(
                sqlx::query("SELECT * FROM audit WHERE mac IS NULL ORDER BY number LIMIT $1").bind(limit),
                AuditRow::read,
            )?;
            for row in &rows {
                let mac = database.seal(row)?;
                database.change_one(
                    sqlx::query("UPDATE audit SET mac = $2 WHERE number = $1 AND mac IS NULL")
                        .bind(row.number.cast_signed())
                        .bind(mac.to_vec()),
                    "seal an older entry of the log",
                )?;
            }
            Ok(rows.len())
        })
    }

    /// Whether the log has this very entry, and each entry from it on fits what it says and the entry before it, up to
    /// the one that this process wrote last. Walks only the entries after `known`. Of an empty log: every log continues it.
    pub fn audit_continues(&self, known: AuditHead) -> Result<bool, StoreError> {
        // No log has so many entries.
        let Ok(first) = i64::try_from(known.number) else { return Ok(false) };
        self.thread.transaction(move |database| {
            let rows = database.all(
                sqlx::query("SELECT * FROM audit WHERE number >= $1 ORDER BY number").bind(first),
                AuditRow::read,
            )?;
            let mut head = match rows.first() {
                Some(row) if known.number > 0 => AuditHead { number: known.number - 1, hash: row.previous_hash },
                _ => AuditHead::EMPTY,
            };
            let has_it = known == AuditHead::EMPTY
                || rows.first().is_some_and(|row| (row.number, row.hash) == (known.number, known.hash));
            for row in &rows {
                match row.follows(head) {
                    Some(next) => head = next,
                    None => return Ok(false),
                }
            }
            Ok(has_it && database.keeping.head.is_none_or(|newest| newest == head))
        })
    }
}

impl AuditRow {
    /// The head of the log with this row in it; `None` if it is not what comes after `head`.
    pub fn follows(&self, head: AuditHead) -> Option<AuditHead> {
        let fits = self.number == head.number + 1 && self.previous_hash == head.hash && self.hash == self.chain_hash();
        fits.then_some(AuditHead { number: self.number, hash: self.hash })
    }

    /// SHA-256 over the entry, each variable part with its length before it, and the hash of the entry before.
    fn chain_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"tokenkeep audit 1");
        hash.update(self.number.to_be_bytes());
        hash.update(self.at.as_second().to_be_bytes());
        for part in [self.event.as_bytes(), self.detail.as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(self.previous_hash);
        hash.finalize().into()
    }

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let number: i64 = row.get("number")?;
        let mac: Option<Vec<u8>> = row.get("mac")?;
        Ok(Self {
            number: number.unsigned_abs(),
            at: row.time("at")?,
            event: row.get("event")?,
            detail: row.get("detail")?,
            previous_hash: row.digest("previous_hash")?,
            hash: row.digest("hash")?,
            mac: mac.map(|_| row.digest("mac")).transpose()?,
        })
    }
}

impl Database {
    pub(super) fn audit_head(&mut self) -> Result<AuditHead, StoreError> {
        let newest = self.one(sqlx::query("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1"), |row| {
            let number: i64 = row.get("number")?;
            Ok(AuditHead { number: number.unsigned_abs(), hash: row.digest("hash")? })
        })?;
        Ok(newest.unwrap_or(AuditHead::EMPTY))
    }

    /// Appends to the log, within the transaction that is open.
    pub(super) fn log(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let head = self.audit_head()?;
        let last = self.keeping.appended.last().map(|row| AuditHead { number: row.number, hash: row.hash });
        if last.or(self.keeping.head).is_some_and(|last| last != head) {
            return Err(StoreError::LogChanged { path: self.path().to_path_buf(), number: head.number });
        }
        // To the second, as the column has it: the row is sealed as it will be read.
        let at = Timestamp::from_second(entry.at.as_second()).unwrap_or(entry.at);
        let mut row = AuditRow {
            number: head.number + 1,
            at,
            event: entry.event.to_owned(),
            detail: entry.detail.clone(),
            previous_hash: head.hash,
            hash: [0; 32],
            mac: None,
        };
        row.hash = row.chain_hash();
        let mac = self.seal(&row)?;
        row.mac = Some(mac);
        self.run(
            sqlx::query(
                "INSERT INTO audit (number, at, event, detail, previous_hash, hash, mac)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(row.number.cast_signed())
            .bind(row.at.as_second())
            .bind(row.event.clone())
            .bind(row.detail.clone())
            .bind(row.previous_hash.to_vec())
            .bind(row.hash.to_vec())
            .bind(mac.to_vec()),
        )?;
        self.keeping.appended.push(row);
        Ok(())
    }

    fn seal(&self, row: &AuditRow) -> Result<[u8; 32], StoreError> {
        let keeper = self.keeping.keeper.as_ref();
        let keeper = keeper.ok_or_else(|| StoreError::Seal("nobody who seals it is there yet".into()))?;
        keeper.seal(&AuditRow { mac: None, ..row.clone() }).map_err(|error| StoreError::Seal(error.to_string()))
    }
}

impl Keeping {
    /// What was appended lasts.
    pub(super) fn committed(&mut self) {
        for row in self.appended.drain(..) {
            self.head = Some(AuditHead { number: row.number, hash: row.hash });
            if let Some(keeper) = &self.keeper {
                keeper.committed(&row);
            }
        }
    }

    /// What was appended was taken back.
    pub(super) fn rolled_back(&mut self) {
        self.appended.clear();
    }
}
