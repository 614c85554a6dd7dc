//! Stores encryption keys in the archive, and reads them back: one key, or a user's whole history
//! for a recovery.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::archive::{self, ArchivedKey};
use super::certify::IssuedCertificate;
use super::records::VerifiedRecords;
use super::token_keys::TokenKeys;
use super::{AuthorityError, audit};
use crate::crash_point::reached as crash_point;
use crate::store::{CertificateRecord, UserRecord};
use crate::token::DeliverableKey;

/// The wrapped encryption keys in the database, which only the authority's token can unwrap.
#[derive(Debug)]
pub(super) struct KeyArchive {
    records: Arc<VerifiedRecords>,
    keys: TokenKeys,
}

impl KeyArchive {
    pub(super) fn new(records: &Arc<VerifiedRecords>, keys: &TokenKeys) -> Self {
        Self { records: Arc::clone(records), keys: keys.clone() }
    }

    /// Archives a key. Returns it as read back from the archive, because only a key that can be
    /// read back is delivered.
    pub(super) fn put(
        &self,
        user: &UserRecord,
        issued: &IssuedCertificate,
        key: DeliverableKey,
        now: Timestamp,
    ) -> Result<ArchivedKey, AuthorityError> {
        let record = archive::new_archive_record(&self.keys, &self.records.sealer, &user.id, issued, &key, now)?;
        crash_point("authority.enroll.before_archive");
        let serial = issued.certificate().serial().to_string();
        let detail = json!({ "serial": serial, "user": user.id });
        self.records.store.archive(record, audit::entry(now, "key.archived", &detail))?;
        crash_point("authority.enroll.after_archive");
        drop(key);
        self.restore(&self.records.stored_certificate(&serial)?, user)
    }

    /// Whether the archive has the key of this certificate.
    pub(super) fn has(&self, certificate: &CertificateRecord) -> Result<bool, AuthorityError> {
        let Some(sha256) = &certificate.sha256 else { return Ok(false) };
        Ok(self.records.store.archived_key(sha256)?.is_some())
    }

    /// Takes the key of a certificate out of the archive.
    pub(super) fn restore(
        &self,
        certificate: &CertificateRecord,
        user: &UserRecord,
    ) -> Result<ArchivedKey, AuthorityError> {
        let missing =
            || AuthorityError::Tampered(format!("the archived key of certificate {}", certificate.intent.serial));
        let sha256 = certificate.sha256.as_ref().ok_or_else(missing)?;
        let record = self.records.store.archived_key(sha256)?.ok_or_else(missing)?;
        archive::unwrap_archived_key(&self.keys, &self.records.sealer, &user.id, certificate, record)
    }

    /// Returns every encryption key of the user's history, oldest first. One invalid record fails
    /// the whole call: a history with gaps is never delivered silently.
    pub(super) fn history(&self, user: &UserRecord) -> Result<Vec<ArchivedKey>, AuthorityError> {
        let certificates = self.records.history_certificates(user)?;
        certificates.iter().map(|certificate| self.restore(certificate, user)).collect()
    }
}
