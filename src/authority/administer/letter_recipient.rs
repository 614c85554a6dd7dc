//! Selects the certificate that a letter is encrypted to: the one that the administrator's
//! statement names.

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{AcceptedStatement, normalize_email, refuse};
use crate::authority::rejection::RequestError;
use crate::authority::{Authority, AuthorityError};
use crate::letter::Letter;
use crate::pki::{Certificate, CertificatePurpose, Fingerprint, path};
use crate::smime::{self, Cipher};
use crate::statement::{Statement, StatementAnswer};
use crate::store::{CertificateKind, CertificateState, UserRecord};

impl Authority {
    /// Returns the certificate that this statement's letter is encrypted to; `None` if the command
    /// returns no letter. Refuses a certificate that is not the signer's own, or not current.
    pub(super) fn letter_recipient(
        &self,
        statement: &Statement,
        administrator: &UserRecord,
        now: Timestamp,
    ) -> Result<Option<Certificate>, RequestError> {
        let Some(named) = statement.encryption_certificate else { return Ok(None) };
        match self.encryption_certificate(named, administrator, now)? {
            Some(certificate) => Ok(Some(certificate)),
            None => Err(refuse(
                "the statement names a certificate for the letter that is not a current encryption certificate of \
                 its administrator; nothing was done; use the keyset that was enrolled last",
            )),
        }
    }

    /// Returns the user's current encryption certificate with this fingerprint. It must be issued
    /// by this CA for this very address, whatever the rows say.
    fn encryption_certificate(
        &self,
        named: Fingerprint,
        user: &UserRecord,
        now: Timestamp,
    ) -> Result<Option<Certificate>, AuthorityError> {
        let anchors = std::slice::from_ref(&self.ca);
        let records = self.certificates_of(&user.id)?;
        let current = records.into_iter().filter(|record| {
            record.intent.kind == CertificateKind::Encryption && record.state == CertificateState::Current
        });
        Ok(current.filter_map(|record| Certificate::from_der(&record.certificate?).ok()).find(|certificate| {
            certificate.fingerprint() == named
                && certificate.emails().iter().any(|email| normalize_email(email) == user.email_key)
                && path::verify(certificate, &[], anchors, CertificatePurpose::Encryption, now).is_ok()
        }))
    }
}

impl AcceptedStatement {
    /// Encrypts the letter to the administrator's certificate. A letter never leaves unencrypted.
    pub(super) fn encrypted(&self, letter: &Letter) -> Result<StatementAnswer, RequestError> {
        let reader = self.letter_recipient.as_ref().ok_or_else(|| refuse("this command returns no letter"))?;
        let text: Zeroizing<Vec<u8>> = Zeroizing::new(letter.to_text().as_bytes().to_vec());
        Ok(StatementAnswer::EncryptedLetter(smime::encrypt(&text, std::slice::from_ref(reader), Cipher::default())?))
    }
}
