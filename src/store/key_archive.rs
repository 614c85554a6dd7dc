//! The key archive: every encryption key, wrapped by the authority's token before it is delivered.

use jiff::Timestamp;

use super::thread::Row;
use super::{AuditEntry, Store, StoreError};

/// One archived key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveRecord {
    /// SHA-256 of the encryption certificate.
    pub certificate_sha256: [u8; 32],
    /// The user's id.
    pub user_id: String,
    /// The key's algorithm, such as `rsa-3072`.
    pub algorithm: String,
    /// The kind of the AES key wrap.
    pub key_wrap: String,
    /// The wrapped `PrivateKeyInfo`.
    pub wrapped: Vec<u8>,
    /// The time of archival.
    pub archived_at: Timestamp,
    /// HMAC by the token over authority, user, certificate, algorithm, mechanism and wrapped key.
    pub mac: [u8; 32],
}

impl Store {
    /// Archives a key. Its certificate must exist; a second record for it is a conflict.
    pub fn archive(&self, record: ArchiveRecord, entry: AuditEntry) -> Result<(), StoreError> {
        self.thread.transaction(move |database| {
            database.execute_one(
                sqlx::query(
                    "INSERT INTO key_archive (certificate_sha256, user_id, algorithm, mechanism, wrapped,
                       archived_at, mac)
                     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
                )
                .bind(record.certificate_sha256.to_vec())
                .bind(record.user_id.clone())
                .bind(record.algorithm.clone())
                .bind(record.key_wrap.clone())
                .bind(record.wrapped.clone())
                .bind(record.archived_at.as_second())
                .bind(record.mac.to_vec()),
                "archive the key",
            )?;
            database.log(&entry)
        })
    }

    /// Returns the archived key of this certificate.
    pub fn archived_key(&self, certificate_sha256: &[u8; 32]) -> Result<Option<ArchiveRecord>, StoreError> {
        let certificate = certificate_sha256.to_vec();
        self.thread.transaction(move |database| {
            database.query_one(
                sqlx::query("SELECT * FROM key_archive WHERE certificate_sha256 = $1").bind(certificate),
                ArchiveRecord::read,
            )
        })
    }
}

impl ArchiveRecord {
    pub(super) fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            certificate_sha256: row.any_digest("certificate_sha256"),
            user_id: row.get("user_id")?,
            algorithm: row.get("algorithm")?,
            key_wrap: row.get("mechanism")?,
            wrapped: row.get("wrapped")?,
            archived_at: row.time("archived_at")?,
            mac: row.any_digest("mac"),
        })
    }
}
