//! Whole tables, a page at a time, and the database file itself: for those who check all of it.

use super::{ArchiveRecord, CertificateRecord, Store, StoreError, TemporaryKeyRecord};

impl Store {
    /// The number of the newest migration.
    pub fn schema_version(&self) -> Result<i64, StoreError> {
        self.thread.read(|database| {
            let query = sqlx::query("SELECT COALESCE(MAX(version), 0) AS version FROM _sqlx_migrations");
            Ok(database.one(query, |row| row.get("version"))?.unwrap_or_default())
        })
    }

    /// What SQLite finds wrong with the file (`PRAGMA quick_check`): nothing, if it is whole.
    pub fn quick_check(&self) -> Result<Vec<String>, StoreError> {
        self.thread.read(|database| {
            let mut problems: Vec<String> =
                database.all(sqlx::query("PRAGMA quick_check"), |row| row.get("quick_check"))?;
            problems.retain(|problem| problem != "ok");
            Ok(problems)
        })
    }

    /// At most `limit` letters of all states, by reference, from the first one after `after` on.
    pub fn letters_after(&self, after: &str, limit: u32) -> Result<Vec<TemporaryKeyRecord>, StoreError> {
        let after = after.to_owned();
        self.thread.read(move |database| {
            let sql = "SELECT * FROM temporary_keys WHERE reference > $1 ORDER BY reference LIMIT $2";
            database.all(sqlx::query(sql).bind(after).bind(limit), TemporaryKeyRecord::read)
        })
    }

    /// At most `limit` certificates of all states and kinds, by serial number, from the first one after `after` on.
    pub fn certificates_after(&self, after: &str, limit: u32) -> Result<Vec<CertificateRecord>, StoreError> {
        let after = after.to_owned();
        self.thread.read(move |database| {
            let sql = "SELECT * FROM certificates WHERE serial > $1 ORDER BY serial LIMIT $2";
            database.all(sqlx::query(sql).bind(after).bind(limit), CertificateRecord::read)
        })
    }

    /// At most `limit` archived keys, by their certificates' digests, from the first one after `after` on.
    pub fn archived_keys_after(&self, after: &[u8], limit: u32) -> Result<Vec<ArchiveRecord>, StoreError> {
        let after = after.to_vec();
        self.thread.read(move |database| {
            let sql = "SELECT * FROM key_archive WHERE certificate_sha256 > $1 ORDER BY certificate_sha256 LIMIT $2";
            database.all(sqlx::query(sql).bind(after).bind(limit), ArchiveRecord::read)
        })
    }
}
