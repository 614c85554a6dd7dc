//! The audit log: hash-chained, sealed rows, each written in the same transaction as the change
//! that it records.
//!
//! The store chains the entries but cannot seal them, because the key is on the authority's token.
//! The authority gives the store a [`LogSealer`], which seals each new entry and is notified of
//! each committed one.

use jiff::Timestamp;

use super::log_state::{AuditEntry, AuditHead, AuditRow, LogSealer, LogState};
use super::thread::{Database, Row};
use super::{Store, StoreError};

/// Entries per database query of a walk: others can use the database between two pages.
const PAGE: u32 = 1_000;

/// A page of log entries, with the end of the log when they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// The entries, in order.
    pub rows: Vec<AuditRow>,
    /// The newest entry that this process wrote or verified, whatever the newest row contains. In a
    /// store without a [`LogSealer`], the newest row.
    pub newest: AuditHead,
}

/// The end of the log, in this process's memory and in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// The newest entry that this process wrote or verified. No row changes it.
    pub head: AuditHead,
    /// Whether the database's newest row is that entry.
    pub is_unchanged: bool,
}

impl Store {
    /// Sets the sealer, which seals every new entry. From here on the newest row must be the entry
    /// that this process wrote last. Without a sealer nothing can be written.
    pub fn set_log_sealer(&self, sealer: Box<dyn LogSealer>) -> Result<(), StoreError> {
        self.thread.transaction(move |database| {
            let head = database.audit_head()?;
            database.log_state = LogState { sealer: Some(sealer), head: Some(head), appended: Vec::new() };
            Ok(())
        })
    }

    /// Reads the row of the entry with this number.
    pub fn log_entry(&self, number: u64) -> Result<Option<AuditRow>, StoreError> {
        self.thread.read(move |database| {
            let query = sqlx::query("SELECT * FROM audit WHERE number = $1").bind(number.cast_signed());
            database.query_one(query, AuditRow::read)
        })
    }

    /// Writes an entry without another change.
    pub fn record(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.thread.transaction(move |database| database.log(&entry))
    }

    /// Returns the newest entry.
    ///
    /// # Errors
    /// [`StoreError::LogChanged`] if the newest row differs from the newest entry that this process
    /// knows.
    pub fn audit_head(&self) -> Result<AuditHead, StoreError> {
        self.thread.read(|database| {
            let row = database.audit_head()?;
            match database.log_state.head {
                Some(head) if head != row => Err(database.log_changed(row)),
                _ => Ok(row),
            }
        })
    }

    /// Returns the end of the log. A running process signs the head in its memory, never a row.
    pub fn log_end(&self) -> Result<LogEnd, StoreError> {
        self.thread.read(|database| {
            let row = database.audit_head()?;
            let head = database.log_state.head.unwrap_or(row);
            Ok(LogEnd { head, is_unchanged: head == row })
        })
    }

    /// Returns at most `limit` entries after `number`, in order.
    pub fn log_entries_after(&self, number: u64, limit: u32) -> Result<LogPage, StoreError> {
        // No log has more entries than `i64::MAX`.
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.thread.read(move |database| {
            let newest = match database.log_state.head {
                Some(head) => head,
                None => database.audit_head()?,
            };
            Ok(LogPage { rows: database.log_entries_after(number, limit)?, newest })
        })
    }

    /// Seals those of the next `limit` entries after `sealed` that have no MAC, as older versions
    /// wrote them. Returns the last entry reached: `sealed` itself at the end of the log.
    ///
    /// # Errors
    /// [`StoreError::LogChanged`] if the entries differ from those that this process has walked:
    /// entries inserted meanwhile are not sealed.
    pub fn seal_older_entries(&self, sealed: AuditHead, limit: u32) -> Result<AuditHead, StoreError> {
        self.thread.transaction(move |database| {
            let rows = database.log_entries_after(sealed.number.cast_signed(), limit)?;
            let mut head = sealed;
            for row in &rows {
                head = row.follows(head).ok_or_else(|| database.log_changed(head))?;
                if row.mac.is_some() {
                    continue;
                }
                let mac = database.seal(row)?;
                database.execute_one(
                    sqlx::query("UPDATE audit SET mac = $2 WHERE number = $1 AND mac IS NULL")
                        .bind(row.number.cast_signed())
                        .bind(mac.to_vec()),
                    "seal an older entry of the log",
                )?;
            }
            let newest = database.log_state.head.unwrap_or(AuditHead::EMPTY);
            if head.number > newest.number || (rows.is_empty() && head != newest) {
                return Err(database.log_changed(head));
            }
            Ok(head)
        })
    }

    /// Whether the log contains exactly this entry, and a valid chain from it to the entry that
    /// this process wrote last. Walks only the entries after `known`, page by page. Every log
    /// continues an empty one.
    pub fn log_contains(&self, known: AuditHead) -> Result<bool, StoreError> {
        // `None` until the known entry is found.
        let mut head = (known == AuditHead::EMPTY).then_some(known);
        let mut after = known.number.saturating_sub(1);
        loop {
            let LogPage { rows, newest } = self.log_entries_after(after, PAGE)?;
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
    /// Reads any column values: an invalid value fails the check of the chain or the MAC.
    #[allow(clippy::unnecessary_wraps)] // the signature of a row reader
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
    /// Returns number and hash of the newest row.
    pub(super) fn audit_head(&mut self) -> Result<AuditHead, StoreError> {
        let newest = self.query_one(sqlx::query("SELECT * FROM audit ORDER BY number DESC LIMIT 1"), AuditRow::read)?;
        Ok(newest.map_or(AuditHead::EMPTY, |row| AuditHead { number: row.number, hash: row.hash }))
    }

    fn log_entries_after(&mut self, number: i64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let query = sqlx::query("SELECT * FROM audit WHERE number > $1 ORDER BY number LIMIT $2");
        self.query_all(query.bind(number).bind(limit), AuditRow::read)
    }

    fn log_changed(&self, newest: AuditHead) -> StoreError {
        StoreError::LogChanged { path: self.path().to_path_buf(), number: newest.number }
    }

    /// Appends an entry to the log, within the open transaction.
    pub(super) fn log(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let head = self.audit_head()?;
        let last = self.log_state.appended.last().map(|row| AuditHead { number: row.number, hash: row.hash });
        if last.or(self.log_state.head).is_some_and(|last| last != head) {
            return Err(self.log_changed(head));
        }
        // Whole seconds, as in the column: the row is sealed as it will be read.
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
        // A trigger that somebody added may suppress the insertion.
        self.execute_one(
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
        self.log_state.appended.push(row);
        Ok(())
    }

    fn seal(&self, row: &AuditRow) -> Result<[u8; 32], StoreError> {
        let sealer = self.log_state.sealer.as_ref();
        let sealer = sealer.ok_or_else(|| StoreError::Seal("the log has no sealer yet".into()))?;
        sealer.seal(&AuditRow { mac: None, ..row.clone() }).map_err(|error| StoreError::Seal(error.to_string()))
    }
}
