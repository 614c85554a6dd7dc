//! The client's side: builds the messages that the client sends.

use std::error::Error;

use der::Decode;
use der::asn1::{BitString, ObjectIdentifier};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use super::delivery::TransportPublicKey;
use super::general::InfoTypeAndValue;
use super::header::subject_common_name;
use super::status::PkiStatusInfo;
use super::{
    AttributeTypeAndValue, CertReqMsg, CertRequest, CertStatus, CertTemplate, CmpError, Draft, PkiBody, PkiHeader,
    PkiMessage, PopoSigningKey, ProofOfPossession, Utf8Pairs, WithDer,
};

/// A genm that requests these types of information. It has no side effect.
pub fn general_request(header: PkiHeader, kinds: &[ObjectIdentifier]) -> Draft {
    Draft::new(header, PkiBody::Genm(kinds.iter().copied().map(InfoTypeAndValue::ask).collect()))
}

/// The ir or krr of tokenkeep's client: request 0 for the signing key and, with
/// [`EnrollmentRequestBuilder::encryption_key`], request 1 for an encryption key that the authority
/// generates (ir) or has archived (krr).
#[derive(Debug)]
pub struct EnrollmentRequestBuilder {
    header: PkiHeader,
    subject: x509_cert::name::Name,
    reg_info: Vec<AttributeTypeAndValue>,
    requests: Vec<CertReqMsg>,
}

impl EnrollmentRequestBuilder {
    /// The certReqId of the signing key's request.
    pub const SIGNING: i64 = 0;
    /// The certReqId of the encryption key's request.
    pub const ENCRYPTION: i64 = 1;

    /// Begins a request. The regInfo of each part carries `pairs` (keyset name, level). The
    /// template's subject is CN=`reference`; the authority takes the subject from its own record.
    pub fn new(header: PkiHeader, reference: &str, pairs: &Utf8Pairs) -> Result<Self, CmpError> {
        Ok(Self {
            header,
            subject: subject_common_name(reference)?,
            reg_info: vec![AttributeTypeAndValue::utf8_pairs(pairs)?],
            requests: Vec::new(),
        })
    }

    /// Requests implicit confirmation, which saves a round trip, e.g. for files and mail.
    #[must_use]
    pub fn implicit_confirm(mut self) -> Self {
        self.header.general_info.get_or_insert_default().push(InfoTypeAndValue::implicit_confirm());
        self
    }

    /// Adds the signing key: its public key (`SubjectPublicKeyInfo`, DER) and its signature
    /// algorithm. `sign` signs the given bytes and returns the signature as in X.509 (PKCS #1 bytes
    /// or a DER Ecdsa-Sig-Value).
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
        let cert_req = WithDer::new(request).map_err(CmpError::from)?;
        let signature = sign(cert_req.der()).map_err(EnrollmentError::Signing)?;
        let signature = BitString::from_bytes(&signature).map_err(CmpError::from)?;
        let popo = ProofOfPossession::Signature(PopoSigningKey { poposk_input: None, algorithm, signature });
        self.requests.push(CertReqMsg { cert_req, popo: Some(popo), reg_info: Some(self.reg_info.clone()) });
        Ok(self)
    }

    /// Adds the encryption key, to be delivered to the transport key that the token generated for
    /// this enrollment. There is no proof of possession, because the requester does not have the
    /// key yet.
    pub fn encryption_key(mut self, transport: &TransportPublicKey) -> Result<Self, CmpError> {
        let cert_template = CertTemplate { subject: Some(self.subject.clone()), ..CertTemplate::default() };
        let control = AttributeTypeAndValue::protocol_encr_key(&transport.to_spki()?)?;
        let request = CertRequest { cert_req_id: Self::ENCRYPTION, cert_template, controls: Some(vec![control]) };
        let cert_req = WithDer::new(request)?;
        self.requests.push(CertReqMsg { cert_req, popo: None, reg_info: Some(self.reg_info.clone()) });
        Ok(self)
    }

    /// Completes an initialization request.
    pub fn ir(self) -> Draft {
        Draft::new(self.header, PkiBody::Ir(self.requests))
    }

    /// Completes a key recovery request.
    pub fn krr(self) -> Draft {
        Draft::new(self.header, PkiBody::Krr(self.requests))
    }
}

/// An error in making an enrollment request.
#[derive(Debug, thiserror::Error)]
pub enum EnrollmentError<E: Error> {
    /// The message cannot be made.
    #[error(transparent)]
    Message(#[from] CmpError),
    /// The key failed to sign; the error is the key's own.
    #[error("cannot sign the proof of possession: {0}")]
    Signing(E),
}

/// A certConf that accepts or refuses the certificates of `reply`, the authority's reply to
/// `request`.
pub fn confirm(
    request: &PkiMessage,
    reply: &PkiMessage,
    statuses: Vec<CertStatus>,
    now: jiff::Timestamp,
) -> Result<Draft, CmpError> {
    Ok(Draft::new(PkiHeader::following(request.header(), reply.header(), now)?, PkiBody::CertConf(statuses)))
}

/// An `error` in the transaction of `request`: the client could not use the reply and gives the
/// letter back. If the reply could not be parsed or authenticated, `reply` is `None` and recipNonce
/// is omitted.
pub fn reject(
    request: &PkiMessage,
    reply: Option<&PkiMessage>,
    why: PkiStatusInfo,
    now: jiff::Timestamp,
) -> Result<Draft, CmpError> {
    let mut header = PkiHeader::following(request.header(), reply.unwrap_or(request).header(), now)?;
    if reply.is_none() {
        header.recipient = request.header().recipient.clone();
        header.recip_nonce = None;
    }
    Ok(Draft::new(header, PkiBody::Error(why.into())))
}
