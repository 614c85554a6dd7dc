//! Recovery: reads the whole history of a user's encryption keys from the archive.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::administer::normalize_email;
use super::archive::ArchivedKey;
use super::rejection::{RequestError, refuse};
use super::{Authority, AuthorityError};
use crate::cmp::PkiFailureInfo;
use crate::pki::{CertificatePurpose, Fingerprint, path};
use crate::statement::{AdminOperation, SignedStatement, VerifiedStatement};
use crate::store::{CertificateKind, CertificateRecord, CertificateState, Role, TemporaryKeyRecord, UserRecord};

impl Authority {
    /// Verifies the recovery's approval again, from the administrator's own signed statement: it
    /// must order a recovery for exactly this user, and its signer must still be an administrator.
    /// A database column is not enough to deliver a whole history.
    ///
    /// A recovery that was ordered with a key revoked since is refused: the holder of the lost
    /// token may have ordered it.
    pub(super) fn check_approval(&self, letter: &TemporaryKeyRecord, user: &UserRecord) -> Result<(), RequestError> {
        let (statement, administrator) = self.order_of(letter)?;
        match &statement.statement().operation {
            AdminOperation::Recover { email, lost, .. }
                if normalize_email(email) == user.email_key && *lost == letter.lost => {}
            _ => return Err(not_approved(letter, "its statement orders something else").into()),
        }
        let role = self.role_of(&administrator, Role::Administrator)?;
        role.ok_or_else(|| not_approved(letter, "its signer is no longer an administrator"))?;
        Ok(())
    }

    /// Returns the statement that ordered a letter, verified again, and its administrator. The
    /// letter's record must be sealed.
    pub(super) fn order_of(
        &self,
        letter: &TemporaryKeyRecord,
    ) -> Result<(VerifiedStatement, UserRecord), RequestError> {
        let no = |why: &str| not_approved(letter, why);
        let digest = letter.statement.ok_or_else(|| no("it names no statement"))?;
        let record = self.store.statement(&digest)?.ok_or_else(|| no("its statement is missing"))?;
        let signed = SignedStatement::parse(&record.message)?;
        if signed.digest() != digest {
            return Err(no("its statement has a different digest").into());
        }
        let certificate = signed.claimed_certificate().clone();
        let at = record.received_at;
        path::verify(&certificate, &[], std::slice::from_ref(&self.ca), CertificatePurpose::Signing, at)
            .map_err(|problem| no(&problem.to_string()))?;
        let verified = signed.verify_recorded(&certificate, Fingerprint::from_bytes(self.identity.authority), at)?;
        let administrator = self.user_of(&record.administrator)?;
        if !certificate.emails().iter().any(|email| normalize_email(email) == administrator.email_key) {
            return Err(no("its statement was signed by another user").into());
        }
        // Revocation is read from the log, not from the certificate's row.
        if self.audit_state.is_revoked(&certificate.serial().to_string()) {
            return Err(refuse(
                PkiFailureInfo::NOT_AUTHORIZED,
                "the key that ordered this letter was revoked in the meantime; ask your administrator for a new letter",
            ));
        }
        Ok((verified, administrator))
    }

    /// Returns every encryption key of the user's history, oldest first. One invalid record fails
    /// the whole call: a history with gaps is never delivered silently.
    pub(super) fn history(&self, user: &UserRecord) -> Result<Vec<ArchivedKey>, AuthorityError> {
        self.history_certificates(user)?
            .iter()
            .map(|certificate| self.restore_archived_key(certificate, user))
            .collect()
    }

    /// Returns the certificates of the history: exactly those that the user confirmed according to
    /// the log, in its order. Others are left out: nobody encrypted to them, and a key that does
    /// not match its certificate would make every later recovery fail.
    ///
    /// # Errors
    /// [`AuthorityError::History`] if one of them is missing from the database;
    /// [`AuthorityError::Tampered`] if the user's rows contain one that the CA did not issue to
    /// this user.
    pub(super) fn history_certificates(&self, user: &UserRecord) -> Result<Vec<CertificateRecord>, AuthorityError> {
        let mut history = BTreeMap::new();
        for record in self.certificates_of(&user.id)? {
            if record.intent.kind != CertificateKind::Encryption || record.certificate.is_none() {
                continue;
            }
            let serial = &record.intent.serial;
            if self.genuine(&record, user).is_none() {
                return Err(AuthorityError::Tampered(format!(
                    "the certificate {serial}, which was not issued to {}",
                    user.email
                )));
            }
            if let Some(place) = self.audit_state.place_in_history(&user.id, serial) {
                history.insert(place, record);
            }
        }
        let (logged, found) = (self.audit_state.history_length(&user.id), history.len());
        if found == logged {
            return Ok(history.into_values().collect());
        }
        Err(AuthorityError::History { email: user.email.clone(), logged, found })
    }

    /// Whether others can still encrypt to the user; if not, a recovery adds a new encryption key.
    pub(super) fn has_current_encryption(&self, user: &UserRecord, now: Timestamp) -> Result<bool, AuthorityError> {
        let mut certificates = self.history_certificates(user)?;
        certificates.retain(|certificate| certificate.state == CertificateState::Current);
        // The certificate's validity decides, not the columns of its row.
        let mut genuine = certificates.iter().filter_map(|certificate| self.genuine(certificate, user));
        Ok(genuine.any(|certificate| now < certificate.not_after()))
    }
}

fn not_approved(letter: &TemporaryKeyRecord, why: &str) -> AuthorityError {
    AuthorityError::Tampered(format!("the order of the letter {}: {why}", letter.reference))
}
