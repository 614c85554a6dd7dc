//! Reads whole tables page by page, and checks the database file, for `authority check`.
//!
//! Pages follow SQLite's own row numbers, so each row appears once, whatever its columns contain.

use super::migrations::newest_version;
use super::thread::Row;
use super::{
    ArchiveRecord, CertificateRecord, GrantRecord, StatementRecord, Store, StoreError, TemporaryKeyRecord,
    TransactionRecord, UserRecord,
};

/// A row of a table, parsed if possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRow<T> {
    /// SQLite's row number.
    pub row: i64,
    /// The name in the row. It is not verified.
    pub name: String,
    /// The record, or the reason why it cannot be read.
    pub record: Result<T, String>,
}

impl Store {
    /// Returns the number of the newest migration of this database.
    pub fn schema_version(&self) -> Result<i64, StoreError> {
        self.thread.read(super::thread::Database::version)
    }

    /// Returns the number of the newest migration in this program.
    pub fn newest_schema() -> i64 {
        newest_version()
    }

    /// Returns the faults that SQLite finds in the file (`PRAGMA quick_check`); empty if there are
    /// none. Runs on its own read-only connection, so nobody waits for it.
    pub fn quick_check(&self) -> Result<Vec<String>, StoreError> {
        self.on_separate_connection(|database| {
            let mut problems =
                database.query_all(sqlx::query("PRAGMA quick_check"), |row| Ok(row.any_text("quick_check")))?;
            problems.retain(|problem| problem != "ok");
            Ok(problems)
        })
    }

    /// Returns at most `limit` users after the row `row`.
    pub fn users_after(&self, row: i64, limit: u32) -> Result<Vec<ListedRow<UserRecord>>, StoreError> {
        let sql = "SELECT rowid AS row_number, * FROM users WHERE rowid > $1 ORDER BY rowid LIMIT $2";
        self.rows_after(sql, |row| row.any_text("email"), UserRecord::read, row, limit)
    }

    /// Returns at most `limit` roles after the row `row`.
    pub fn grants_after(&self, row: i64, limit: u32) -> Result<Vec<ListedRow<GrantRecord>>, StoreError> {
        // Older versions had no roles with a later start.
        let sql = if self.schema_version()? < 3 {
            "SELECT rowid AS row_number, *, NULL AS counts_from FROM grants WHERE rowid > $1 ORDER BY rowid LIMIT $2"
        } else {
            "SELECT grants.rowid AS row_number, grants.*, grants_to_come.counts_from
             FROM grants LEFT JOIN grants_to_come USING (user_id, role)
             WHERE grants.rowid > $1 ORDER BY grants.rowid LIMIT $2"
        };
        self.rows_after(sql, |row| row.any_text("user_id"), GrantRecord::read, row, limit)
    }

    /// Returns at most `limit` letters in all states after the row `row`.
    pub fn letters_after(&self, row: i64, limit: u32) -> Result<Vec<ListedRow<TemporaryKeyRecord>>, StoreError> {
        let sql = "SELECT rowid AS row_number, * FROM temporary_keys WHERE rowid > $1 ORDER BY rowid LIMIT $2";
        self.rows_after(sql, |row| row.any_text("reference"), TemporaryKeyRecord::read, row, limit)
    }

    /// Returns at most `limit` certificates of all states and kinds after the row `row`.
    pub fn certificates_after(&self, row: i64, limit: u32) -> Result<Vec<ListedRow<CertificateRecord>>, StoreError> {
        let sql = "SELECT rowid AS row_number, * FROM certificates WHERE rowid > $1 ORDER BY rowid LIMIT $2";
        self.rows_after(sql, |row| row.any_text("serial"), CertificateRecord::read, row, limit)
    }

    /// Returns at most `limit` archived keys after the row `row`.
    pub fn archived_keys_after(&self, row: i64, limit: u32) -> Result<Vec<ListedRow<ArchiveRecord>>, StoreError> {
        let sql = "SELECT rowid AS row_number, * FROM key_archive WHERE rowid > $1 ORDER BY rowid LIMIT $2";
        let name = |row: &Row<'_>| hex::encode(row.any_bytes("certificate_sha256").unwrap_or_default());
        self.rows_after(sql, name, ArchiveRecord::read, row, limit)
    }

    /// Returns at most `limit` transactions in all states after the row `row`.
    pub fn transactions_after(&self, row: i64, limit: u32) -> Result<Vec<ListedRow<TransactionRecord>>, StoreError> {
        let sql = "SELECT rowid AS row_number, * FROM transactions WHERE rowid > $1 ORDER BY rowid LIMIT $2";
        let name = |row: &Row<'_>| hex::encode(row.any_bytes("transaction_id").unwrap_or_default());
        self.rows_after(sql, name, TransactionRecord::read, row, limit)
    }

    /// Returns at most `limit` statements after the row `row`.
    pub fn statements_after(&self, row: i64, limit: u32) -> Result<Vec<ListedRow<StatementRecord>>, StoreError> {
        let sql = "SELECT rowid AS row_number, * FROM statements WHERE rowid > $1 ORDER BY rowid LIMIT $2";
        let name = |row: &Row<'_>| hex::encode(row.any_bytes("digest").unwrap_or_default());
        self.rows_after(sql, name, StatementRecord::read, row, limit)
    }

    fn rows_after<T: Send + 'static>(
        &self,
        sql: &'static str,
        name: fn(&Row<'_>) -> String,
        read: fn(&Row<'_>) -> Result<T, StoreError>,
        row: i64,
        limit: u32,
    ) -> Result<Vec<ListedRow<T>>, StoreError> {
        self.thread.read(move |database| {
            database.query_all(sqlx::query(sql).bind(row).bind(limit), |found| {
                let record = read(found).map_err(StoreError::into_reason);
                Ok(ListedRow { row: found.get("row_number")?, name: name(found), record })
            })
        })
    }
}
