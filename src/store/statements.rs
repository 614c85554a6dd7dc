//! Accepted statements, as they were received. A nonce is accepted once.

use jiff::Timestamp;

use super::thread::Row;
use super::{AuditEntry, Store, StoreError};

/// One accepted statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementRecord {
    /// The statement's identity (`SignedStatement::digest`).
    pub digest: [u8; 32],
    /// The statement's nonce.
    pub nonce: Vec<u8>,
    /// The administrator's user id.
    pub administrator: String,
    /// The operation's name.
    pub operation: String,
    /// The time of receipt.
    pub received_at: Timestamp,
    /// The end of the statement's validity.
    pub not_after: Timestamp,
    /// The signed message, which is its own evidence.
    pub message: Vec<u8>,
}

impl Store {
    /// Stores an accepted statement; `false` if its nonce or its digest exists already.
    pub fn record_statement(&self, statement: StatementRecord, entry: AuditEntry) -> Result<bool, StoreError> {
        self.thread.transaction(move |database| {
            let taken = database.run(
                sqlx::query(
                    "INSERT INTO statements (digest, nonce, administrator, operation, received_at, not_after, message)
                     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
                )
                .bind(statement.digest.to_vec())
                .bind(statement.nonce.clone())
                .bind(statement.administrator.clone())
                .bind(statement.operation.clone())
                .bind(statement.received_at.as_second())
                .bind(statement.not_after.as_second())
                .bind(statement.message.clone()),
            )?;
            if taken.rows_affected() != 1 {
                return Ok(false);
            }
            database.log(&entry)?;
            Ok(true)
        })
    }

    /// Returns the statement with this digest.
    pub fn statement(&self, digest: &[u8; 32]) -> Result<Option<StatementRecord>, StoreError> {
        let digest = digest.to_vec();
        self.thread.read(move |database| {
            database.query_one(
                sqlx::query("SELECT * FROM statements WHERE digest = $1").bind(digest),
                StatementRecord::read,
            )
        })
    }
}

impl StatementRecord {
    pub(super) fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            digest: row.any_digest("digest"),
            nonce: row.get("nonce")?,
            administrator: row.get("administrator")?,
            operation: row.get("operation")?,
            received_at: row.time("received_at")?,
            not_after: row.time("not_after")?,
            message: row.get("message")?,
        })
    }
}
