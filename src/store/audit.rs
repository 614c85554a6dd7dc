//! The log: hash-chained and sealed rows, written in the same transaction as the change they tell of.
//!
//! The store chains the entries; it cannot seal them, for the key is on the authority's token. Whoever opened the store
//! gives it a [`LogKeeper`], which seals each entry as it is written and hears of it once it lasts.

use std::error::Error;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::thread::{Database, Row};
use super::{Store, StoreError};

/// Entries that are read at once where the log is walked: the database is free for others between two pages.
const PAGE: u32 = 1_000;

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

/// Entries of the log, and where it ended when they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// The entries, in their order.
    pub rows: Vec<AuditRow>,
    /// The newest entry that this process has written or verified, whatever the newest row says; that row's in a store that
    /// nobody keeps the log of.
    pub newest: AuditHead,
}

/// The end of the log, as this process knows it and as the database has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// The newest entry that this process has written or verified. No row changes it.
    pub head: AuditHead,
    /// Whether the database's newest row is that entry.
    pub is_unchanged: bool,
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

    /// The entry of this number, as its row has it.
    pub fn log_entry(&self, number: u64) -> Result<Option<AuditRow>, StoreError> {
        self.thread.read(move |database| {
            let query = sqlx::query("SELECT * FROM audit WHERE number = $1").bind(number.cast_signed());
            database.one(query, AuditRow::read)
        })
    }

    /// Writes one entry that accompanies no other change.
    pub fn record(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.thread.transaction(move |database| database.log(&entry))
    }

    /// The newest entry.
    ///
    /// # Errors
    /// [`StoreError::LogChanged`], if the database's newest row is not the entry that this process knows as the newest.
    pub fn audit_head(&self) -> Result<AuditHead, StoreError> {
        self.thread.read(|database| {
            let row = database.audit_head()?;
            match database.keeping.head {
                Some(head) if head != row => Err(database.log_changed(row)),
                _ => Ok(row),
            }
        })
    }

    /// The end of the log: what a running process signs is its own memory of it, never a row.
    pub fn log_end(&self) -> Result<LogEnd, StoreError> {
        self.thread.read(|database| {
            let row = database.audit_head()?;
            let head = database.keeping.head.unwrap_or(row);
            Ok(LogEnd { head, is_unchanged: head == row })
        })
    }

    /// The entries after `number`, at most `limit`, in their order: to walk the log without holding it.
    pub fn log_after(&self, number: u64, limit: u32) -> Result<LogPage, StoreError> {
        // No log has more entries than this.
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.thread.read(move |database| {
            let newest = match database.keeping.head {
                Some(head) => head,
                None => database.audit_head()?,
            };
            Ok(LogPage { rows: database.log_after(number, limit)?, newest })
        })
    }

    /// Seals what has no MAC of the next entries after `sealed`, at most `limit`, as older versions left them. Says how far
    /// that is: `sealed` itself at the end of the log.
    ///
    /// # Errors
    /// [`StoreError::LogChanged`], if they are not those that this process has walked: nothing is sealed that was written
    /// meanwhile.
    pub fn seal_older_entries(&self, sealed: AuditHead, limit: u32) -> Result<AuditHead, StoreError> {
        self.thread.transaction(move |database| {
            let rows = database.log_after(sealed.number.cast_signed(), limit)?;
            let mut head = sealed;
            for row in &rows {
                head = row.follows(head).ok_or_else(|| database.log_changed(head))?;
                if row.mac.is_some() {
                    continue;
                }
                let mac = database.seal(row)?;
                database.change_one(
                    sqlx::query("UPDATE audit SET mac = $2 WHERE number = $1 AND mac IS NULL")
                        .bind(row.number.cast_signed())
                        .bind(mac.to_vec()),
                    "seal an older entry of the log",
                )?;
            }
            let newest = database.keeping.head.unwrap_or(AuditHead::EMPTY);
            if head.number > newest.number || (rows.is_empty() && head != newest) {
                return Err(database.log_changed(head));
            }
            Ok(head)
        })
    }

    /// Whether the log has this very entry, and each entry from it on fits what it says and the entry before it, up to
    /// the one that this process wrote last. Walks only the entries after `known`, a page at a time. Of an empty log: every
    /// log continues it.
    pub fn audit_continues(&self, known: AuditHead) -> Result<bool, StoreError> {
        // None before the known entry itself was found.
        let mut head = (known == AuditHead::EMPTY).then_some(known);
        let mut after = known.number.saturating_sub(1);
        loop {
            let LogPage { rows, newest } = self.log_after(after, PAGE)?;
            for row in &rows {
                let before = match head {
                    Some(head) => head,
                    None if (row.number, row.hash) == (known.number, known.hash) => {
                        AuditHead { number: after, hash: row.previous_hash }
                    }
                    None => return Ok(false),
                };
                let Some(next) = row.follows(before) else { return Ok(false) };
                head = Some(next);
            }
            match head {
                Some(head) if rows.is_empty() => return Ok(head == newest),
                Some(head) => after = head.number,
                None => return Ok(false),
            }
        }
    }
}

impl AuditRow {
    /// The head of the log with this row in it; `None` if it is not what comes after `head`.
    pub fn follows(&self, head: AuditHead) -> Option<AuditHead> {
        let fits = Some(self.number) == head.number.checked_add(1)
            && self.previous_hash == head.hash
            && self.hash == self.chain_hash();
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

    /// Reads whatever the columns hold: what cannot be in an entry does not fit its chain or its MAC.
    #[allow(clippy::unnecessary_wraps)] // as a row is read
    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            number: row.get("number").ok().and_then(|number: i64| u64::try_from(number).ok()).unwrap_or(u64::MAX),
            at: row.time("at").unwrap_or(Timestamp::MIN),
            event: row.any_text("event"),
            detail: row.any_text("detail"),
            previous_hash: row.any_digest("previous_hash"),
            hash: row.any_digest("hash"),
            mac: row.optional_digest("mac"),
        })
    }
}

impl Database {
    /// What the newest row says.
    pub(super) fn audit_head(&mut self) -> Result<AuditHead, StoreError> {
        let newest = self.one(sqlx::query("SELECT * FROM audit ORDER BY number DESC LIMIT 1"), AuditRow::read)?;
        Ok(newest.map_or(AuditHead::EMPTY, |row| AuditHead { number: row.number, hash: row.hash }))
    }

    fn log_after(&mut self, number: i64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let query = sqlx::query("SELECT * FROM audit WHERE number > $1 ORDER BY number LIMIT $2");
        self.all(query.bind(number).bind(limit), AuditRow::read)
    }

    fn log_changed(&self, newest: AuditHead) -> StoreError {
        StoreError::LogChanged { path: self.path().to_path_buf(), number: newest.number }
    }

    /// Appends to the log, within the transaction that is open.
    pub(super) fn log(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let head = self.audit_head()?;
        let last = self.keeping.appended.last().map(|row| AuditHead { number: row.number, hash: row.hash });
        if last.or(self.keeping.head).is_some_and(|last| last != head) {
            return Err(self.log_changed(head));
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
        // A trigger that somebody has made may swallow it.
        self.change_one(
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
            "write the log",
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
