//! Certificates. The intent, the content to be signed, is stored before the signature is made; then
//! the signed certificate is recorded.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::thread::{Database, Row};
use super::{AuditEntry, CertificateKind, CertificateState, Store, StoreError, TransactionRecord, TransactionState};

/// The content of a certificate to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateIntent {
    /// The serial number, lower-case hexadecimal.
    pub serial: String,
    /// The certificate's kind.
    pub kind: CertificateKind,
    /// The user's id; `None` for the authority's own.
    pub user_id: Option<String>,
    /// The enrollment's transactionID.
    pub transaction_id: Option<Vec<u8>>,
    /// The keyset's name, as given by the client.
    pub keyset_name: Option<String>,
    /// The security level that the client requested and the authority granted.
    pub level: Option<String>,
    /// DER of the `TBSCertificate`.
    pub tbs: Vec<u8>,
    /// Start of the validity.
    pub not_before: Timestamp,
    /// End of the validity.
    pub not_after: Timestamp,
    /// The time of the intent.
    pub intended_at: Timestamp,
}

/// A certificate, or the intent to sign one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRecord {
    /// The intended content.
    pub intent: CertificateIntent,
    /// The certificate's state.
    pub state: CertificateState,
    /// DER of the signed certificate.
    pub certificate: Option<Vec<u8>>,
    /// SHA-256 of `certificate`.
    pub sha256: Option<[u8; 32]>,
    /// The time of the user's confirmation.
    pub confirmed_at: Option<Timestamp>,
    /// The time when it was superseded, revoked or abandoned.
    pub ended_at: Option<Timestamp>,
    /// The reason why it ended.
    pub end_reason: Option<String>,
}

impl Store {
    /// Stores the content to be signed.
    pub fn insert_intent(&self, new: CertificateIntent, entry: AuditEntry) -> Result<(), StoreError> {
        self.thread.transaction(move |database| {
            database.insert_intent(&new)?;
            database.log(&entry)
        })
    }

    /// Records the signed certificate of an intent.
    pub fn record_signed_certificate(
        &self,
        serial: &str,
        certificate: Vec<u8>,
        entry: AuditEntry,
    ) -> Result<(), StoreError> {
        let serial = serial.to_owned();
        self.thread.transaction(move |database| {
            database.record_signed_certificate(&serial, &certificate)?;
            database.log(&entry)
        })
    }

    /// Ends a certificate that never left the authority, because its key was lost before it was
    /// archived.
    pub fn abandon(&self, serial: &str, entry: AuditEntry) -> Result<(), StoreError> {
        let serial = serial.to_owned();
        self.thread.transaction(move |database| {
            database.execute_one(
                sqlx::query(
                    "UPDATE certificates SET state = 'abandoned', ended_at = $2,
                       end_reason = 'key lost before it was archived'
                     WHERE serial = $1 AND state IN ('intended', 'issued')",
                )
                .bind(serial)
                .bind(entry.at.as_second()),
                "abandon the certificate",
            )?;
            database.log(&entry)
        })
    }

    /// Revokes all current certificates of a user and returns their number.
    pub fn revoke_current(&self, user_id: &str, reason: &'static str, entry: AuditEntry) -> Result<u64, StoreError> {
        let user_id = user_id.to_owned();
        self.thread.transaction(move |database| {
            let changed = database.run(
                sqlx::query(
                    "UPDATE certificates SET state = 'revoked', ended_at = $2, end_reason = $3
                     WHERE user_id = $1 AND state = 'current'",
                )
                .bind(user_id)
                .bind(entry.at.as_second())
                .bind(reason),
            )?;
            database.log(&entry)?;
            Ok(changed.rows_affected())
        })
    }

    /// Returns the certificate with this serial number.
    pub fn certificate(&self, serial: &str) -> Result<Option<CertificateRecord>, StoreError> {
        let serial = serial.to_owned();
        self.thread.read(move |database| {
            database.query_one(
                sqlx::query("SELECT * FROM certificates WHERE serial = $1").bind(serial),
                CertificateRecord::read,
            )
        })
    }

    /// Returns a transaction's certificates that have not ended, in the order of their intents.
    pub fn certificates_of_transaction(&self, transaction_id: &[u8]) -> Result<Vec<CertificateRecord>, StoreError> {
        let transaction_id = transaction_id.to_vec();
        self.thread.transaction(move |database| {
            database.query_all(
                sqlx::query(
                    "SELECT * FROM certificates WHERE transaction_id = $1 AND state IN ('intended', 'issued')
                     ORDER BY intended_at, serial",
                )
                .bind(transaction_id),
                CertificateRecord::read,
            )
        })
    }

    /// Returns a user's certificates in all states, oldest first.
    pub fn certificates_of_user(&self, user_id: &str) -> Result<Vec<CertificateRecord>, StoreError> {
        let user_id = user_id.to_owned();
        self.thread.transaction(move |database| {
            database.query_all(
                sqlx::query("SELECT * FROM certificates WHERE user_id = $1 ORDER BY intended_at, not_before, serial")
                    .bind(user_id),
                CertificateRecord::read,
            )
        })
    }

    /// Like `certificates_of_user`, without unreadable rows.
    pub fn readable_certificates_of_user(&self, user_id: &str) -> Result<Vec<CertificateRecord>, StoreError> {
        let user_id = user_id.to_owned();
        self.thread.read(move |database| {
            let sql = "SELECT * FROM certificates WHERE user_id = $1 ORDER BY intended_at, not_before, serial";
            database.readable(sqlx::query(sql).bind(user_id), CertificateRecord::read)
        })
    }

