//! Reads database rows in the state that the audit log gives them. Every row that a decision or a
//! listing uses is read here.
//!
//! A row that differs was altered by somebody with write access to the database. Its state is
//! ignored, and only the program's own log reports it: a client learns nothing from the difference.

use serde_json::Value;

use super::{Authority, AuthorityError};
use crate::pki::Certificate;
use crate::store::{
    CertificateKind, CertificateRecord, CertificateState, GrantRecord, Role, TemporaryKeyRecord, TemporaryKeyState,
    UserRecord,
};
use crate::token::SecurityLevel;

impl Authority {
    /// Returns the certificate with this serial number.
    pub(super) fn certificate(&self, serial: &str) -> Result<Option<CertificateRecord>, AuthorityError> {
        Ok(self.store.certificate(serial)?.map(|record| self.certificate_as_logged(record)))
    }

    /// Returns a user's certificates in all states, oldest first.
    pub(super) fn certificates_of(&self, user_id: &str) -> Result<Vec<CertificateRecord>, AuthorityError> {
        let records = self.store.certificates_of_user(user_id)?;
        Ok(records.into_iter().map(|record| self.certificate_as_logged(record)).collect())
    }

    /// Like `certificates_of`, for listings: an unreadable row does not hide the others.
    pub(super) fn readable_certificates_of(&self, user_id: &str) -> Result<Vec<CertificateRecord>, AuthorityError> {
        let records = self.store.readable_certificates_of_user(user_id)?;
        Ok(records.into_iter().map(|record| self.certificate_as_logged(record)).collect())
    }

    /// Returns the user's record, or `None` if it is missing or altered. For listings and warnings
    /// only.
    pub(super) fn unchanged_user(&self, user_id: &str) -> Result<Option<UserRecord>, AuthorityError> {
        let user = self.store.user(user_id).map_err(AuthorityError::from);
        match user.and_then(|user| user.map(|user| self.sealer.check_user(user)).transpose()) {
            Err(error) if error.is_of_one_record() => Ok(None),
            found => found,
        }
    }

    /// Returns the certificates that an unfinished transaction has made so far.
    pub(super) fn certificates_being_made(&self, transaction: &[u8]) -> Result<Vec<CertificateRecord>, AuthorityError> {
        let mut records = self.store.certificates_of_transaction(transaction)?;
        records.retain(|record| {
            let is_being_made = self.audit_state.is_being_made(&record.intent.serial);
            if !is_being_made {
                tracing::error!(
                    serial = record.intent.serial,
                    "a certificate row contradicts the audit log (restored or forged)"
                );
            }
            is_being_made
        });
        Ok(records)
    }

    /// Returns the record with its state according to the log. A certificate that the log does not
    /// know counts as ended.
    pub(super) fn certificate_as_logged(&self, mut record: CertificateRecord) -> CertificateRecord {
        let Some(user) = &record.intent.user_id else { return record };
        let (serial, row) = (&record.intent.serial, record.state);
        let logged = self.audit_state.certificate_state(user, record.intent.kind, serial, row);
        let state = logged.unwrap_or(CertificateState::Superseded);
        if state != row {
            tracing::error!(serial, %row, log = %state, "a certificate's state was altered in the database");
            record.state = state;
        }
        record
    }

    /// Returns name and level of the certificate's keyset from the log; `None` if the log, like
    /// that of older versions, does not have them. The certificate's row has them too, but no seal
    /// or signature protects them there.
    pub(super) fn keyset_as_logged(
        &self,
        serial: &str,
    ) -> Result<(Option<String>, Option<SecurityLevel>), AuthorityError> {
        let Some(number) = self.audit_state.intended_in(serial) else { return Ok((None, None)) };
        let Some(row) = self.store.log_entry(number)? else {
            tracing::error!(number, "an entry of the audit log was deleted from the database");
            return Ok((None, None));
        };
        if !self.sealer.is_log_entry_sealed(&row)? {
            tracing::error!(number, "an entry of the audit log was altered in the database");
            return Ok((None, None));
        }
        let detail: Value = serde_json::from_str(&row.detail).unwrap_or(Value::Null);
        let member = |name: &str| detail.get(name).and_then(Value::as_str);
        if member("serial") != Some(serial) {
            return Ok((None, None));
        }
        Ok((member("keyset").map(str::to_owned), member("level").and_then(|level| level.parse().ok())))
    }

    /// Returns the letter's record, its seal checked, with its state according to the log. A letter
    /// that the log does not know counts as used.
    pub(super) fn letter_as_logged(&self, record: TemporaryKeyRecord) -> Result<TemporaryKeyRecord, AuthorityError> {
        let mut record = self.sealer.check_temporary_key(record)?;
        let row = record.state;
        let logged = self.audit_state.letter_state(&record.reference, &record.user_id);
        record.state = logged.unwrap_or(TemporaryKeyState::Used);
        if record.state != row {
            tracing::error!(
                reference = record.reference,
                %row,
                log = %record.state,
                "a letter's state was altered in the database"
            );
        }
        Ok(record)
    }

    /// Returns the user's role, its seal checked; `None` if the user does not have the role, or no
    /// longer.
    pub(super) fn role_of(&self, user: &UserRecord, role: Role) -> Result<Option<GrantRecord>, AuthorityError> {
        let Some(grant) = self.store.grant(&user.id, role)? else { return Ok(None) };
        if !self.audit_state.has_role(&user.id, role) {
            tracing::error!(user = user.email, %role, "a role row contradicts the audit log (restored or forged)");
            return Ok(None);
        }
        self.sealer.check_grant(grant, user).map(Some)
    }

    /// Returns the record's certificate, if the CA signed it for this user and purpose.
    pub(super) fn genuine(&self, record: &CertificateRecord, user: &UserRecord) -> Option<Certificate> {
        let certificate = Certificate::from_der(record.certificate.as_deref()?).ok()?;
        let is_theirs =
            certificate.emails().iter().any(|email| super::administer::normalize_email(email) == user.email_key);
        let fits_row = certificate.serial().to_string() == record.intent.serial
            && match record.intent.kind {
                CertificateKind::Encryption => certificate.can_encrypt(),
                CertificateKind::Signing => certificate.can_sign(),
                CertificateKind::Ca | CertificateKind::Response | CertificateKind::Tls => false,
            };
        (is_theirs && fits_row && certificate.verify_signature(&self.ca).is_ok()).then_some(certificate)
    }
}
