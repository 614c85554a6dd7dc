//! What travels as a file: a letter in the response is encrypted to the administrator who asked for it.

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{comparable, refuse};
use crate::authority::rejection::Stop;
use crate::authority::{Authority, AuthorityError};
use crate::pki::{Certificate, Purpose, path};
use crate::smime::{self, Cipher};
use crate::statement::{Answer, Operation, Way};
use crate::store::{CertificateKind, CertificateState, UserRecord};

/// How an answer leaves the authority. Made before anything is done for a statement.
pub(super) enum Seal {
    /// As it is: over TLS, or without a secret in it.
    Open,
    /// A letter encrypted to this certificate.
    To(Box<Certificate>),
}

impl Seal {
    /// The answer as it may leave.
    pub(super) fn close(self, answer: Answer) -> Result<Answer, Stop> {
        match (self, answer) {
            (Self::To(reader), Answer::Letter(text)) => {
                let text: Zeroizing<Vec<u8>> = Zeroizing::new(text.as_bytes().to_vec());
                Ok(Answer::EncryptedLetter(smime::encrypt(&text, &[*reader], Cipher::default())?))
            }
            (_, answer) => Ok(answer),
        }
    }
}

impl Authority {
    /// How the answer to this command goes back. Refused: a letter by file for an administrator who could not open it.
    pub(super) fn seal_for(
        &self,
        way: Way,
        operation: &Operation,
        administrator: &UserRecord,
        now: Timestamp,
    ) -> Result<Seal, Stop> {
        match (way, operation) {
            (Way::Online, _) | (Way::File, Operation::List | Operation::Show { .. }) => Ok(Seal::Open),
            (Way::File, Operation::Issue { .. } | Operation::Recover { .. }) => {
                let reader = self.encryption_certificate(administrator, now)?.ok_or_else(|| {
                    refuse(
                        "a letter by file is encrypted to its administrator, who has no current encryption certificate",
                    )
                })?;
                Ok(Seal::To(Box::new(reader)))
            }
        }
    }

    /// The user's current encryption certificate, the newest: the CA's own work for this very address, whatever the rows
    /// say.
    fn encryption_certificate(&self, user: &UserRecord, now: Timestamp) -> Result<Option<Certificate>, AuthorityError> {
        let anchors = std::slice::from_ref(&self.ca);
        let records = self.store.certificates_of_user(&user.id)?;
        let current = records.into_iter().rev().filter(|record| {
            record.intent.kind == CertificateKind::Encryption && record.state == CertificateState::Current
        });
        Ok(current.filter_map(|record| Certificate::from_der(&record.certificate?).ok()).find(|certificate| {
            certificate.emails().iter().any(|email| comparable(email) == user.email_key)
                && path::verify(certificate, &[], anchors, Purpose::Encryption, now).is_ok()
        }))
    }
}
