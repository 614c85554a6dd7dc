//! Step 4, certification: turns a permit into a certificate, in two steps with the store between
//! them. The content is stored before it is signed, so that a crash leaves either nothing, or a
//! record from which the very same content is signed. The permit decides what is signed, never the
//! row: a row that differs from its permit is detected.

use jiff::Timestamp;

use super::AuthorityError;
use super::decide::IssuancePermit;
use crate::pki::{Certificate, Issuer, NewCertificate, SerialNumber, sign_tbs};
use crate::store::{self, CertificateRecord};
use crate::token::AuthorityKey;

/// A signed and recorded certificate.
#[derive(Debug)]
pub struct IssuedCertificate {
    certificate: Certificate,
}

/// Turns a permit into the content to be signed; the caller stores it before anything else.
#[allow(clippy::needless_pass_by_value)] // consumes the permit, which is good once
pub fn certificate_intent(
    permit: IssuancePermit,
    ca: &Certificate,
    now: Timestamp,
) -> Result<store::CertificateIntent, AuthorityError> {
    content(&permit, ca, &SerialNumber::random()?, now)
}

/// Builds the content for this permit with the serial number and time that an interrupted run
/// stored. A stored content that differs is not the authority's ([`AuthorityError::Tampered`]).
#[allow(clippy::needless_pass_by_value)] // consumes the permit, which is good once
pub(super) fn intended_before(
    permit: IssuancePermit,
    stored: &store::CertificateIntent,
    ca: &Certificate,
) -> Result<store::CertificateIntent, AuthorityError> {
    let intent = content(&permit, ca, &SerialNumber::from_hex(&stored.serial)?, stored.intended_at)?;
    if intent.tbs == stored.tbs { Ok(intent) } else { Err(other_content(&stored.serial)) }
}

fn content(
    permit: &IssuancePermit,
    ca: &Certificate,
    serial: &SerialNumber,
    now: Timestamp,
) -> Result<store::CertificateIntent, AuthorityError> {
    let holder = permit.holder();
    let new = NewCertificate {
        profile: permit.profile(),
        issuer: Issuer::Authority(ca),
        subject: &holder.subject,
        email: Some(&holder.email),
        hosts: &[],
        public_key: permit.public_key(),
        serial,
        now,
    };
    let (not_before, not_after) = validity(&new);
    Ok(store::CertificateIntent {
        serial: serial.to_string(),
        kind: permit.kind(),
        user_id: Some(holder.user_id.clone()),
        transaction_id: Some(holder.transaction_id.clone()),
        keyset_name: holder.keyset.as_ref().map(ToString::to_string),
        level: Some(holder.level.to_string()),
        tbs: new.to_tbs_der()?,
        not_before,
        not_after,
        intended_at: now,
    })
}

/// Signs the stored content.
pub(super) fn sign(intent: &store::CertificateIntent, ca: &AuthorityKey) -> Result<Certificate, AuthorityError> {
    Ok(sign_tbs(&intent.tbs, ca)?)
}

impl IssuedCertificate {
    /// Accepts only a record in the state "issued" with a certificate of exactly the intended
    /// content.
    pub(super) fn recorded(
        record: &CertificateRecord,
        intent: &store::CertificateIntent,
    ) -> Result<Self, AuthorityError> {
        let der = record.certificate.as_deref().ok_or_else(|| {
            AuthorityError::Mismatch(format!("the certificate {} is not issued", record.intent.serial))
        })?;
        let certificate = Certificate::from_der(der)?;
        if certificate.tbs_der() != intent.tbs {
            return Err(other_content(&intent.serial));
        }
        Ok(Self { certificate })
    }

    /// The signed certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

fn other_content(serial: &str) -> AuthorityError {
    AuthorityError::Tampered(format!("the certificate {serial}, whose content differs from the decision"))
}

/// Returns the validity (start, end) of this content, for the record's columns.
pub(super) fn validity(new: &NewCertificate<'_>) -> (Timestamp, Timestamp) {
    let not_before = new.now.checked_sub(new.profile.backdate()).unwrap_or(new.now);
    let not_after = new.now.checked_add(new.profile.validity()).unwrap_or(Timestamp::MAX);
    match new.issuer {
        Issuer::Itself => (not_before, not_after),
        Issuer::Authority(issuer) => (not_before.max(issuer.not_before()), not_after.min(issuer.not_after())),
    }
}
