//! Reads users, roles, letters and certificates in the state that the audit log gives them. A
//! decision or a listing uses such a row only after it was verified here.
//!
//! A row that differs was altered by somebody with write access to the database. Its state is
//! ignored, and only the program's own log reports it: a client learns nothing from the difference.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use x509_cert::name::Name;

use super::AuthorityError;
use super::audit_state::AuditState;
use super::seal::Sealer;
use crate::pki::{Certificate, CertificatePurpose, Fingerprint, PathProblem, path};
use crate::store::{
    CertificateKind, CertificateRecord, CertificateState, GrantRecord, Role, Store, TemporaryKeyRecord,
    TemporaryKeyState, UserRecord,
};
use crate::token::SecurityLevel;

/// Reads users, roles, letters and certificates: a seal or the CA's signature proves a row's
/// content, and the audit log its state. All other rows, and all writes, go to the `store` itself.
#[derive(Debug)]
pub(super) struct VerifiedRecords {
    pub(super) store: Store,
    pub(super) sealer: Sealer,
    pub(super) audit_state: Arc<AuditState>,
    pub(super) ca: Certificate,
}

impl VerifiedRecords {
    /// The authority's identity: the fingerprint of the CA certificate.
    pub(super) fn authority(&self) -> Fingerprint {
        self.ca.fingerprint()
    }

    /// The authority's name, the sender of its messages.
    pub(super) fn name(&self) -> &Name {
        self.ca.subject_name().as_x509()
    }

    /// Verifies that the CA issued this certificate, for this purpose, and that it is valid at
    /// `at`.
    pub(super) fn verify_path(
        &self,
        certificate: &Certificate,
        purpose: CertificatePurpose<'_>,
        at: Timestamp,
    ) -> Result<(), PathProblem> {
        path::verify(certificate, &[], std::slice::from_ref(&self.ca), purpose, at).map(drop)
    }

    /// Returns the user's record.
    ///
    /// # Errors
    /// [`AuthorityError::Tampered`] if it is missing or its seal is invalid.
    pub(super) fn user(&self, user_id: &str) -> Result<UserRecord, AuthorityError> {
        let user = self.store.user(user_id)?;
        let user = user.ok_or_else(|| AuthorityError::Tampered(format!("the user {user_id}, who is missing")))?;
        self.sealer.check_user(user)
    }

    /// Returns the record of the user with this e-mail address, in any spelling.
    pub(super) fn user_by_email(&self, email: &str) -> Result<Option<UserRecord>, AuthorityError> {
        self.store.user_by_email(&normalize_email(email))?.map(|user| self.sealer.check_user(user)).transpose()
    }

    /// Returns the certificate with this serial number.
    pub(super) fn certificate(&self, serial: &str) -> Result<Option<CertificateRecord>, AuthorityError> {
        Ok(self.store.certificate(serial)?.map(|record| self.certificate_as_logged(record)))
    }

    /// Returns the row of a certificate that the same enrollment has just stored, as it is.
    pub(super) fn stored_certificate(&self, serial: &str) -> Result<CertificateRecord, AuthorityError> {
        let record = self.store.certificate(serial)?;
        record.ok_or_else(|| AuthorityError::Tampered(format!("the certificate {serial}, which is missing")))
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

    /// Returns the serial numbers of the user's current certificates that the confirmation of this
    /// transaction supersedes.
    pub(super) fn superseded_by(&self, transaction: &[u8], user_id: &str) -> Result<Vec<String>, AuthorityError> {
        let made = self.certificates_being_made(transaction)?;
        let mut current = self.certificates_of(user_id)?;
        current.retain(|record| {
            record.state == CertificateState::Current
                && made.iter().any(|new| new.intent.kind == record.intent.kind && new.state == CertificateState::Issued)
        });
        Ok(serials(&current))
    }

    /// Returns the certificates of the user's history: exactly those that the user confirmed
    /// according to the log, in its order. Others are left out: nobody encrypted to them, and a key
    /// that does not match its certificate would make every later recovery fail.
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

    /// Reads the current state of a letter that exists.
    pub(super) fn letter_now(&self, reference: &str) -> Result<TemporaryKeyRecord, AuthorityError> {
        let record = self.store.temporary_key(reference)?;
        let record =
            record.ok_or_else(|| AuthorityError::Tampered(format!("the letter {reference}, which is missing")))?;
        self.letter_as_logged(record)
    }

    /// Whether this transaction, which is open according to its row, has claimed this letter and
    /// has not ended according to the log.
    pub(super) fn is_open_as_logged(&self, reference: &str, transaction: &[u8]) -> bool {
        let is_open = self.audit_state.is_claimed_by(reference, transaction);
        if !is_open {
            tracing::error!(reference, "a transaction row contradicts the audit log (restored or forged)");
        }
        is_open
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
        let fits_row = certificate.serial().to_string() == record.intent.serial
            && match record.intent.kind {
                CertificateKind::Encryption => certificate.can_encrypt(),
                CertificateKind::Signing => certificate.can_sign(),
                CertificateKind::Ca | CertificateKind::Response | CertificateKind::Tls => false,
            };
        (names_user(&certificate, user) && fits_row && certificate.verify_signature(&self.ca).is_ok())
            .then_some(certificate)
    }
}

/// Normalizes an e-mail address (trimmed, ASCII lower case), so that spellings of one address
/// compare equal.
pub(super) fn normalize_email(email: &str) -> String {
    email.trim().to_ascii_lowercase()
}

/// Whether the certificate names the user's e-mail address. A row names the owner of a certificate
/// too, but only the certificate is signed by the CA.
pub(super) fn names_user(certificate: &Certificate, user: &UserRecord) -> bool {
    certificate.emails().iter().any(|email| normalize_email(email) == user.email_key)
}

/// Returns the serial numbers of these certificates.
pub(super) fn serials(records: &[CertificateRecord]) -> Vec<String> {
    records.iter().map(|record| record.intent.serial.clone()).collect()
}
