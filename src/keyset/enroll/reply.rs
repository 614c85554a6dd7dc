//! Sends the request and verifies the reply, which is accepted as a whole or not at all.

use crate::cmp::{CertRepMessage, CertificateDer, KeyRecRepContent};
use crate::cmp::{
    CertifiedKeyPair, CheckedReply, EnrollmentRequestBuilder, PkiBody, PkiMessage, PkiStatus, PkiStatusInfo,
    check_reply,
};
use crate::letter::Letter;
use crate::pki::{Certificate, Fingerprint};
use crate::token::Delivery;
use crate::transport::{Transport, TransportError};

use super::super::KeysetError;
use super::{ExchangeError, NotEnrolledReason};

/// A verified reply: authenticated, answering the request, with certificates of this authority for
/// the right keys. Only [`exchange`] creates one.
pub(super) struct VerifiedReply {
    pub message: PkiMessage,
    pub authority: Certificate,
    pub signing: Certificate,
    /// Current key first.
    pub encryption: Vec<Delivered>,
}

/// An encryption key to be installed on the token.
pub(super) struct Delivered {
    pub certificate: Certificate,
    pub delivery: Delivery,
    /// The `certReqId` that it answers; `None` for a key of the history.
    pub answers: Option<i64>,
}

/// Sends these bytes and verifies the reply. `signing_spki` is the public key in the request, as
/// DER of a `SubjectPublicKeyInfo`.
pub(super) fn exchange(
    transport: &dyn Transport,
    letter: &Letter,
    request: &[u8],
    signing_spki: &[u8],
) -> Result<VerifiedReply, ExchangeError> {
    let reply = transport.cmp(request).map_err(reply_lost)?;
    let request = PkiMessage::from_der(request).map_err(|error| fault(&error))?;
    let message = match check_reply(&request, &reply, letter.temporary_key.cmp_secret()) {
        Ok(CheckedReply::Authenticated(message)) => message,
        Ok(CheckedReply::UnauthenticatedError(error)) => {
            return Err(ExchangeError::bad(format!("it is an unauthenticated error ({})", error.status), None));
        }
        Err(refusal) => return Err(ExchangeError::bad(refusal.to_string(), PkiMessage::from_der(&reply).ok())),
    };
    verify_content(message, letter, signing_spki)
}

/// Without a response, the same bytes can be sent again; an invalid response is rejected.
fn reply_lost(error: TransportError) -> ExchangeError {
    match error {
        TransportError::BadResponse { .. } => ExchangeError::bad(error.to_string(), None),
        other => NotEnrolledReason::Interrupted(other.into()).into(),
    }
}

fn verify_content(message: PkiMessage, letter: &Letter, signing_spki: &[u8]) -> Result<VerifiedReply, ExchangeError> {
    let bad = |reason: String| ExchangeError::bad(reason, Some(message.clone()));
    let parts = match message.body() {
        PkiBody::Error(error) => {
            return Err(ExchangeError::Rejected(format!("the authority refused: {}", error.status)));
        }
        PkiBody::Ip(reply) => parts_of_ip(reply)?,
        PkiBody::Krp(reply) => parts_of_krp(reply)?,
        other => return Err(bad(format!("it is an unexpected {}", other.name()))),
    };
    let parts = parts.ok_or_else(|| bad("a required certificate is missing".to_owned()))?;
    let known = Fingerprint::from_bytes(letter.ca_fingerprint);
    let authority = parts.authorities.iter().filter_map(read).find(|certificate| certificate.fingerprint() == known);
    let authority =
        authority.ok_or_else(|| bad("the authority's fingerprint differs from the one in the letter".to_owned()))?;

    let signing = read(&parts.signing).ok_or_else(|| bad("its signing certificate cannot be read".to_owned()))?;
    issued_by(&authority, &signing).map_err(&bad)?;
    if !signing.public_key_der().is_ok_and(|public_key| public_key == signing_spki) || !signing.can_sign() {
        return Err(bad("its signing certificate is not for the requested key".to_owned()));
    }
    let mut encryption: Vec<Delivered> = Vec::new();
    for (key_pair, answers) in parts.encryption {
        let delivered = delivered(&key_pair, answers).map_err(&bad)?;
        issued_by(&authority, &delivered.certificate).map_err(&bad)?;
        if !delivered.certificate.can_encrypt() {
            return Err(bad("one of its encryption certificates does not permit encryption".to_owned()));
        }
        if !encryption.iter().any(|known| known.certificate == delivered.certificate) {
            encryption.push(delivered);
        }
    }
    encryption.sort_by_key(|delivered| std::cmp::Reverse(delivered.certificate.not_before()));
    Ok(VerifiedReply { message, authority, signing, encryption })
}

/// The content common to `ip` and `krp`.
struct Parts {
    authorities: Vec<CertificateDer>,
    signing: CertificateDer,
    encryption: Vec<(CertifiedKeyPair, Option<i64>)>,
}

/// `None` if a required part is missing.
fn parts_of_ip(reply: &CertRepMessage) -> Result<Option<Parts>, ExchangeError> {
    for response in &reply.response {
        granted(&response.status)?;
    }
    let key_pair = |id| reply.response_to(id).and_then(|response| response.certified_key_pair.clone());
    let signing = key_pair(EnrollmentRequestBuilder::SIGNING).and_then(|pair| pair.plain_certificate().cloned());
    let encryption = key_pair(EnrollmentRequestBuilder::ENCRYPTION);
    Ok(signing.zip(encryption).map(|(signing, encryption)| Parts {
        authorities: reply.ca_pubs.clone().unwrap_or_default(),
        signing,
        encryption: vec![(encryption, Some(EnrollmentRequestBuilder::ENCRYPTION))],
    }))
}

fn parts_of_krp(reply: &KeyRecRepContent) -> Result<Option<Parts>, ExchangeError> {
    granted(&reply.status)?;
    let history = reply.key_pair_hist.clone().unwrap_or_default();
    Ok(reply.new_sig_cert.clone().map(|signing| Parts {
        authorities: reply.ca_certs.clone().unwrap_or_default(),
        signing,
        encryption: history.into_iter().map(|key_pair| (key_pair, None)).collect(),
    }))
}

fn granted(status: &PkiStatusInfo) -> Result<(), ExchangeError> {
    match status.status {
        granted if granted.is_granted() => Ok(()),
        PkiStatus::Waiting => {
            Err(ExchangeError::bad("the authority postponed its decision, which is not supported".to_owned(), None))
        }
        _ => Err(ExchangeError::Rejected(format!("the authority refused: {status}"))),
    }
}

fn delivered(key_pair: &CertifiedKeyPair, answers: Option<i64>) -> Result<Delivered, String> {
    let certificate =
        key_pair.plain_certificate().and_then(read).ok_or("one of its encryption certificates cannot be read")?;
    let private_key = key_pair.private_key.as_ref().ok_or("it contains an encryption certificate without its key")?;
    let delivery = private_key.to_delivery().map_err(|error| error.to_string())?;
    Ok(Delivered { certificate, delivery, answers })
}

fn issued_by(authority: &Certificate, certificate: &Certificate) -> Result<(), String> {
    if certificate.issuer() != authority.subject() || certificate.verify_signature(authority).is_err() {
        return Err("one of its certificates is not signed by the authority".to_owned());
    }
    Ok(())
}

fn read(certificate: &CertificateDer) -> Option<Certificate> {
    Certificate::from_der(&certificate.to_vec().ok()?).ok()
}

fn fault(error: &dyn std::fmt::Display) -> KeysetError {
    KeysetError::Message { operation: "send the enrollment request", reason: error.to_string() }
}
