//! Step 6, reply: builds the reply's body from the issued certificates and the keys read from the
//! archive.

use super::AuthorityError;
use super::archive::WrappedForToken;
use super::certify::IssuedCertificate;
use crate::cmp::{
    CertRepMessage, CertResponse, CertificateDer, CertifiedKeyPair, CmpError, Draft, EncryptedKey, EncryptedValue,
    ErrorMsgContent, KeyRecRepContent, PkiBody, PkiHeader, PkiMessage, Pvno, draft_reply,
};
use crate::pki::Certificate;
use der::asn1::OctetString;
use jiff::Timestamp;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use super::rejection::Rejection;

/// The body of a reply. Its private keys were read back from the archive.
#[derive(Debug)]
pub struct EnrollmentReply {
    body: PkiBody,
}

impl EnrollmentReply {
    /// Builds the reply to an `ir`: the signing certificate and, if requested, the encryption
    /// certificate with its key.
    pub fn ip(
        signing: (i64, &IssuedCertificate),
        encryption: Option<(i64, WrappedForToken)>,
        ca: &Certificate,
    ) -> Result<Self, AuthorityError> {
        let (id, issued) = signing;
        let pair = CertifiedKeyPair::certificate(der_of(issued.certificate())?);
        let mut responses = vec![CertResponse::granted(id, pair)];
        if let Some((id, key)) = encryption {
            responses.push(CertResponse::granted(id, key_pair(&key)?));
        }
        Ok(Self { body: PkiBody::Ip(CertRepMessage::new(vec![der_of(ca)?], responses)) })
    }

    /// Builds the reply to a `krr`: the new signing certificate and the history, oldest key first.
    pub fn krp(
        signing: &IssuedCertificate,
        history: &[WrappedForToken],
        ca: &Certificate,
    ) -> Result<Self, AuthorityError> {
        let history = history.iter().map(key_pair).collect::<Result<Vec<_>, _>>()?;
        let content = KeyRecRepContent::granted(der_of(signing.certificate())?, vec![der_of(ca)?], history);
        Ok(Self { body: PkiBody::Krp(content) })
    }

    pub(super) fn into_body(self) -> PkiBody {
        self.body
    }
}

/// Builds a refusal without protection, for a sender who is not authenticated.
pub(super) fn unprotected(
    message: Option<&PkiMessage>,
    sender: &Name,
    rejection: &Rejection,
    now: Timestamp,
) -> Result<Vec<u8>, AuthorityError> {
    let body = PkiBody::Error(ErrorMsgContent::from(rejection.to_status()));
    let draft = match message {
        Some(message) => draft_reply(message, sender, body, now)?,
        None => Draft::new(header_without_recipient(sender)?, body),
    };
    Ok(draft.unprotected()?)
}

pub(super) fn der_of(certificate: &Certificate) -> Result<CertificateDer, AuthorityError> {
    Ok(CertificateDer::new(certificate.as_der()).map_err(CmpError::from)?)
}

fn key_pair(key: &WrappedForToken) -> Result<CertifiedKeyPair, AuthorityError> {
    let certificate = key.certificate();
    let intended = certificate.public_key_algorithm()?;
    let value = EncryptedValue::from_delivery(key.delivery(), intended)?;
    Ok(CertifiedKeyPair::with_private_key(der_of(certificate)?, EncryptedKey::EncryptedValue(value)))
}

/// The header of a reply to an unreadable message.
fn header_without_recipient(sender: &Name) -> Result<PkiHeader, AuthorityError> {
    let mut nonce = vec![0; 16];
    getrandom::fill(&mut nonce).map_err(|error| AuthorityError::Random(error.to_string()))?;
    Ok(PkiHeader {
        pvno: Pvno::CMP2000,
        sender: GeneralName::DirectoryName(sender.clone()),
        recipient: GeneralName::DirectoryName(Name::default()),
        message_time: None,
        protection_alg: None,
        sender_kid: None,
        recip_kid: None,
        transaction_id: None,
        sender_nonce: Some(OctetString::new(nonce).map_err(CmpError::from)?),
        recip_nonce: None,
        free_text: None,
        general_info: None,
    })
}