    /// Returns the authority's newest current certificate of this kind.
    pub fn authority_certificate(&self, kind: CertificateKind) -> Result<Option<CertificateRecord>, StoreError> {
        self.thread.transaction(move |database| {
            database.query_one(
                sqlx::query(
                    "SELECT * FROM certificates WHERE kind = $1 AND user_id IS NULL AND state = 'current'
                     ORDER BY intended_at DESC LIMIT 1",
                )
                .bind(kind.as_str()),
                CertificateRecord::read,
            )
        })
    }

    /// Makes an issued certificate of the authority the current one of its kind.
    pub fn replace_authority_certificate(&self, serial: &str, entry: AuditEntry) -> Result<(), StoreError> {
        let serial = serial.to_owned();
        self.thread.transaction(move |database| {
            database.run(
                sqlx::query(
                    "UPDATE certificates SET state = 'superseded', ended_at = $2, end_reason = 'superseded'
                     WHERE user_id IS NULL AND state = 'current'
                       AND kind = (SELECT kind FROM certificates WHERE serial = $1)",
                )
                .bind(serial.clone())
                .bind(entry.at.as_second()),
            )?;
            database.make_current(&serial, entry.at)?;
            database.log(&entry)
        })
    }
}

impl CertificateRecord {
    pub(super) fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            intent: CertificateIntent {
                serial: row.get("serial")?,
                kind: row.parsed("kind")?,
                user_id: row.get("user_id")?,
                transaction_id: row.get("transaction_id")?,
                keyset_name: row.get("keyset_name")?,
                level: row.get("level")?,
                tbs: row.get("tbs")?,
                not_before: row.time("not_before")?,
                not_after: row.time("not_after")?,
                intended_at: row.time("intended_at")?,
            },
            state: row.parsed("state")?,
            certificate: row.get("certificate")?,
            sha256: row.optional_digest("sha256"),
            confirmed_at: row.optional_time("confirmed_at")?,
            ended_at: row.optional_time("ended_at")?,
            end_reason: row.get("end_reason")?,
        })
    }
}

impl Database {
    pub(super) fn insert_intent(&mut self, new: &CertificateIntent) -> Result<(), StoreError> {
        self.execute_one(
            sqlx::query(
                "INSERT INTO certificates (serial, kind, user_id, transaction_id, state, keyset_name, level, tbs,
                   not_before, not_after, intended_at)
                 VALUES ($1, $2, $3, $4, 'intended', $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
            )
            .bind(new.serial.clone())
            .bind(new.kind.as_str())
            .bind(new.user_id.clone())
            .bind(new.transaction_id.clone())
            .bind(new.keyset_name.clone())
            .bind(new.level.clone())
            .bind(new.tbs.clone())
            .bind(new.not_before.as_second())
            .bind(new.not_after.as_second())
            .bind(new.intended_at.as_second()),
            "store what is about to be signed",
        )
    }

    pub(super) fn record_signed_certificate(&mut self, serial: &str, certificate: &[u8]) -> Result<(), StoreError> {
        self.execute_one(
            sqlx::query(
                "UPDATE certificates SET state = 'issued', certificate = $2, sha256 = $3
                 WHERE serial = $1 AND state = 'intended'",
            )
            .bind(serial.to_owned())
            .bind(certificate.to_vec())
            .bind(Sha256::digest(certificate).to_vec()),
            "record the certificate",
        )
    }

    pub(super) fn make_current(&mut self, serial: &str, now: Timestamp) -> Result<(), StoreError> {
        self.execute_one(
            sqlx::query(
                "UPDATE certificates SET state = 'current', confirmed_at = $2 WHERE serial = $1 AND state = 'issued'",
            )
            .bind(serial.to_owned())
            .bind(now.as_second()),
            "make the certificate current",
        )
    }

    /// Makes the transaction's certificates of `kind` current, and supersedes the user's other
    /// current ones of that kind. Without any of that kind, nothing changes.
    pub(super) fn confirm_certificates(
        &mut self,
        transaction: &TransactionRecord,
        kind: CertificateKind,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let issued = self.query_all(
            sqlx::query("SELECT serial FROM certificates WHERE transaction_id = $1 AND kind = $2 AND state = 'issued'")
                .bind(transaction.transaction_id.clone())
                .bind(kind.as_str()),
            |row| row.get::<String>("serial"),
        )?;
        if issued.is_empty() {
            return Ok(());
        }
        self.run(
            sqlx::query(
                "UPDATE certificates SET state = 'superseded', ended_at = $3, end_reason = 'superseded'
                 WHERE user_id = $1 AND kind = $2 AND state = 'current'",
            )
            .bind(transaction.user_id.clone())
            .bind(kind.as_str())
            .bind(now.as_second()),
        )?;
        for serial in issued {
            self.make_current(&serial, now)?;
        }
        Ok(())
    }

    /// Ends a transaction's certificates: revokes those that may have left the authority, and
    /// abandons the others. The reason of each is the transaction's outcome.
    pub(super) fn discard_certificates(
        &mut self,
        transaction: &TransactionRecord,
        outcome: TransactionState,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.run(
            sqlx::query(
                "UPDATE certificates SET state = CASE state WHEN 'issued' THEN 'revoked' ELSE 'abandoned' END,
                   ended_at = $2, end_reason = $3 WHERE transaction_id = $1 AND state IN ('intended', 'issued')",
            )
            .bind(transaction.transaction_id.clone())
            .bind(now.as_second())
            .bind(outcome.as_str()),
        )?;
        Ok(())
    }
}
