//! Rows as the log has them: each row that something is decided by is read here, and says no more than the log does.
//!
//! A row that claims what the log says has ended was changed by somebody who can write to the database. It is not believed,
//! and what the authority's own log says of it is the only alarm: a stranger who asks learns nothing new.

use super::ended::LetterStatus;
use super::{Authority, AuthorityError};
use crate::pki::Certificate;
use crate::store::{
    CertificateKind, CertificateRecord, CertificateState, GrantRecord, Role, TemporaryKeyRecord, TemporaryKeyState,
    UserRecord,
};

impl Authority {
    /// The certificate with this serial number.
    pub(super) fn certificate(&self, serial: &str) -> Result<Option<CertificateRecord>, AuthorityError> {
        Ok(self.store.certificate(serial)?.map(|record| self.certificate_as_logged(record)))
    }

    /// A user's certificates of all states, the oldest first.
    pub(super) fn certificates_of(&self, user_id: &str) -> Result<Vec<CertificateRecord>, AuthorityError> {
        let records = self.store.certificates_of_user(user_id)?;
        Ok(records.into_iter().map(|record| self.certificate_as_logged(record)).collect())
    }

    /// The same, for those who only look: a row that cannot be read hides no other.
    pub(super) fn readable_certificates_of(&self, user_id: &str) -> Result<Vec<CertificateRecord>, AuthorityError> {
        let records = self.store.readable_certificates_of_user(user_id)?;
        Ok(records.into_iter().map(|record| self.certificate_as_logged(record)).collect())
    }

    /// What a transaction has made so far and not given up.
    pub(super) fn certificates_being_made(&self, transaction: &[u8]) -> Result<Vec<CertificateRecord>, AuthorityError> {
        let mut records = self.store.certificates_of_transaction(transaction)?;
        records.retain(|record| {
            let is_being_made = self.ended.is_being_made(&record.intent.serial);
            if !is_being_made {
                tracing::error!(serial = record.intent.serial, "a certificate was put back in the database");
            }
            is_being_made
        });
        Ok(records)
    }

    /// The record, in the state that the log says.
    pub(super) fn certificate_as_logged(&self, mut record: CertificateRecord) -> CertificateRecord {
        let serial = &record.intent.serial;
        let holds = match (record.state, &record.intent.user_id) {
            (CertificateState::Current, Some(user)) => self.ended.is_current_of(user, record.intent.kind, serial),
            (CertificateState::Intended | CertificateState::Issued, Some(_)) => self.ended.is_being_made(serial),
            _ => true,
        };
        if self.ended.is_revoked(serial) {
            record.state = CertificateState::Revoked;
        } else if !holds {
            tracing::error!(serial, state = %record.state, "a certificate was put back in the database");
            record.state = CertificateState::Superseded;
        }
        record
    }

    /// The letter's record: its seal checked, and in the state that the log says.
    pub(super) fn letter_as_logged(&self, record: TemporaryKeyRecord) -> Result<TemporaryKeyRecord, AuthorityError> {
        let mut record = self.sealer.check_temporary_key(record)?;
        let status = self.ended.letter_status(&record.reference, &record.user_id);
        let row = record.state;
        let state = match (status, row) {
            (LetterStatus::Ended, TemporaryKeyState::Unused | TemporaryKeyState::Claimed) => TemporaryKeyState::Used,
            (LetterStatus::Claimed, TemporaryKeyState::Unused) => TemporaryKeyState::Claimed,
            _ => return Ok(record),
        };
        tracing::error!(reference = record.reference, %row, log = %state, "a letter was put back in the database");
        record.state = state;
        Ok(record)
    }

    /// The user's role, its seal checked; `None` if the user has none, or has it no more.
    pub(super) fn role_of(&self, user: &UserRecord, role: Role) -> Result<Option<GrantRecord>, AuthorityError> {
        let Some(grant) = self.store.grant(&user.id, role)? else { return Ok(None) };
        if !self.ended.has_role(&user.id, role) {
            tracing::error!(user = user.email, %role, "a role was put back in the database");
            return Ok(None);
        }
        self.sealer.check_grant(grant, user).map(Some)
    }

    /// The record's certificate, if the CA signed it, for this very user and purpose.
    pub(super) fn genuine(&self, record: &CertificateRecord, user: &UserRecord) -> Option<Certificate> {
        let certificate = Certificate::from_der(record.certificate.as_deref()?).ok()?;
        let is_theirs = certificate.emails().iter().any(|email| super::administer::comparable(email) == user.email_key);
        let fits_row = certificate.serial().to_string() == record.intent.serial
            && match record.intent.kind {
                CertificateKind::Encryption => certificate.can_encrypt(),
                CertificateKind::Signing => certificate.can_sign(),
                CertificateKind::Ca | CertificateKind::Response | CertificateKind::Tls => false,
            };
        (is_theirs && fits_row && certificate.verify_signature(&self.ca).is_ok()).then_some(certificate)
    }
}
