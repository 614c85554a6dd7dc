//! The client's side: the messages that it sends.

use std::error::Error;

use der::Decode;
use der::asn1::{BitString, ObjectIdentifier};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use super::delivery::TransportKey;
use super::general::InfoTypeAndValue;
use super::header::subject_common_name;
use super::status::PkiStatusInfo;
use super::{
    AttributeTypeAndValue, CertReqMsg, CertRequest, CertStatus, CertTemplate, CmpError, Draft, Kept, PkiBody,
    PkiHeader, PkiMessage, PopoSigningKey, ProofOfPossession, Utf8Pairs,
};

/// genm: asks for these kinds of information and uses nothing up.
pub fn general_request(header: PkiHeader, kinds: &[ObjectIdentifier]) -> Draft {
    Draft::new(header, PkiBody::Genm(kinds.iter().copied().map(InfoTypeAndValue::ask).collect()))
}

/// An ir or krr as tokenkeep's client makes it: request 0 for the signing key, and with [`EnrollmentRequest::encryption_key`]
/// request 1 for an encryption key that the authority makes (ir) or has kept (krr).
#[derive(Debug)]
pub struct EnrollmentRequest {
    header: PkiHeader,
    subject: x509_cert::name::Name,
    reg_info: Vec<AttributeTypeAndValue>,
    requests: Vec<CertReqMsg>,
}

impl EnrollmentRequest {
    /// certReqId of the signing key's request.
    pub const SIGNING: i64 = 0;
    /// certReqId of the encryption key's request.
    pub const ENCRYPTION: i64 = 1;

    /// Begins a request. `pairs` (keyset name, level) go into the regInfo of each request. The template's subject is
    /// CN=`reference`; the authority takes the subject from its own record.
    pub fn new(header: PkiHeader, reference: &str, pairs: &Utf8Pairs) -> Result<Self, CmpError> {
        Ok(Self {
            header,
            subject: subject_common_name(reference)?,
            reg_info: vec![AttributeTypeAndValue::utf8_pairs(pairs)?],
            requests: Vec::new(),
        })
    }

    /// Asks not to have to confirm (one round trip, for files and mail).
    #[must_use]
    pub fn implicit_confirm(mut self) -> Self {
        self.header.general_info.get_or_insert_default().push(InfoTypeAndValue::implicit_confirm());
        self
    }

    /// The signing key: its public key (`SubjectPublicKeyInfo`, DER), the algorithm it signs with, and `sign`, which signs
    /// the given bytes with it and returns the signature as X.509 has it (PKCS#1 bytes or a DER Ecdsa-Sig-Value).
    pub fn signing_key<E: Error>(
        mut self,
        public_key: &[u8],
        algorithm: AlgorithmIdentifierOwned,
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Self, EnrollmentError<E>> {
        let cert_template = CertTemplate {
            subject: Some(self.subject.clone()),
            public_key: Some(SubjectPublicKeyInfoOwned::from_der(public_key).map_err(CmpError::from)?),
            ..CertTemplate::default()
        };
        let request = CertRequest { cert_req_id: Self::SIGNING, cert_template, controls: None };
        let cert_req = Kept::new(request).map_err(CmpError::from)?;
        let signature = sign(cert_req.der()).map_err(EnrollmentError::Signing)?;
        let signature = BitString::from_bytes(&signature).map_err(CmpError::from)?;
        let popo = ProofOfPossession::Signature(PopoSigningKey { poposk_input: None, algorithm, signature });
        self.requests.push(CertReqMsg { cert_req, popo: Some(popo), reg_info: Some(self.reg_info.clone()) });
        Ok(self)
    }

    /// The encryption key, to be delivered to the transport key made on the token for this enrollment. No proof of
    /// possession: the requester does not have the key yet.
    pub fn encryption_key(mut self, transport: &TransportKey) -> Result<Self, CmpError> {
        let cert_template = CertTemplate { subject: Some(self.subject.clone()), ..CertTemplate::default() };
        let control = AttributeTypeAndValue::protocol_encr_key(&transport.to_spki()?)?;
        let request = CertRequest { cert_req_id: Self::ENCRYPTION, cert_template, controls: Some(vec![control]) };
        let cert_req = Kept::new(request)?;
        self.requests.push(CertReqMsg { cert_req, popo: None, reg_info: Some(self.reg_info.clone()) });
        Ok(self)
    }

    /// As an initialization request.
    pub fn ir(self) -> Draft {
        Draft::new(self.header, PkiBody::Ir(self.requests))
    }

    /// As a key recovery request.
    pub fn krr(self) -> Draft {
        Draft::new(self.header, PkiBody::Krr(self.requests))
    }
}

/// Why an enrollment request could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EnrollmentError<E: Error> {
    /// The message.
    #[error(transparent)]
    Message(#[from] CmpError),
    /// The key did not sign; the error is the key's own.
    #[error("cannot sign the proof of possession: {0}")]
    Signing(E),
}

/// certConf: what the client takes and refuses of `reply`, which answered `request`.
pub fn confirm(
    request: &PkiMessage,
    reply: &PkiMessage,
    statuses: Vec<CertStatus>,
    now: jiff::Timestamp,
) -> Result<Draft, CmpError> {
    Ok(Draft::new(PkiHeader::following(request, reply, now)?, PkiBody::CertConf(statuses)))
}

/// An `error` in the transaction of `request`: the client could not use the reply and gives the letter back. Works also
/// where the reply could not be read or believed: then `reply` is none, and recipNonce is left out.
pub fn reject(
    request: &PkiMessage,
    reply: Option<&PkiMessage>,
    why: PkiStatusInfo,
    now: jiff::Timestamp,
) -> Result<Draft, CmpError> {
    let mut header = PkiHeader::following(request, reply.unwrap_or(request), now)?;
    if reply.is_none() {
        header.recipient = request.header().recipient.clone();
        header.recip_nonce = None;
    }
    Ok(Draft::new(header, PkiBody::Error(why.into())))
}
